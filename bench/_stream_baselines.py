"""Simple online forecasts that `bench/streams.py` holds ours against, in float64.

Each takes a series without gaps ``(rows,)`` and gives the forecast of ``y[t + ahead]`` made at t,
``(rows,)``, from nothing later than t.
"""

import numpy as np


def last_value(y: np.ndarray, ahead: int) -> np.ndarray:
    return y


def last_season(y: np.ndarray, ahead: int, period: int) -> np.ndarray:
    """The value one period before, or the last value before there is one."""
    whole = period * -(-ahead // period)
    back = whole - ahead
    return np.concatenate([y[:back], y[: len(y) - back]]) if back else y


def ridge(y: np.ndarray, ahead: int, *, forgetting: float, lags: int = 10, prior: float = 1e-2):
    """Recursive least squares on the last values, scaled by the first fifty."""
    mean, scale = y[:50].mean(), y[:50].std() + 1e-9
    z = (y - mean) / scale
    phi = np.column_stack([_lag(z, k) for k in range(lags)] + [np.ones(len(z))])
    return mean + scale * least_squares(phi, z, ahead, forgetting, prior)


def least_squares(phi, z, ahead: int, forgetting: float, prior: float) -> np.ndarray:
    size = phi.shape[1]
    P, w, out = np.eye(size) / prior, np.zeros(size), np.zeros(len(z))
    for t in range(len(z)):
        if t >= ahead:
            x = phi[t - ahead]
            gain = P @ x
            gain /= forgetting + x @ gain
            w = w + gain * (z[t] - x @ w)
            P = (P - np.outer(gain, x @ P)) / forgetting
            P *= min(1.0, 1e6 * size / np.trace(P))
        out[t] = phi[t] @ w
    return out


def all_columns(x: np.ndarray, target: int, ahead: int, *, forgetting: float = 0.998):
    """Recursive least squares on the last three values of every column."""
    mean, scale = x[:50].mean(0), x[:50].std(0) + 1e-9
    z = (x - mean) / scale
    phi = np.column_stack([_lag(z, k) for k in range(3)] + [np.ones(len(z))])
    out = least_squares(phi, z[:, target], ahead, forgetting, 1.0)
    return mean[target] + scale[target] * out


def echo_state(y: np.ndarray, ahead: int) -> np.ndarray:
    """The one of `rtrl.tasks.baselines`, 200 units; it gives no forecast of the last rows."""
    from rtrl.tasks import baselines

    if not np.ptp(y):
        return y
    made = baselines.esn(y, ahead)
    return np.concatenate([made, np.full(len(y) - len(made), np.nan)])


def river_regression(y: np.ndarray, ahead: int) -> np.ndarray:
    """river's Bayesian linear regression (smoothing .99) on ten standardised lags."""
    from river import linear_model, preprocessing  # type: ignore

    model = preprocessing.StandardScaler() | linear_model.BayesianLinearRegression(smoothing=0.99)
    centre, scale = y[:50].mean(), y[:50].std() + 1e-9
    z = (y - centre) / scale
    rows = [{k: v[t] for k, v in enumerate([_lag(z, k) for k in range(10)])} for t in range(len(z))]
    out = np.zeros(len(z))
    for t, row in enumerate(rows):
        if t >= ahead:
            model.learn_one(rows[t - ahead], z[t])
        out[t] = model.predict_one(row)
    return centre + scale * out


def _lag(v: np.ndarray, k: int) -> np.ndarray:
    return np.concatenate([np.repeat(v[:1], k, 0), v[: len(v) - k]])
