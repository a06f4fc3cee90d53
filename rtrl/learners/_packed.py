"""A state as few arrays: what a call of a compiled program costs is how many it takes and gives."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtrl.learners._jit import joined, split

#: Arrays of at most so many numbers are put end to end. A larger one is updated where it lies, and
#: to copy it would take longer than to hand it over.
SMALL = 512


class Layout:
    """Where the arrays of a state are when they are packed; hashable, as a part of a program.

    Attributes:
        key: all of the state but its arrays.
        shapes: of all its arrays.
        groups: the places of small arrays that share a dtype, one tuple for each dtype.
    """

    def __init__(self, arrays: list[Any], key: Any):
        self.key = key
        self.shapes = tuple(a.shape for a in arrays)
        by_dtype: dict[Any, list[int]] = {}
        for place, a in enumerate(arrays):
            if a.size <= SMALL and isinstance(a.dtype, np.dtype):  # PRNG keys have a dtype apart
                by_dtype.setdefault(a.dtype, []).append(place)
        self.groups = tuple(tuple(group) for group in by_dtype.values() if len(group) > 1)
        self._grouped = {place for group in self.groups for place in group}
        self._identity = (key, self.shapes, self.groups)

    def __hash__(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self._identity == other._identity

    def pack(self, arrays: list[Any], module: Any = jnp) -> "Packed":
        """Put small arrays end to end, with jax.numpy inside of a program or numpy outside."""
        ends = [module.concatenate([arrays[i].reshape(-1) for i in g]) for g in self.groups]
        return Packed([a for i, a in enumerate(arrays) if i not in self._grouped], ends)

    def unpack(self, packed: "Packed") -> list[Any]:
        """The arrays again; those of numpy where a group is one."""
        arrays: list[Any] = [None] * len(self.shapes)
        for group, flat in zip(self.groups, packed.ends, strict=True):
            first = 0
            for i in group:
                size = int(np.prod(self.shapes[i], dtype=int))
                arrays[i] = flat[first : first + size].reshape(self.shapes[i])
                first += size
        rest = iter(packed.rest)
        return [next(rest) if a is None else a for a in arrays]


class Packed(NamedTuple):
    """The arrays of a state: those as they are, and the small ones end to end."""

    rest: list[Any]
    ends: list[Any]


def packed(state: Any) -> tuple[Layout, Packed]:
    """A state packed, in memory of its own where it is small."""
    arrays, key = split(state)
    layout = Layout(arrays, key)
    small = [np.asarray(a) if i in layout._grouped else a for i, a in enumerate(arrays)]
    rest, ends = layout.pack(small, np)
    like = next(a for i, a in enumerate(arrays) if i in layout._grouped) if ends else None
    return layout, Packed(rest, [jax.device_put(e, like.sharding) for e in ends])  # type: ignore


def unpacked(layout: Layout, packed: Packed) -> Any:
    """The state again."""
    ends = [np.asarray(flat) for flat in packed.ends]
    arrays = layout.unpack(Packed(packed.rest, ends))
    places = [flat.sharding for flat in packed.ends]
    for group, place in zip(layout.groups, places, strict=True):
        for i in group:
            # A copy: what lies in the memory of a packed array goes when that is used up.
            arrays[i] = jax.device_put(arrays[i].copy(), place)
    return joined(arrays, layout.key)
