"""What a forecaster and a classifier have in common: rows in, one by one or in blocks."""

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray, PyTree

from rtrl.learners import Jitted, keep_program, naming_item, uninterrupted, unpack
from rtrl.streams._pair import LARGEST, as_numbers
from rtrl.streams._row_arguments import as_resets, as_weights
from rtrl.streams._rows import (
    BLOCK,
    NUMBERS,
    Begun,
    Given,
    RowState,
    after,
    copied,
    packed,
    require_there,
    run,
)
from rtrl.validate import require

S = TypeVar("S", bound=RowState)
T = TypeVar("T")


class ByRows(eqx.Module, Generic[S, T]):
    """A learner of rows that holds what it told of each until its target comes.

    A class of this kind says what is to be done with one row, and how targets go in and
    what is told comes out; blocks, the state, and all calls are the same.
    """

    in_size: eqx.AbstractVar[int]
    delay: eqx.AbstractVar[int]
    experts: eqx.AbstractVar[tuple[Any, ...]]
    donate: eqx.AbstractVar[bool]

    @property
    def _told(self) -> Any:
        """The shapes of what comes out of a row, as a named tuple."""
        raise NotImplementedError

    def _row(self, inside: Any, row: Given) -> tuple[Any, PyTree]:
        """Take one row; give what is known after it, and what is told."""
        raise NotImplementedError

    def keep_programs(self, about: str, key: PRNGKeyArray) -> None:
        """Find the programs of `init` and of all other calls in files, or leave them there.

        Args:
            about: what this learner was made of: all but sizes that programs depend on.
            key: as of `init`.
        """
        keep_program(self._beginning, about, self, key)
        state = self.init(key=key)
        nothing = np.zeros((1, self.in_size))
        ys, _ = self._targets(None, 1, "ys")
        rows = packed(nothing, ys, np.ones(1), np.zeros(1), self.block)
        keep_program(run, about, self, rows, state.inside)

    @property
    def _beginning(self) -> Jitted:
        """The program that makes the first state."""
        raise NotImplementedError

    def _begin(self, key: PRNGKeyArray) -> S:
        """Give the state before the first row."""
        raise NotImplementedError

    def _one_target(self, y: ArrayLike) -> np.ndarray:
        """The target of a row, as it is one of several."""
        raise NotImplementedError

    def _targets(
        self, ys: ArrayLike | None, rows: int, argument: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Targets as pairs ``(rows, targets, 2)``, and in which rows one is missing."""
        raise NotImplementedError

    def _tell(self, rows: int | slice, told: Any, missing: np.ndarray, held: np.ndarray) -> T:
        """What is told of some rows of a block, for the user."""
        raise NotImplementedError

    @property
    def ahead(self) -> int:
        """Rows that wait for their target: from the last value known to the one that is told."""
        return max(self.delay, 1)

    @property
    def names(self) -> tuple[str, ...]:
        """One for everything that the experts tell."""
        return tuple(name for expert in self.experts for name in expert.names)

    @property
    def block(self) -> int:
        """Rows that go in at once, at most."""
        return max(8, min(BLOCK, NUMBERS // max(1, self.in_size)))

    def init(self, *, key: PRNGKeyArray | None = None) -> S:
        """Give the state before the first row.

        Args:
            key: of what is random in experts; default ``jax.random.key(0)``.
        """
        return self._begin(jax.random.key(0) if key is None else key)

    def step(
        self,
        state: S,
        x: ArrayLike,
        y: ArrayLike | None = None,
        weight: ArrayLike = 1.0,
        reset: ArrayLike = False,
    ) -> tuple[S, T]:
        """Take one row: tell what comes from its input, and learn from its target.

        Args:
            state: from `init` or the last call.
            x: input, ``(in_size,)``.
            y: the target of the input ``delay`` rows before, ``(out_size,)``, or its class, a
                number from 0; ``None`` if there is none. The first ``delay`` are values of the
                targets all the same.
            weight: of that target, from 0.
            reset: whether a new sequence begins with this row: lags and hidden states go.

        Returns the new state, and what is told.

        Raises:
            ValueError: an argument of the wrong shape or kind, named; nothing has changed then.
            KeyboardInterrupt: ``error.state`` is the new state, where there is one.
        """
        mine = type(self)  # a method of an instance takes Equinox longer to find than to run
        x = as_numbers(x, "x", (self.in_size,))[None]
        y = None if y is None else mine._one_target(self, y)[None]
        ys, missing = mine._targets(self, y, 1, "y")
        given = x, ys, missing, as_weights(weight, "weight", 1), as_resets(reset, "reset", 1)
        return uninterrupted(mine._step, self, state, given)

    def scan(
        self,
        state: S,
        xs: ArrayLike,
        ys: ArrayLike | None = None,
        *,
        weights: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[S, T]:
        """Take many rows, one after the other, as single steps would: bit for bit.

        Args:
            state: from `init` or the last call.
            xs: inputs, ``(time, in_size)``.
            ys: ``(time, out_size)``, classes ``(time,)``: ``ys[t]`` comes with ``xs[t]``, ``delay``
                rows after its own.
            weights, resets: ``(time,)``.

        Returns the new state, and what is told, time first.

        Raises:
            ValueError, KeyboardInterrupt: as `step`.
        """
        given = self._given(xs, ys, weights, resets)
        return uninterrupted(type(self)._scan, self, state, given)

    def begin(
        self,
        state: S,
        xs: ArrayLike,
        ys: ArrayLike | None = None,
        *,
        weights: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[S, Begun[T]]:
        """Begin what `scan` does, and don't wait for it: meanwhile the next rows can be read.

        Args:
            state, xs, ys, weights, resets: as for `scan`.

        Returns the new state, which may be used at once, and what gives what is told.

        Raises:
            ValueError, KeyboardInterrupt: as `step`.
        """
        given = self._given(xs, ys, weights, resets)
        return uninterrupted(type(self)._blocks, self, state, given)

    def stream(
        self, state: S, source: Iterable[tuple], chunk: int = 1, delay: int | None = None
    ) -> Iterator[tuple[S, T]]:
        """Tell what comes after every item of a live source at once, and learn from each.

        Args:
            state: from any call; the one yielded last holds all there is.
            source: items as `OnlineLearner.stream` takes them.
            chunk: without effect: learning takes row by row.
            delay: that of the learner, if given.

        Returns an iterator of pairs, as of `step`.

        Raises:
            ValueError: an argument, or an item named by its number.
        """
        expected = f"the {type(self).__name__.lower()}'s {self.delay}"
        require(delay is None or delay == self.delay, "delay", expected, delay)
        return self._stream(state, source)

    def _stream(self, state, source):
        for item in source:
            with naming_item(state.items, state):
                state, out = type(self).step(self, state, *unpack(item))
            yield state, out

    def predict(self, state: S, x: ArrayLike) -> T:
        """Tell what comes after one row without learning; the state is not touched.

        Args:
            state: from any call.
            x: input, ``(in_size,)``.

        Returns what is told.

        Raises:
            ValueError: as `step`.
        """
        require_there(state)
        return self.step(copied(state), x)[1]

    def reset(self, state: S) -> S:
        """Begin a new sequence with the next row: lags and hidden states go, the rest stays.

        Args:
            state: from any call.

        Returns the new state.
        """
        return type(state)(state.inside, state.items, np.bool_(True))

    def _given(self, xs, ys, weights, resets):
        """Rows, checked: inputs, targets, which are missing, weights, resets."""
        xs = as_numbers(xs, "xs", (None, self.in_size))
        return (
            xs, *type(self)._targets(self, ys, len(xs), "ys"),
            as_weights(1.0 if weights is None else weights, "weights", len(xs)),
            as_resets(False if resets is None else resets, "resets", len(xs)),
        )  # fmt: skip

    # What changes a state runs whole, with all that waits for it: `uninterrupted`.

    def _step(self, state, given):
        mine = type(self)
        state, part = mine._take(self, mine._own(self, state), *given)
        return state, mine._tell(self, 0, *part)

    def _scan(self, state, given):
        state, begun = type(self)._blocks(self, state, given)
        return state, begun.forecast()

    def _blocks(self, state, given):
        mine = type(self)
        state = mine._own(self, state)
        rows, size, parts = len(given[0]), self.block, []
        for first in range(0, rows, size):
            state, part = mine._take(self, state, *(a[first : first + size] for a in given))
            parts.append(part)
        if not rows:  # of none nothing is told
            shape = self._told
            told = type(shape)(*(np.zeros((0, *each), np.float32) for each in shape))
            parts.append((told, np.zeros(0, bool), np.zeros(0, int)))
        return state, Begun(parts, lambda *part: mine._tell(self, *part))

    def _own(self, state: S) -> S:
        """A state that may be used up."""
        require_there(state)
        return state if self.donate else copied(state)

    def _take(self, state, xs, ys, missing, weights, resets):
        if state.begins:
            resets = np.array(resets, bool)
            resets[0] = True
        state, told = after(self, state, packed(xs, ys, weights, resets, self.block))
        held = (~(np.abs(xs) <= LARGEST)).sum(1)
        return state, (told, missing, held)
