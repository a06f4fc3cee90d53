"""Running mean and variance that forget."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float

from rtrl.engine import record

Features = Float[np.ndarray, "*features"]


@record
class Moments:
    """Running mean and variance of every feature, float64 whatever the network's precision.

    ::

        n <- min(n + 1, memory),   d = x - mean,   mean <- mean + d / n
        variance <- (1 - 1 / n) (variance + d^2 / n)

    While n grows these are the moments of all that was seen; then they fade by 1 / e in ``memory``
    timesteps. A value that is missing (not finite, or beyond 1e100) moves nothing. A feature that
    has been constant so far gets deviation 1.

    *One wild value*, beyond ten deviations, at most triples the variance; others in the same window
    move nothing. *Eight in a row* are a change of level: the mean begins anew at the last of them.
    *A variance that has collapsed*, such as after a wild value among the first, or a while of
    garbage, is found by plain moments of windows of 8, 16, 32 .. memory / 10 timesteps: if such a
    window varies, but a hundred times less than the running deviation, its moments become the
    running ones.

    Attributes:
        count: n, values of a batch counted each; at most ``memory`` timesteps' worth.
        mean, m2: the mean, and n times the variance.
        wild: timesteps with wild values in a row.
        entered: timesteps of the present window with a wild value that moved something, 0 or 1.
        window: timesteps that the present window is to have.
        window_count, window_mean, window_m2: its moments so far.

    Source: Welford, "Note on a method for calculating corrected sums of squares" (1962); batches
    by Chan, Golub & LeVeque (1979). What is done with wild values: this library.
    """

    OUTLIER: ClassVar[float] = 10.0  # deviations from the mean that make a value wild
    SETTLED: ClassVar[int] = 4  # timesteps before any is judged
    PATIENCE: ClassVar[int] = 8  # timesteps of wild values in a row that are a new normal
    FIRST_WINDOW: ClassVar[int] = 8  # timesteps, doubled up to a tenth of the memory
    COLLAPSE: ClassVar[float] = 100.0  # times less than so far, for a window to take over
    LARGEST: ClassVar[float] = 1e100  # beyond it a number is missing: its square must not overflow

    count: Features
    mean: Features
    m2: Features
    wild: Features
    entered: Features
    window: Features
    window_count: Features
    window_mean: Features
    window_m2: Features

    @staticmethod
    def empty(shape: tuple[int, ...]) -> "Moments":
        zero = np.zeros(shape)
        window = np.full(shape, float(Moments.FIRST_WINDOW))
        return Moments(zero, zero, zero, zero, zero, window, zero, zero, zero)

    def update(self, values: np.ndarray, memory: float = np.inf) -> "Moments":
        """Take in one timestep, ``([batch,] features)``; ``memory`` in timesteps."""
        if values.ndim == self.mean.ndim:
            ordinary = self._ordinary(values, memory)
            if ordinary is not None:
                return ordinary
            values = values[None]
        batch = len(values)
        known = np.abs(values) <= self.LARGEST  # NaN is not
        values = np.where(known, values, 0)
        new = known.sum(0)
        some = new > 0

        away = known & (np.abs(values - self.mean) > self.OUTLIER * self.deviation)
        away &= self.count >= self.SETTLED * batch
        most = some & (2 * away.sum(0) > new)
        wild = np.where(some, np.where(most, self.wild + 1, 0), self.wild)
        anew = wild >= self.PATIENCE

        # What is kept of the past, and what enters: one wild timestep in a window, not too far.
        kept = np.minimum(self.count, np.maximum(memory * batch - new, 0))
        rate = new / np.maximum(kept + new, 1)
        reach = np.maximum(self.OUTLIER, np.sqrt(2 / np.where(rate > 0, rate, 1))) * self.deviation
        near = np.where(away, self.mean + np.clip(values - self.mean, -reach, reach), values)
        enters = known & ~(away & (self.entered > 0))
        entered = np.where(away.any(0), 1, self.entered)
        past = kept, self.mean, self.m2 * kept / np.maximum(self.count, 1)
        count, mean, m2 = _joined(past, near, enters)

        variance = self.m2 / np.maximum(self.count, 1)
        level = values.sum(0) / np.maximum(new, 1)
        within = (np.where(known, values - level, 0) ** 2).sum(0)
        count, mean = np.where(anew, new, count), np.where(anew, level, mean)
        m2 = np.where(anew, new * variance + within, m2)

        window = np.where(anew, self.FIRST_WINDOW, self.window)
        begun = np.where(anew, 0, self.window_count)
        trial = _joined((begun, self.window_mean, np.where(anew, 0, self.window_m2)), values, known)
        full = trial[0] >= window * batch
        now = _deviation(*trial)
        collapsed = full & (now > 0) & (self.COLLAPSE * now < _deviation(count, mean, m2))
        count, mean, m2 = (
            np.where(collapsed, a, b) for a, b in zip(trial, (count, mean, m2), strict=True)
        )
        longest = np.maximum(memory / 10, self.FIRST_WINDOW)
        window = np.where(full, np.minimum(2 * window, longest), window)
        wild = np.where(anew | collapsed, 0, wild)
        entered, *trial = (np.where(full, 0, a) for a in (entered, *trial))
        entered = np.where(anew, 0, entered)
        return Moments(count, mean, m2, wild, entered, window, *trial)

    def _ordinary(self, x: np.ndarray, memory: float) -> "Moments | None":
        """The same for one sample in which nothing is remarkable, in a third of the time."""
        if not (np.abs(x) <= self.LARGEST).all():
            return None
        step = x - self.mean
        square = step * step
        window_count = self.window_count + 1
        total = self.count + 1
        near = square * total <= self.OUTLIER**2 * self.m2
        if not near.all() or self.wild.any() or (window_count >= self.window).any():
            return None
        kept = np.minimum(self.count, memory - 1)
        total = kept + 1
        since = x - self.window_mean
        return Moments(
            total,
            self.mean + step / total,
            self.m2 * kept / np.maximum(self.count, 1) + square * kept / total,
            self.wild,
            self.entered,
            self.window,
            window_count,
            self.window_mean + since / window_count,
            self.window_m2 + since * since * self.window_count / window_count,
        )

    @property
    def deviation(self) -> Features:
        """1 for a feature that has been constant so far."""
        found = _deviation(self.count, self.mean, self.m2)
        return np.where(found > 0, found, 1.0)

    def standardise(self, values: np.ndarray) -> np.ndarray:
        return (
            np.where(np.abs(values) <= self.LARGEST, values, np.nan) - self.mean
        ) / self.deviation

    def restore(self, values: np.ndarray) -> np.ndarray:
        return values * self.deviation + self.mean


def _joined(past, values: np.ndarray, enters: np.ndarray) -> tuple[Features, Features, Features]:
    """Count, mean and sum of squares about it, with those of the values that enter."""
    count, mean, m2 = past
    new = enters.sum(0)
    total = np.maximum(count + new, 1)
    centre = np.where(enters, values, 0).sum(0) / np.maximum(new, 1)
    within = (np.where(enters, values - centre, 0) ** 2).sum(0)
    step = np.where(new > 0, centre - mean, 0)
    mean = mean + step * new / total
    return count + new, mean, m2 + within + step**2 * count * new / total


def _deviation(count: Features, mean: Features, m2: Features) -> Features:
    """0 for what is constant; rounding may leave a trace of a variance there."""
    deviation = np.sqrt(m2 / np.maximum(count, 1))
    return np.where(deviation > 1e-12 * np.abs(mean), deviation, 0.0)
