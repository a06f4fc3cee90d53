"""Running mean and variance."""

import equinox as eqx
import numpy as np
from jaxtyping import Float


class Moments(eqx.Module):
    """Running mean and variance of every feature, float64 whatever the network's precision.

    ::

        n <- n + 1,    mean <- mean + (x - mean) / n,    m2 <- m2 + (x - mean_old) (x - mean_new)

    A value that is missing (not finite) moves nothing. A feature that has been constant so far
    gets deviation 1.

    Source: Welford, "Note on a method for calculating corrected sums of squares" (1962); batches
    by Chan, Golub & LeVeque (1979).
    """

    count: Float[np.ndarray, "*features"]
    mean: Float[np.ndarray, "*features"]
    m2: Float[np.ndarray, "*features"]

    @staticmethod
    def empty(shape: tuple[int, ...]) -> "Moments":
        return Moments(np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def update(self, values: np.ndarray) -> "Moments":
        """Take in one timestep, ``([batch,] features)``."""
        if values.ndim == self.mean.ndim:
            values = values[None]
        known = np.isfinite(values)
        new = known.sum(0)
        total = np.maximum(self.count + new, 1)
        centre = np.where(known, values, 0).sum(0) / np.maximum(new, 1)
        within = np.where(known, values - centre, 0) ** 2
        step = np.where(new > 0, centre - self.mean, 0)
        mean = self.mean + step * new / total
        m2 = self.m2 + within.sum(0) + step**2 * self.count * new / total
        return Moments(self.count + new, mean, m2)

    @property
    def deviation(self) -> Float[np.ndarray, "*features"]:
        deviation = np.sqrt(self.m2 / np.maximum(self.count, 1))
        # Rounding may leave a trace of a variance in a constant feature.
        return np.where(deviation > 1e-12 * np.abs(self.mean), deviation, 1.0)

    def standardise(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / self.deviation

    def restore(self, values: np.ndarray) -> np.ndarray:
        return values * self.deviation + self.mean
