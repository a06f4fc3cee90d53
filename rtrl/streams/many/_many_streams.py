"""Many streams, one model."""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Hashable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike, PyTree

from rtrl.learners import (
    LearnerState,
    OnlineLearner,
    batch_size_of,
    load,
    replacing,
    save,
    uninterrupted,
)
from rtrl.streams.many._items import Items, ManyOutput, in_order, items_of, rounds_of
from rtrl.streams.many._parked import Parked
from rtrl.streams.many._round import learn_round, replaced
from rtrl.streams.many._rows import block_size, filled_up, on_device, take_rows
from rtrl.streams.many._slots import Slots
from rtrl.validate import require

_TABLE = "streams.json"


class ManyStreams:
    """Learns one model from thousands of streams that come, fall silent and return at any time.

    ::

        objective of a round = mean over the items of the round of weight * loss(prediction, y)

    A call takes what has arrived, whoever it is from, predicts all of it and learns from it. Every
    stream has its own hidden states and traces, in a slot of the learner's batch; parameters are
    everyone's. A stream without an item stands still, costs nothing, and nobody waits for it. If a
    call holds several items of a stream, the k-th of every stream are taken in round k: who sends
    much delays others by no more than the rounds of a call. Where there are more streams than
    slots, whoever has been silent for longest goes to disk, and comes back bit for bit.

    A round of few items works on their slots alone, in blocks of 16, 32, 64, ... (a program is
    compiled for each size that is met); a round of half the slots or more, or of a state that is
    spread over devices, on all of them.

    Args:
        learner: an `OnlineLearner` without an overlap.
        state: its state; the batch size is the number of slots. Used up under ``donate=True``.
        folder: for memory that has no slot and for `save`; without one there can be no more streams
            than slots. It must hold no `ManyStreams` already (`resume` goes on with one).

    Raises:
        ValueError: an argument of the wrong kind.
    """

    def __init__(
        self,
        learner: OnlineLearner,
        state: LearnerState,
        folder: str | os.PathLike[str] | None = None,
    ):
        ours = isinstance(learner, OnlineLearner)
        require(ours, "learner", "an OnlineLearner", type(learner).__name__)
        require(isinstance(state, LearnerState), "state", "a LearnerState", type(state).__name__)
        slots = batch_size_of(state)
        require(slots is not None, "state", "one with a batch axis, which are the slots", None)
        require(learner.overlap == 0, "learner", "one without an overlap", learner.overlap)
        skips = learner.on_nonfinite == "skip"  # who sends nothing is what is left out
        require(skips, "learner", "one that skips what is not finite", learner.on_nonfinite)
        tokens = getattr(state.model, "in_size", 0) is None
        require(not tokens, "state", "a model of features, not tokens", "in_size None")
        numbers = all(a.dtype.kind in "biufc" for a in jax.tree.leaves(state.carry))
        require(numbers, "learner", "a rule that carries numbers alone", learner.rule)
        self.learner = learner
        self.state = state
        self.folder = None if folder is None else os.fspath(folder)
        self._rounds = 0
        self._saves = 0
        self._slots = Slots([None] * (slots or 0), [0] * (slots or 0))
        self._fresh: set[Hashable] = set()  # who has a slot, in which nothing of theirs is yet
        self._known: set[Any] = set()  # kinds of items that the learner takes
        self._parked = None
        if self.folder is not None:
            os.makedirs(self.folder, exist_ok=True)
            new = not os.path.exists(os.path.join(self.folder, _TABLE))
            require(new, "folder", "one without streams (resume goes on with them)", folder)
            self._parked = self._park({})

    @classmethod
    def resume(
        cls, learner: OnlineLearner, state: LearnerState, folder: str | os.PathLike[str]
    ) -> "ManyStreams":
        """Go on from the last `save` in a folder.

        Args:
            learner: as it was.
            state: one of the same structure, such as a fresh one, on the devices to go on with.
            folder: that of the save.

        Raises:
            FileNotFoundError: there is no save.
            ValueError: the files do not fit the state, or are damaged.
        """
        with open(os.path.join(folder, _TABLE), encoding="utf-8") as file:
            table = json.load(file)
        many = cls(learner, load(os.path.join(folder, table["state"]), state))
        many.folder = os.fspath(folder)
        many._rounds, many._saves = table["rounds"], table["saves"]
        many._slots = Slots(table["slots"], table["used"])
        many._fresh = set(table["fresh"])
        many._parked = many._park({name: record for name, record in table["parked"]})
        return many

    def __len__(self) -> int:
        """Streams that are remembered, in slots and on disk."""
        return len(self._slots.of) + (0 if self._parked is None else len(self._parked.records))

    def __contains__(self, name: Hashable) -> bool:
        return name in self._slots.of or (self._parked is not None and name in self._parked)

    def step(
        self,
        names: Sequence[Hashable] | np.ndarray,
        xs: ArrayLike,
        ys: PyTree[ArrayLike] | None = None,
        weights: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> ManyOutput:
        """Predict and learn from what has arrived.

        Args:
            names: whose every item is, integers or strings; a new name begins a stream. Items of
                one stream come in their order.
            xs: inputs, ``(items, in_size)``.
            ys: targets, a pytree of arrays ``(items, ...)``; NaN where one is missing.
            weights: of the losses, ``(items,)``; default 1.
            resets: true where a new sequence begins, ``(items,)``.

        Raises:
            ValueError: an argument of the wrong shape or kind, or too many streams without a
                folder; nothing has changed then.
        """
        features = getattr(self.state.model, "in_size", None)
        items = items_of(names, xs, ys, weights, resets, features)
        streams = len(set(items.names) | self._slots.of.keys())
        fits = self._parked is not None or streams <= len(self._slots)
        expected = f"no more streams than the {len(self._slots)} slots, or a folder"
        require(fits, "names", expected, streams)
        self._try(items)
        return uninterrupted(self._learn, items)

    def _try(self, items: Items) -> None:
        """Have items of a new kind refused before anybody is moved for them: shapes alone."""
        leaves, structure = jax.tree.flatten((items.xs, items.ys))
        kind = structure, *((a.shape[1:], a.dtype) for a in leaves)
        if kind not in self._known:
            slots = len(self._slots)
            x, y = jax.tree.map(lambda a: np.zeros((slots, *a.shape[1:]), a.dtype), items[1:3])
            data = x, y, np.ones(slots), np.zeros(slots, bool)
            eqx.filter_eval_shape(lambda state: self.learner.step(state, *data)[1], self.state)
            self._known.add(kind)

    def _learn(self, items: Items) -> ManyOutput:
        predictions: list[tuple[np.ndarray, Any]] = []
        losses, counts = [], np.zeros(3, int)
        for places in rounds_of(items.names, self._slots.of, len(self._slots)):
            names = [items.names[i] for i in places]
            slots, moved = self._admit(names, places, items.resets)
            data = jax.tree.map(lambda a, places=places: a[places], items[1:])
            out = self._round(slots, *data)
            self._fresh.difference_update(names)
            predictions.append((places, out.prediction))
            losses.append(out.loss)
            counts += moved
        return ManyOutput(in_order(predictions), np.asarray(losses), *counts.tolist())

    def end(self, names: Sequence[Hashable]) -> None:
        """Forget streams; one that comes again begins anew.

        Raises:
            ValueError: there is no such stream.
        """
        for name in names:
            require(name in self, "names", "streams that there are", name)
        for name in names:
            if name in self._slots.of:
                self._slots.take_back(name)
                self._fresh.discard(name)
            elif self._parked is not None:
                self._parked.drop(name)

    def save(self) -> None:
        """Write everything into the folder, atomically: `resume` finds this save or the one before.

        Raises:
            ValueError: there is no folder.
            OSError: a file cannot be written. The save before is untouched.
        """
        require(self._parked is not None, "folder", "one to save to", None)
        uninterrupted(self._save)

    def _save(self) -> None:
        # Stopped anywhere, by an error or a second Ctrl-C, this leaves both what the table on disk
        # refers to and what the next one does as they are: neither is written over later.
        assert self._parked is not None and self.folder is not None
        self._saves += 1
        name = f"state-{self._saves}"
        save(os.path.join(self.folder, name), self.state)
        self._parked.flush()
        table = {
            "state": name, "rounds": self._rounds, "saves": self._saves,
            "slots": self._slots.names, "used": self._slots.used.tolist(),
            "parked": list(self._parked.records.items()), "fresh": list(self._fresh),
        }  # fmt: skip
        self._parked.saving()
        with replacing(os.path.join(self.folder, _TABLE)) as file:
            file.write(json.dumps(table).encode())
        self._parked.saved()
        with contextlib.suppress(OSError):  # the save is whole, whatever fails here
            for entry in os.listdir(self.folder):
                if re.fullmatch(r"state-\d+", entry) and entry != name:
                    os.unlink(os.path.join(self.folder, entry))

    def _park(self, records: dict[Hashable, int]) -> Parked:
        assert self.folder is not None
        rows = [np.zeros(a.shape[1:], a.dtype) for a in jax.tree.leaves(self.state.carry)]
        return Parked(os.path.join(self.folder, "parked"), rows, records)

    def _admit(self, names: list, items: np.ndarray, resets: np.ndarray):
        """The slots of streams, who get one if they have none; a new one begins with a reset."""
        self._rounds += 1
        of, parked = self._slots.of, self._parked
        staying = [of[name] for name in names if name in of]
        coming = [name for name in names if name not in of]
        leaving = self._slots.make_room(len(coming), staying)
        if leaving:
            assert parked is not None
            gone = [self._slots.names[slot] for slot in leaving]
            # A call that failed may have left some who have a slot but nothing in it.
            kept = [slot for slot in leaving if self._slots.names[slot] not in self._fresh]
            parked.put([self._slots.names[slot] for slot in kept], self._take(kept))
            self._fresh.difference_update(gone)
            for name in gone:
                self._slots.take_back(name)
        back = [name for name in coming if parked is not None and name in parked]
        rows = parked.take(back) if back and parked is not None else []
        for name in coming:
            self._slots.give(name)
        if back:
            self._put([of[name] for name in back], rows)
        new = set(coming).difference(back)
        self._fresh |= new
        if self._fresh:  # a reset begins a sequence, whoever was in the slot before
            resets[items] |= [name in self._fresh for name in names]
        slots = [of[name] for name in names]
        self._slots.used[slots] = self._rounds
        return slots, (len(new), len(back), len(leaving))

    def _round(self, slots: list[int], *data: Any) -> Any:
        self.state, out = learn_round(self.learner, self.state, len(self._slots), slots, *data)
        return out

    def _take(self, slots: list[int]) -> list[np.ndarray]:
        where = filled_up(slots, block_size(len(slots), len(self._slots)), len(self._slots) - 1)
        rows = take_rows(where, self.state.carry)
        return [np.asarray(a)[: len(slots)] for a in jax.tree.leaves(rows)]

    def _put(self, slots: list[int], rows: list[np.ndarray]) -> None:
        size = block_size(len(slots), len(self._slots))
        block = on_device(rows, size, jax.tree.structure(self.state.carry))
        where = filled_up(slots, size, len(self._slots))
        carry = replaced(self.learner, self.state.carry, block, where)
        self.state = dataclasses.replace(self.state, carry=carry)
