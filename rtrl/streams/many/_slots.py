"""Which stream has which slot of the batch."""

from collections.abc import Hashable, Sequence

import numpy as np


class Slots:
    """A table of slots; whoever has been silent for longest makes room.

    Args:
        names: of the streams, slot by slot; ``None`` for one that is free.
        used: when every slot was last used, in rounds.
    """

    def __init__(self, names: Sequence[Hashable | None], used: Sequence[int]):
        self.names = list(names)
        self.used = np.array(used, np.int64)
        self.of = {name: slot for slot, name in enumerate(names) if name is not None}
        self.free = [slot for slot in range(len(self.names))[::-1] if names[slot] is None]

    def __len__(self) -> int:
        return len(self.names)

    def make_room(self, count: int, staying: Sequence[int]) -> list[int]:
        """The slots that have to be given up so that ``count`` are free: the longest silent ones.

        Args:
            staying: slots that are needed.
        """
        lacking = count - len(self.free)
        if lacking <= 0:
            return []
        age = self.used.copy()
        age[list(staying)] = np.iinfo(np.int64).max
        age[self.free] = np.iinfo(np.int64).max
        return np.argsort(age, kind="stable")[:lacking].tolist()

    def give(self, name: Hashable) -> int:
        """A free slot."""
        slot = self.free.pop()
        self.names[slot], self.of[name] = name, slot
        return slot

    def take_back(self, name: Hashable) -> int:
        """End a stream's having a slot."""
        slot = self.of.pop(name)
        self.names[slot] = None
        self.free.append(slot)
        return slot
