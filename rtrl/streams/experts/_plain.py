"""Forecasts that need no learning."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from rtrl.streams.experts._features import LAGS

RATES = (0.1, 0.3, 0.6)  # of exponential smoothing
TREND = 0.2  # rate at which the trend is smoothed


class Plain(eqx.Module):
    """The last value, means, smoothed values and trends, and what seasons tell.

    ::

        smoothed[t] = smoothed[t-1] + rate (y[t] - smoothed[t-1])

    over the last thirty steps, so that all of these are fixed sums of steps.

    Source: Hyndman & Athanasopoulos, "Forecasting: principles and practice", chapters 5 and 8.
    """

    @property
    def names(self):
        smooth = (f"smoothed, rate {rate:g}" for rate in RATES)
        seasons = "last season", "mean season", "last season's change", "mean season's change"
        return "last value", "mean", *smooth, "trend", *seasons

    def init(self, sizes, key):
        ages = np.arange(LAGS)
        smooth = [-((1 - rate) ** (ages + 1)) for rate in RATES]
        trend = sizes.ahead * TREND * (1 - TREND) ** ages
        return jnp.asarray(np.stack([*smooth, trend]), jnp.float32)

    def predict(self, state, features):
        smooth = state @ features.steps
        first = jnp.stack([jnp.zeros_like(features.mean), features.mean])
        return jnp.concatenate([first, smooth, features.seasonal[1:5]]), (), state

    def learn(self, state, kept, target, weight):
        return state
