"""Probabilities of the next class of a stream, never much worse than the simple thing."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from rtrl.learners import naming_item, uninterrupted, unpack
from rtrl.streams import classes as kinds
from rtrl.streams._class_row import ClassRows, run_classes
from rtrl.streams._classifier_state import (
    BegunClasses,
    Classification,
    ClassifierState,
    begin_classes,
    copied,
)
from rtrl.streams._pair import as_numbers, split
from rtrl.streams._rows import BLOCK, NUMBERS, padded
from rtrl.validate import require, require_integer


class Classifier(eqx.Module):
    """Experts, a recurrent network among them, weighed online: probabilities of the next class.

    ::

        mean = sum over experts of w_i p_i,    w_i <- w_i p_i(class), then normalised and shared
        product ~= prod over experts of p_i^a_i,    p = v mean + (1 - v) product

    with the Bayes weights w of experts of which each may be the right one for a while: frequencies,
    Markov chains, logistic regression, and a network under an online rule; with exponents a that
    follow the gradient, and Bayes' weight v. It is used as an `OnlineLearner` is; there is no batch
    axis, and one class is told: for several targets take a classifier each. How rows are cut into
    blocks changes nothing, to the bit. A missing (NaN) input is taken as the last known one; a
    missing class teaches nothing.

    Args:
        in_size: numbers of a row's input.
        classes: how many there are.
        delay: rows between an input and its class.
        own: places in the input that say which class is now: these are left to the classes that
            come as targets.
        experts: what to ask; default: all of ``rtrl.streams.classes``.
        memory: timesteps that running means and units go back.
        donate: as for `OnlineLearner`: whether a call uses up its state.

    Raises:
        ValueError: an argument of the wrong kind or out of range.

    Source: Herbster & Warmuth, "Tracking the best expert" (1998), for the logarithmic loss;
    Mattern, "Mixing strategies in data compression" (2012), for the product.
    """

    in_size: int = eqx.field(static=True)
    classes: int = eqx.field(static=True)
    delay: int = eqx.field(static=True)
    own: tuple[int, ...] = eqx.field(static=True)
    experts: tuple[Any, ...]
    memory: float = eqx.field(static=True)
    donate: bool = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        classes: int,
        *,
        delay: int = 1,
        own: Sequence[int] = (),
        experts: Sequence[Any] | None = None,
        memory: float = 1000.0,
        donate: bool = True,
    ):
        require_integer(in_size, "in_size", 0, "(columns)")
        require_integer(classes, "classes", 2, "(classes)")
        require_integer(delay, "delay", 0, "(rows)")
        good = all(0 <= place < in_size for place in own)
        require(good, "own", f"places in {in_size} inputs", own)
        require(memory >= 2, "memory", "at least 2 (timesteps)", memory)
        self.in_size, self.classes, self.delay = in_size, classes, delay
        self.own = tuple(int(place) for place in own)
        self.memory, self.donate = float(memory), donate
        default = (kinds.Frequencies(), kinds.Chain(), kinds.Logistic(), kinds.ClassNetwork())
        self.experts = default if experts is None else tuple(experts)
        require(len(self.experts) > 0, "experts", "at least one", experts)

    @property
    def ahead(self) -> int:
        """Rows that wait for their class."""
        return max(self.delay, 1)

    @property
    def names(self) -> tuple[str, ...]:
        """One for every member of the experts."""
        return tuple(name for expert in self.experts for name in expert.names)

    @property
    def others(self) -> tuple[int, ...]:
        """The inputs that do not say which class is now."""
        return tuple(i for i in range(self.in_size) if i not in self.own)

    @property
    def block(self) -> int:
        """Rows that go in at once, at most."""
        return max(8, min(BLOCK, NUMBERS // max(1, self.in_size)))

    def init(self, *, key: PRNGKeyArray | None = None) -> ClassifierState:
        """Give the state before the first row.

        Args:
            key: of what is random in experts; default ``jax.random.key(0)``.
        """
        inside = begin_classes(self, jax.random.key(0) if key is None else key)
        return ClassifierState(inside, np.int64(0), np.bool_(False))

    def step(
        self,
        state: ClassifierState,
        x: ArrayLike,
        y: ArrayLike | None = None,
        weight: ArrayLike = 1.0,
        reset: ArrayLike = False,
    ) -> tuple[ClassifierState, Classification]:
        """Take one row: tell probabilities from its input, and learn from its class.

        Args:
            state: from `init` or the last call.
            x: input, ``(in_size,)``.
            y: the class of the input ``delay`` rows before, a number from 0; ``None`` or NaN if
                there is none.
            weight: of that class.
            reset: whether a new sequence begins with this row.

        Returns the new state, and the probabilities.

        Raises:
            ValueError: an argument of the wrong shape or kind, named; nothing has changed then.
        """
        x = as_numbers(x, "x", (self.in_size,))
        ys, weights, resets = (
            np.reshape(np.nan if a is None else a, (1,)) for a in (y, weight, reset)
        )
        state, told = self.begin(state, x[None], ys, weights=weights, resets=resets)
        return state, jax.tree.map(lambda a: a[0], told.forecast())

    def scan(
        self,
        state: ClassifierState,
        xs: ArrayLike,
        ys: ArrayLike | None = None,
        *,
        weights: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[ClassifierState, Classification]:
        """Take many rows, one after the other, as single steps would: bit for bit.

        Args:
            state: from `init` or the last call.
            xs: inputs, ``(time, in_size)``.
            ys: ``(time,)``: ``ys[t]`` comes with ``xs[t]``, ``delay`` rows after its own.
            weights, resets: ``(time,)``.

        Returns the new state, and the probabilities, time first.

        Raises:
            ValueError: as `step`.
        """
        state, told = self.begin(state, xs, ys, weights=weights, resets=resets)
        return state, told.forecast()

    def begin(
        self,
        state: ClassifierState,
        xs: ArrayLike,
        ys: ArrayLike | None = None,
        *,
        weights: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[ClassifierState, BegunClasses]:
        """Begin what `scan` does, and don't wait for it.

        Args:
            state, xs, ys, weights, resets: as for `scan`.

        Returns the new state, which may be used at once, and what gives the probabilities.

        Raises:
            ValueError: as `step`.
        """
        xs = as_numbers(xs, "xs", (None, self.in_size))
        given = np.full(len(xs), np.nan) if ys is None else as_numbers(ys, "ys", (len(xs),))
        known = np.isfinite(given)
        whole = given[known].astype(int)
        right = bool(np.all((whole == given[known]) & (0 <= whole) & (whole < self.classes)))
        require(right, "ys", f"classes from 0 to {self.classes - 1}, NaN where there is none", ys)
        classes = np.where(known, np.nan_to_num(given), -1).astype(np.int32)
        weights = np.broadcast_to(1.0 if weights is None else weights, (len(xs),))
        resets = np.broadcast_to(False if resets is None else resets, (len(xs),))
        parts = []
        for first in range(0, len(xs), self.block):
            now = slice(first, first + self.block)
            state, part = uninterrupted(
                self._take, state, xs[now], classes[now], weights[now], resets[now]
            )
            parts.append(part)
        return state, BegunClasses(parts)

    def stream(
        self,
        state: ClassifierState,
        source: Iterable[tuple],
        chunk: int = 1,
        delay: int | None = None,
    ) -> Iterator[tuple[ClassifierState, Classification]]:
        """Tell every item of a live source at once, and learn from each.

        Args:
            state: from any call; the one yielded last holds all there is.
            source: items as `OnlineLearner.stream` takes them.
            chunk: without effect: learning takes row by row.
            delay: that of the classifier, if given.

        Returns an iterator of pairs, as of `step`.

        Raises:
            ValueError: an argument, or an item named by its number.
        """
        expected = f"the classifier's {self.delay}"
        require(delay is None or delay == self.delay, "delay", expected, delay)
        return self._stream(state, source)

    def _stream(self, state, source):
        for item in source:
            with naming_item(state.items, state):
                state, out = self.step(state, *unpack(item))
            yield state, out

    def predict(self, state: ClassifierState, x: ArrayLike) -> Classification:
        """Tell one row without learning; the state is not touched.

        Args:
            state: from any call.
            x: input, ``(in_size,)``.

        Returns the probabilities.
        """
        return self.step(copied(state), x)[1]

    def reset(self, state: ClassifierState) -> ClassifierState:
        """Begin a new sequence with the next row: what came before goes, the rest stays.

        Args:
            state: from any call.

        Returns the new state.
        """
        return ClassifierState(state.inside, state.items, np.bool_(True))

    def _take(self, state, xs, ys, weights, resets):
        there = not state.inside.slot.is_deleted()
        require(there, "state", "one that is still there (with donate=True a call uses it up)",
                "one that an earlier call has used up")  # fmt: skip
        if not self.donate:
            state = copied(state)
        count, size = len(xs), self.block
        resets = np.array(resets, bool)
        resets[0] |= state.begins
        rows = ClassRows(
            padded(split(xs), size),
            padded(ys, size),
            padded(np.asarray(weights, np.float32), size),
            padded(resets, size),
            np.int32(count),
        )
        inside, outs = run_classes(self, rows, state.inside)
        after = ClassifierState(inside, state.items + count, np.bool_(False))
        return after, (outs, ys < 0)
