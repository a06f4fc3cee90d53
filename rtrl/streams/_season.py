"""Seasons: the periods at which the past of a target says most about its future."""

from typing import Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rtrl.streams._history import History

ENOUGH = 10  # forecasts of a period before it may be chosen,
SOON = 3  # and of one of the calendar's
CALENDAR = (4, 5, 7, 12, 24, 48, 52, 60, 96, 144, 168, 288, 365)
TILT = 0.9  # of an error, for these: many periods are tried, and some must look good by chance


class Seasons(eqx.Module):
    """Running squared errors of forecasts from one period before, for every period at once.

    ::

        level:   y[t+h] = y[t+h-S]                       S = h .. longest
        change:  y[t+h] = y[t] + y[t+h-S] - y[t-S]

    Attributes:
        level, change: mean squared errors over about ``memory`` rows, ``(periods,)``.
    """

    level: Float[Array, " periods"]
    change: Float[Array, " periods"]

    @classmethod
    def empty(cls, ahead: int, longest: int) -> Self:
        zero = jnp.zeros(longest + 1 - ahead, jnp.float32)
        return cls(zero, zero)

    def update(self, history: History, known: Array, ahead: int, memory: float) -> Self:
        """Judge every period by the value that was just pushed."""
        first, last = ahead, ahead + len(self.level)
        level = history.against_last(first, last)
        change = history.since(0, 1, ahead) - history.since(first, last, ahead)
        seen = self._seen(history, ahead)
        rate = jnp.maximum(1 / jnp.maximum(seen, 1), 1 / memory)
        rate = jnp.where(known & (seen > 0), rate, 0)
        return type(self)(
            self.level + rate * (level * level - self.level),
            self.change + rate * (change * change - self.change),
        )

    def best(
        self, history: History, ahead: int, given: int | None
    ) -> tuple[Int[Array, ""], Int[Array, ""], Bool[Array, ""]]:
        """The periods, as indices from ``ahead`` on, of the least level and change errors.

        And whether there is one yet. A ``given`` period is taken as soon as it has been seen.
        """
        periods = ahead + np.arange(len(self.level))
        usual = np.isin(periods, CALENDAR)
        enough = self._seen(history, ahead) >= np.where(usual, SOON, ENOUGH)
        if given is not None:
            enough = (history.age > given) & (periods == given)
        tilt = np.where(usual, TILT, 1).astype(np.float32)
        level, change = (
            jnp.argmin(jnp.where(enough, tilt * error, jnp.inf))
            for error in (self.level, self.change)
        )
        return level, change, jnp.any(enough)

    def _seen(self, history: History, ahead: int) -> Int[Array, " periods"]:
        """Forecasts of every period that could be judged so far."""
        periods = ahead + jnp.arange(len(self.level))
        return jnp.maximum(history.age - periods - ahead, 0)
