"""Running mean and deviation that forget, and that one wild value does not move."""

from typing import Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from rtrl.streams._pair import Pairs, minus, plus

OUTLIER = 10.0  # deviations from the mean that make a value wild
SETTLED = 10.0  # values before any is judged
PATIENCE = 8  # wild values in a row after which they are the new normal
FIRST_WINDOW = 8.0  # values, doubled up to a tenth of the memory
COLLAPSE = 100.0  # times less than the running deviation, for that of a window to take its place


class Scale(eqx.Module):
    """Running mean and variance of every feature, on the device.

    ::

        a = max(1 / n, 1 / memory)
        mean <- mean + a (x - mean),    variance <- (1 - a) (variance + a (x - mean)^2)

    A value that is missing moves nothing, nor does one ten deviations away from the mean; but eight
    of them in a row are a change of level, and the mean begins anew there. Where a window of 8, 16,
    32 .. memory / 10 values varies, but a hundred times less than all before, as after a wild value
    among the first ten, or garbage, its moments become the running ones.

    Attributes:
        count: values taken in (since the mean began anew).
        mean: as pairs, so that small changes of large values are not lost.
        variance: about the mean.
        wild: values far away in a row, up to the last.
        window: values that the present window is to have.
        window_count, window_mean, window_variance: its moments so far.
    """

    count: Float[Array, "*features"]
    mean: Pairs
    variance: Float[Array, "*features"]
    wild: Float[Array, "*features"]
    window: Float[Array, "*features"]
    window_count: Float[Array, "*features"]
    window_mean: Pairs
    window_variance: Float[Array, "*features"]

    @classmethod
    def empty(cls, *shape: int) -> Self:
        zero = jnp.zeros(shape, jnp.float32)
        nothing = zero, jnp.zeros((*shape, 2), jnp.float32), zero
        return cls(*nothing, zero, jnp.full(shape, FIRST_WINDOW, jnp.float32), *nothing)

    def update(self, values: Pairs, memory: float) -> Self:
        """Take in one timestep, ``(*features, 2)``."""
        first = self.count == 0
        step = jnp.where(first, 0, minus(values, self.mean))
        known = jnp.isfinite(step) & jnp.isfinite(values[..., 0])
        step = jnp.where(known, step, 0)
        away = (self.count >= SETTLED) & (self.variance > 0)
        away &= step * step > OUTLIER**2 * self.variance
        wild = jnp.where(known, jnp.where(away, self.wild + 1, 0), self.wild)
        anew = wild >= PATIENCE
        takes = known & (~away | anew)
        begins = takes & (first | anew)
        count = jnp.where(anew, 1, self.count + takes)
        rate = jnp.maximum(1 / jnp.maximum(count, 1), 1 / memory)
        rate = jnp.where(takes, rate, 0)
        mean = jnp.where(begins[..., None], values, plus(self.mean, rate * step))
        variance = (1 - rate) * (self.variance + rate * step * step)
        variance = jnp.where(begins, self.variance, variance)

        window = jnp.where(anew, FIRST_WINDOW, self.window)
        trial_count = jnp.where(anew, 0, self.window_count) + known
        begins = known & (trial_count == 1)
        step = jnp.where(known & ~begins, minus(values, self.window_mean), 0)
        rate = 1 / jnp.maximum(trial_count, 1)
        trial_mean = jnp.where(begins[..., None], values, plus(self.window_mean, rate * step))
        trial_variance = (1 - rate) * (self.window_variance + rate * step * step)
        trial_variance = jnp.where(known, trial_variance, self.window_variance)
        full = trial_count >= window
        now = jnp.where(full, trial_variance, 0)
        falls = (now > 0) & (COLLAPSE**2 * now < variance)
        return type(self)(
            jnp.where(falls, trial_count, count),
            jnp.where(falls[..., None], trial_mean, mean),
            jnp.where(falls, trial_variance, variance),
            jnp.where(anew | falls, 0, wild),
            jnp.where(full, jnp.minimum(2 * window, max(memory / 10, FIRST_WINDOW)), window),
            jnp.where(full, 0, trial_count),
            trial_mean,
            jnp.where(full, 0, trial_variance),
        )

    @property
    def deviation(self) -> Float[Array, "*features"]:
        """1 for a feature that has been constant so far."""
        return jnp.where(self.variance > 0, jnp.sqrt(self.variance), 1)

    def standardise(self, values: Pairs) -> Float[Array, "*features"]:
        """In deviations from the mean, at most ten; 0 (the mean) for what is missing."""
        z = minus(values, self.mean) / self.deviation
        return jnp.clip(jnp.where(jnp.isfinite(z), z, 0), -OUTLIER, OUTLIER)
