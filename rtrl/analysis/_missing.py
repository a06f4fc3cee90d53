"""What does the error still owe to the past? Linear traces of old inputs in today's errors."""

import numpy as np
from jaxtyping import Bool, Float

RIDGE = 1e-3  # of the variance of the inputs


def error_by_lag(
    errors: Float[np.ndarray, "K B out"],
    xs: Float[np.ndarray, "K B in"],
    lags: int,
    known: Bool[np.ndarray, "K B"] | None = None,
    resets: Bool[np.ndarray, "K B"] | None = None,
) -> Float[np.ndarray, " lags"]:
    """How much of the error one input of the past explains, for every lag.

    ::

        e_t ~ A x_{t-l} + a,     R^2(l) = 1 - |e - prediction|^2 / |e - mean|^2

    A is fitted to one half of the window and judged on the other, and the other way round. What
    has been learned leaves nothing here; a dependency that is linear in the input and longer than
    the network remembers stands out at its lag.

    Args:
        errors: derivative of the loss by the prediction.
        xs: inputs.
        lags: how many, from 0.
        known: which errors there are.
        resets: where a sequence begins, across which no lag reaches.

    Returns R^2 by lag, at most 1, at or below 0 where nothing is explained.
    """
    K, B = errors.shape[:2]
    known = np.ones((K, B), bool) if known is None else known
    starts = np.zeros((K, B), int) if resets is None else np.cumsum(resets, 0)
    scores = np.zeros(min(lags, K // 2))
    for lag in range(len(scores)):
        e, x = errors[lag:], xs[: K - lag]
        there = known[lag:] & (starts[lag:] == starts[: K - lag])
        scores[lag] = _both_ways(e, x, there)
    return scores


def _both_ways(e: np.ndarray, x: np.ndarray, there: np.ndarray) -> float:
    half = len(e) // 2
    first = np.zeros_like(there)
    first[:half] = True
    left = rest = 0.0
    for fit in (there & first, there & ~first):
        judge = there & ~fit
        if fit.sum() < 2 * x.shape[-1] + 2 or judge.sum() < 2:
            return 0.0
        X, E = x[fit], e[fit]
        mean_x, mean_e = X.mean(0), E.mean(0)
        X = X - mean_x
        covariance = X.T @ X
        ridge = RIDGE * np.trace(covariance) / len(covariance) + 1e-30
        A = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), X.T @ (E - mean_e))
        rest += float(((e[judge] - mean_e - (x[judge] - mean_x) @ A) ** 2).sum())
        left += float(((e[judge] - mean_e) ** 2).sum())
    return 1 - rest / left if left > 0 else 0.0
