"""Forecasts of a stream in its own units, never much worse than the simple thing."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from rtrl.learners import Jitted
from rtrl.streams import experts as kinds
from rtrl.streams._begin import begin
from rtrl.streams._block import Inside, one_row
from rtrl.streams._by_rows import ByRows
from rtrl.streams._default_experts import default_experts
from rtrl.streams._forecaster_state import Forecast, ForecasterState, forecast_of
from rtrl.streams._pair import LARGEST, as_numbers, split
from rtrl.streams._row import Told
from rtrl.streams._rows import Given
from rtrl.validate import require, require_integer


class Forecaster(ByRows[ForecasterState, Forecast]):
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
    def others(self) -> tuple[tuple[int, ...], ...]:
        """For every target the inputs that are not its own value."""
        own = (None,) * self.out_size if self.own is None else self.own
        return tuple(tuple(i for i in range(self.in_size) if i != mine) for mine in own)

    @property
    def _told(self) -> Any:
        members = (len(self.names),)
        shape: Any = Told
        return shape(*((self.out_size, *shape) for shape in ((2,), (), (), members, members)))

    def _row(self, inside: Inside, row: Given) -> tuple[Inside, Told]:
        return one_row(self, inside, row)

    @property
    def _beginning(self) -> Jitted:
        return begin

    def _begin(self, key: PRNGKeyArray) -> ForecasterState:
        return ForecasterState(begin(self, key), np.int64(0), np.bool_(False))

    def _one_target(self, y: ArrayLike) -> np.ndarray:
        return as_numbers(y, "y", (self.out_size,))

    def _targets(
        self, ys: ArrayLike | None, rows: int, argument: str
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = rows, self.out_size
        numbers = np.full(shape, np.nan) if ys is None else as_numbers(ys, argument, shape)
        return split(numbers), np.asarray(~(np.abs(numbers) <= LARGEST).all(-1))

    def _tell(
        self, rows: int | slice, told: Told, missing: np.ndarray, held: np.ndarray
    ) -> Forecast:
        return forecast_of(rows, told, missing, held)
