"""Forecasts of a stream in its own units, never much worse than the simple thing."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from rtrl.learners import naming_item, uninterrupted, unpack
from rtrl.streams import experts as kinds
from rtrl.streams._begin import begin
from rtrl.streams._block import Rows, run
from rtrl.streams._default_experts import default_experts
from rtrl.streams._forecaster_state import Begun, Forecast, ForecasterState, copied
from rtrl.streams._pair import LARGEST, as_numbers, split
from rtrl.streams._rows import BLOCK, NUMBERS, padded
from rtrl.validate import require, require_integer


class Forecaster(eqx.Module):
    """Experts, a recurrent network among them, weighed online: a stream's forecast in its units.

    ::

        forecast = last value + unit * sum over experts of weight * change

    Every expert forecasts the change of the target until its value comes, ``delay`` rows later, in
    the unit of such changes so far. When it has come, every expert learns from it, and its weight
    follows how well it told. What is hard to learn is left to
    those who have it by construction: the last value, seasons, lags. The network, an
    `OnlineLearner`, is one of the experts.

    All of a row is one compiled program, whose state stays on the device; a block of rows goes
    through its loop. How rows are cut into blocks changes nothing, to the bit. Numbers are taken as
    pairs of float32, so that a small change of a large value is seen.

    It is used as an `OnlineLearner` is; there is no batch axis. A missing (NaN) input is taken as
    the last known one. A target that is missing teaches nothing, and others in its row do.

    Args:
        in_size: numbers of a row's input.
        out_size: targets.
        delay: rows between an input and its target.
        own: for every target the place in the input of its own current value. Without it the
            target that comes with a row is that (none is known yet where ``delay`` is 0).
        experts: what to ask; default: `default_experts`.
        memory: timesteps that running means and units go back.
        season: rows of a season, where it is known; otherwise it is looked for.
        longest: longest season that is looked for.
        donate: as for `OnlineLearner`: whether a call uses up its state.

    Raises:
        ValueError: an argument of the wrong kind or out of range.
    """

    in_size: int = eqx.field(static=True)
    out_size: int = eqx.field(static=True)
    delay: int = eqx.field(static=True)
    own: tuple[int, ...] | None = eqx.field(static=True)
    experts: tuple[Any, ...]
    memory: float = eqx.field(static=True)
    season: int | None = eqx.field(static=True)
    longest: int = eqx.field(static=True)
    donate: bool = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int = 1,
        *,
        delay: int = 1,
        own: Sequence[int] | None = None,
        experts: Sequence[Any] | None = None,
        memory: float = 1000.0,
        season: int | None = None,
        longest: int = 400,
        donate: bool = True,
    ):
        require_integer(in_size, "in_size", 0, "(columns)")
        require_integer(out_size, "out_size", 1, "(targets)")
        require_integer(delay, "delay", 0, "(rows)")
        require_integer(longest, "longest", 2, "(rows)")
        if own is not None:
            require(delay > 0, "own", "None where delay is 0, as no value is known yet", own)
            good = len(own) == out_size and all(0 <= place < in_size for place in own)
            require(good, "own", f"{out_size} places in {in_size} inputs", own)
        if season is not None:
            require_integer(season, "season", 2, "(rows)")
        require(memory >= 2, "memory", "at least 2 (timesteps)", memory)
        self.in_size, self.out_size, self.delay = in_size, out_size, delay
        self.own = None if own is None else tuple(int(place) for place in own)
        self.memory, self.donate = float(memory), donate
        # A season shorter than the forecast is long tells nothing: whole multiples of it do.
        self.season = None if season is None else season * -(-self.ahead // season)
        self.longest = max(longest, 2 * self.ahead, kinds.LAGS, self.season or 0)
        others = in_size if own is None else in_size - 1
        self.experts = tuple(default_experts(others) if experts is None else experts)
        require(len(self.experts) > 0, "experts", "at least one", experts)

    @property
    def ahead(self) -> int:
        """Rows from the last value known to the one that is forecast."""
        return max(self.delay, 1)

    @property
    def names(self) -> tuple[str, ...]:
        """One for every forecast of the experts."""
        return tuple(name for expert in self.experts for name in expert.names)

    @property
    def others(self) -> tuple[tuple[int, ...], ...]:
        """For every target the inputs that are not its own value."""
        own = (None,) * self.out_size if self.own is None else self.own
        return tuple(tuple(i for i in range(self.in_size) if i != mine) for mine in own)

    @property
    def block(self) -> int:
        """Rows that go in at once, at most."""
        return max(8, min(BLOCK, NUMBERS // max(1, self.in_size)))

    def init(self, *, key: PRNGKeyArray | None = None) -> ForecasterState:
        """Give the state before the first row.

        Args:
            key: of what is random in experts; default ``jax.random.key(0)``.
        """
        inside = begin(self, jax.random.key(0) if key is None else key)
        return ForecasterState(inside, np.int64(0), np.bool_(False))

    def step(
        self,
        state: ForecasterState,
        x: ArrayLike,
        y: ArrayLike | None = None,
        weight: ArrayLike = 1.0,
        reset: ArrayLike = False,
    ) -> tuple[ForecasterState, Forecast]:
        """Take one row: forecast from its input, and learn from its target.

        Args:
            state: from `init` or the last call.
            x: input, ``(in_size,)``.
            y: the target of the input ``delay`` rows before, ``(out_size,)``, ``None`` if there is
                none. The first ``delay`` are values of the targets all the same.
            weight: of that target.
            reset: whether a new sequence begins with this row: lags and hidden states go.

        Returns the new state, and the forecast.

        Raises:
            ValueError: an argument of the wrong shape or kind, named; nothing has changed then.
        """
        x = as_numbers(x, "x", (self.in_size,))
        y = None if y is None else as_numbers(y, "y", (self.out_size,))[None]
        state, told = uninterrupted(
            self._take, state, x[None], y, np.reshape(weight, (1,)), np.reshape(reset, (1,))
        )
        return state, jax.tree.map(lambda a: a[0], told.forecast())

    def scan(
        self,
        state: ForecasterState,
        xs: ArrayLike,
        ys: ArrayLike | None = None,
        *,
        weights: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[ForecasterState, Forecast]:
        """Take many rows, one after the other, as single steps would: bit for bit.

        Args:
            state: from `init` or the last call.
            xs: inputs, ``(time, in_size)``.
            ys: ``(time, out_size)``: ``ys[t]`` comes with ``xs[t]``, ``delay`` rows after its own.
            weights, resets: ``(time,)``.

        Returns the new state, and the forecasts, time first.

        Raises:
            ValueError: as `step`.
        """
        state, told = self.begin(state, xs, ys, weights=weights, resets=resets)
        return state, told.forecast()

    def begin(
        self,
        state: ForecasterState,
        xs: ArrayLike,
        ys: ArrayLike | None = None,
        *,
        weights: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[ForecasterState, Begun]:
        """Begin what `scan` does, and don't wait for it: meanwhile the next rows can be read.

        Args:
            state, xs, ys, weights, resets: as for `scan`.

        Returns the new state, which may be used at once, and what gives the forecasts.

        Raises:
            ValueError: as `step`.
        """
        xs = as_numbers(xs, "xs", (None, self.in_size))
        ys = None if ys is None else as_numbers(ys, "ys", (len(xs), self.out_size))
        weights = np.broadcast_to(1.0 if weights is None else weights, (len(xs),))
        resets = np.broadcast_to(False if resets is None else resets, (len(xs),))
        parts = []
        for first in range(0, len(xs), self.block):
            now = slice(first, first + self.block)
            state, told = uninterrupted(
                self._take, state, xs[now], None if ys is None else ys[now], weights[now],
                resets[now],
            )  # fmt: skip
            parts += told.parts
        return state, Begun(parts)

    def stream(
        self,
        state: ForecasterState,
        source: Iterable[tuple],
        chunk: int = 1,
        delay: int | None = None,
    ) -> Iterator[tuple[ForecasterState, Forecast]]:
        """Forecast every item of a live source at once, and learn from each.

        Args:
            state: from any call; the one yielded last holds all there is.
            source: items as `OnlineLearner.stream` takes them.
            chunk: without effect: learning takes row by row.
            delay: that of the forecaster, if given.

        Returns an iterator of pairs, as of `step`.

        Raises:
            ValueError: an argument, or an item named by its number.
        """
        expected = f"the forecaster's {self.delay}"
        require(delay is None or delay == self.delay, "delay", expected, delay)
        return self._stream(state, source)

    def _stream(self, state, source):
        for item in source:
            with naming_item(state.items, state):
                state, out = self.step(state, *unpack(item))
            yield state, out

    def predict(self, state: ForecasterState, x: ArrayLike) -> Forecast:
        """Forecast one row without learning; the state is not touched.

        Args:
            state: from any call.
            x: input, ``(in_size,)``.

        Returns the forecast.
        """
        after, out = self.step(copied(state), x)
        del after
        return out

    def reset(self, state: ForecasterState) -> ForecasterState:
        """Begin a new sequence with the next row: lags and hidden states go, the rest stays.

        Args:
            state: from any call.

        Returns the new state.
        """
        return ForecasterState(state.inside, state.items, np.bool_(True))

    def _take(self, state, xs, ys, weights, resets):
        require(
            not state.inside.slot.is_deleted(),
            "state",
            "one that is still there (with donate=True a call uses it up)",
            "one that an earlier call has used up",
        )
        if not self.donate:
            state = copied(state)
        count, size = len(xs), self.block
        ys = np.full((count, self.out_size), np.nan) if ys is None else ys
        resets = np.array(resets, bool)
        resets[0] |= state.begins
        rows = Rows(
            xs=padded(split(xs), size),
            ys=padded(split(ys), size),
            weights=padded(np.asarray(weights, np.float32), size),
            resets=padded(resets, size),
            count=np.int32(count),
        )
        inside, outs = run(self, rows, state.inside)
        missing = np.asarray(~(np.abs(ys) <= LARGEST).all(-1))
        return ForecasterState(inside, state.items + count, np.bool_(False)), Begun(
            [(outs, missing)]
        )
