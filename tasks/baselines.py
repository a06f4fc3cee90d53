"""Simple online predictors of a scalar series, to hold a network's figures against.

All are prequential: one pass, a prediction at every timestep, made before anything later is seen.
With z (samples,) or (samples, 1) and a horizon h, each returns the predictions of z[t + h] made at
t = 0 .. samples - h - 1, a float32 array of shape (samples - h,) or (samples - h, 1): the shape
of z, aligned with the ``ys`` of `forecast(z, h)`. The target of timestep t is revealed at t + h, so
the model that predicts at t has learned from the pairs up to t - h only.

Inputs are standardised with the mean and deviation of the first 500 samples. Before these are
known, with those of the samples so far; at sample 500 the model starts afresh on the samples kept,
so no prediction uses anything later than its own timestep.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from rtrl.tasks._data import as_generator, check_count, scalar_series
from rtrl.validate import require

WARMUP = 500  # samples that set the scale of the inputs

Predictions = Float32[np.ndarray, " time"] | Float32[np.ndarray, "time 1"]


def persistence(z: ArrayLike, horizon: int) -> Predictions:
    """The last value seen: the prediction of z[t + h] is z[t].

    Args:
        z: the series, (samples,) or (samples, 1), in any unit.
        horizon: h, timesteps from an input to its target, at least 1.

    Returns:
        The predictions of z[t + h], float32, (samples - h,) or (samples - h, 1), in z's unit.

    Raises:
        ValueError: an argument out of its range, or a series that is not scalar or not finite.
    """
    series = _checked(z, horizon)
    return _shaped(series[:-horizon], z)


def rls_lags(
    z: ArrayLike,
    horizon: int,
    *,
    lags: int = 10,
    forgetting: float = 1.0,
    ridge: float = 1e-5,
) -> Predictions:
    """Linear regression on the last `lags` values and a constant, by recursive least squares.

        prediction = v_t . [z_t, ..., z_{t - lags + 1}, 1],    v_t as in `esn`

    Until it has seen that many values it predicts the first one, and it learns nothing from those
    timesteps.

    Args:
        z: the series, (samples,) or (samples, 1), in any unit.
        horizon: h, timesteps from an input to its target, at least 1.
        lags: values that it sees, the newest included, at least 1.
        forgetting: as in `esn`.
        ridge: as in `esn`.

    Returns:
        The predictions of z[t + h], float32, (samples - h,) or (samples - h, 1), in z's unit.

    Raises:
        ValueError: an argument out of its range, or a series that is not scalar or not finite.

    Source: Plackett, "Some theorems in least squares", Biometrika, 1950.
    """
    series = _checked(z, horizon)
    check_count("lags", lags)

    def last_values(u: np.ndarray) -> np.ndarray:
        features = np.zeros((len(u), lags + 1))  # a row of zeros predicts z[0] and learns nothing
        if len(u) >= lags:
            features[lags - 1 :] = np.insert(sliding_window_view(u, lags), 0, 1, axis=1)
        return features

    return _shaped(_prequential(series, horizon, last_values, forgetting, ridge), z)


def esn(
    z: ArrayLike,
    horizon: int,
    *,
    units: int = 200,
    spectral_radius: float = 0.9,
    input_scaling: float = 0.3,
    bias_scaling: float = 0.5,
    leak: float = 1.0,
    density: float = 0.1,
    washout: int = 50,
    forgetting: float = 1.0,
    ridge: float = 1e-5,
    rng: int | np.random.Generator = 0,
) -> Predictions:
    """Echo state network: a random fixed recurrence, a readout learned by recursive least squares.

        h_t = (1 - leak) h_{t-1} + leak tanh(W h_{t-1} + w z_t + b),    prediction = v_t . [h_t, 1]

    W is Gaussian with a share `density` of nonzero entries and the given spectral radius, w and b
    are uniform in +- input_scaling and +- bias_scaling, z is standardised. v_t minimises
    sum over n of forgetting^(m-n) (error of pair n)^2 + forgetting^m ridge |v|^2, where 1 .. m are
    the pairs whose target has been revealed, those of the first `washout` timesteps left out.

    The defaults were chosen by hand on the Santa Fe laser and are strong there. The ridge matters
    most: 1e-5 gives 0.058 / 0.254 (NRMSE of the second half, horizon 1 / 5), and 1, a common way to
    start the recursion, 0.151 / 0.354. A pass over it takes a second.

    Args:
        z: the series, (samples,) or (samples, 1), in any unit.
        horizon: h, timesteps from an input to its target, at least 1.
        units: of h, at least 1.
        spectral_radius: largest modulus of an eigenvalue of W, at least 0.
        input_scaling: bound on the entries of w, at least 0.
        bias_scaling: bound on the entries of b, at least 0.
        leak: in (0, 1]; a unit forgets over about 1 / leak timesteps.
        density: share of the entries of W that are not zero, in (0, 1].
        washout: timesteps at the start that are not learned from, at least 0.
        forgetting: in (0, 1]; the readout forgets over about 1 / (1 - forgetting) pairs.
        ridge: penalty on the readout at the start, positive.
        rng: a seed, or a generator, of W, w and b.

    Returns:
        The predictions of z[t + h], float32, (samples - h,) or (samples - h, 1), in z's unit.

    Raises:
        ValueError: an argument out of its range, or a series that is not scalar or not finite.

    Source: Jaeger, "Adaptive nonlinear system identification with echo state networks", NeurIPS
    2002.
    """
    series = _checked(z, horizon)
    check_count("units", units)
    require(spectral_radius >= 0, "spectral_radius", "a number of at least 0", spectral_radius)
    require(input_scaling >= 0, "input_scaling", "a number of at least 0", input_scaling)
    require(bias_scaling >= 0, "bias_scaling", "a number of at least 0", bias_scaling)
    require(0 < leak <= 1, "leak", "a number in (0, 1]", leak)
    require(0 < density <= 1, "density", "a number in (0, 1]", density)
    check_count("washout", washout, least=0)
    generator = as_generator(rng)
    weight = generator.normal(size=(units, units)) * (generator.random((units, units)) < density)
    radius = np.abs(np.linalg.eigvals(weight)).max()
    weight *= spectral_radius / radius if radius > 0 else 0.0
    into = generator.uniform(-input_scaling, input_scaling, units)
    bias = generator.uniform(-bias_scaling, bias_scaling, units)

    def states(scaled: np.ndarray) -> np.ndarray:
        features, h = np.zeros((len(scaled), units + 1)), np.zeros(units)
        for t, u in enumerate(scaled):
            h = (1 - leak) * h + leak * np.tanh(weight @ h + into * u + bias)
            if t >= washout:
                features[t] = np.append(h, 1)
        return features

    return _shaped(_prequential(series, horizon, states, forgetting, ridge), z)


def nrmse(prediction: ArrayLike, target: ArrayLike) -> float:
    """Give the root mean squared error divided by the standard deviation of the target.

        sqrt(mean (p - y)^2) / sqrt(mean (y - mean y)^2)

    Both over what is given: pass the second halves for the figures in the docstrings. The mean of
    the target, known beforehand, scores 1.

    Args:
        prediction: p, of any shape.
        target: y, of the same shape and unit.

    Raises:
        ValueError: the shapes differ, or the target is constant.
    """
    p, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    require(p.shape == y.shape, "prediction", f"the target's shape {y.shape}", p.shape)
    require(y.size > 0 and bool(y.std() > 0), "target", "at least two different values", target)
    return float(np.sqrt(np.mean((p - y) ** 2)) / y.std())


def _prequential(
    z: np.ndarray,
    horizon: int,
    features_of: Callable[[np.ndarray], np.ndarray],
    forgetting: float,
    ridge: float,
) -> np.ndarray:
    """Predict from features (time, n) of the standardised series, a new start after the warm-up."""
    require(0 < forgetting <= 1, "forgetting", "a number in (0, 1]", forgetting)
    require(ridge > 0, "ridge", "a positive number", ridge)

    def predict(z: np.ndarray, scaled: np.ndarray) -> np.ndarray:
        targets = z[horizon:] - z[0]
        return z[0] + _least_squares(features_of(scaled), targets, horizon, forgetting, ridge)

    first = z[: WARMUP + horizon]
    early = predict(first, _standardised_so_far(first))
    if len(z) <= WARMUP + horizon:
        return early
    mean, deviation = z[:WARMUP].mean(), z[:WARMUP].std()
    late = predict(z, (z - mean) / (deviation if deviation > 0 else 1))
    return np.concatenate([early, late[WARMUP:]])


def _least_squares(
    features: np.ndarray, targets: np.ndarray, delay: int, forgetting: float, ridge: float
) -> np.ndarray:
    """Predict targets[t] from features[t], having learned from the timesteps up to t - delay."""
    weights = np.zeros(features.shape[1])
    inverse = np.eye(features.shape[1]) / ridge
    predictions = np.zeros(len(targets))
    for t in range(len(targets)):
        if t >= delay:
            f = features[t - delay]
            gain = inverse @ f
            scale = forgetting + f @ gain
            weights += gain * ((targets[t - delay] - f @ weights) / scale)
            gain /= np.sqrt(scale)
            inverse -= gain[:, None] * gain  # symmetric to the last bit
            if forgetting < 1:
                inverse /= forgetting
        predictions[t] = features[t] @ weights
    return predictions


def _standardised_so_far(z: np.ndarray) -> np.ndarray:
    """z minus its mean, over its deviation, both of the values up to each timestep."""
    shifted = z - z[0]  # keeps the sums of squares small where the mean is far from 0
    count = np.arange(1, len(z) + 1)
    mean = np.cumsum(shifted) / count
    deviation = np.sqrt(np.maximum(np.cumsum(shifted**2) / count - mean**2, 0))
    return (shifted - mean) / np.where(deviation > 0, deviation, 1)


def _checked(z: ArrayLike, horizon: int) -> np.ndarray:
    series = scalar_series(z)
    check_count("horizon", horizon)
    expected = f"less than the {len(series)} samples of the series"
    require(horizon < len(series), "horizon", expected, horizon)
    return series


def _shaped(predictions: np.ndarray, z: ArrayLike) -> np.ndarray:
    return predictions.astype(np.float32).reshape(-1, *np.shape(z)[1:])
