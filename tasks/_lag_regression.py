from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rtrl.tasks._data import Sequences, as_generator, check_count, scored, time_and_batch
from rtrl.validate import require


def lag_regression(
    batch_size: int | None,
    *,
    rng: int | np.random.Generator,
    length: int = 1024,
    in_size: int = 16,
    lags: Sequence[int] = (32, 64, 128, 192, 256),
    coefficients: Sequence[float] = (0.6, 0.5, 0.4, 0.32, 0.26),
    noise: float = 0.3,
    direction: ArrayLike | None = None,
) -> Sequences:
    """Regress on inputs seen long ago, at a few fixed lags.

        y_t = sum over k of c_k u . x_{t - l_k}  +  N(0, noise^2),    x_t ~ N(0, I)

    with x = 0 before the first timestep. The unit vector u is part of the task and not of a batch:
    `direction` is scaled to length one, and None stands for one vector, always the same.

    Args:
        batch_size: sequences side by side; `None` for no batch axis.
        rng: a seed, or a generator, which the call advances.
        length: T, timesteps, at least 1.
        in_size: features of x, at least 1.
        lags: l_k, timesteps, each at least 0.
        coefficients: c_k, one for every lag.
        noise: standard deviation of the noise, at least 0.
        direction: u, (in_size,), not all zero; `None` for the vector that is always the same.

    Shapes, with T = length:
        xs: (T, [batch,] in_size) float32.
        ys: (T, [batch,] 1) float32.
        weights: (T, [batch]) float32, 1 / T.

    Loss: squared error. Floors, mean squared error: nothing beats the noise (Bayes),
    noise^2 = 0.09; without memory the best answer is 0, whose error is
    noise^2 + sum over k of c_k^2 (T - l_k) / T = 0.947.

    Raises:
        ValueError: an argument out of its range, named.

    Source: Livi, "Learnability window in gated recurrent neural networks", arXiv:2512.05790.
    """
    check_count("length", length)
    check_count("in_size", in_size)
    for lag in lags:
        check_count("lags", lag, least=0)
    expected = f"one number for each of the {len(lags)} lags"
    require(len(coefficients) == len(lags), "coefficients", expected, coefficients)
    require(noise >= 0, "noise", "a standard deviation of at least 0", noise)
    u = np.random.default_rng(0).normal(size=in_size) if direction is None else direction
    u = np.asarray(u, np.float64)
    nonzero = u.shape == (in_size,) and np.isfinite(u).all() and u.any()
    require(bool(nonzero), "direction", f"a finite vector of {in_size} numbers, not all 0", u)
    u = u / np.linalg.norm(u)

    generator = as_generator(rng)
    shape = time_and_batch(length, batch_size)
    xs = generator.standard_normal((*shape, in_size), dtype=np.float32)
    seen = xs @ u
    y = noise * generator.standard_normal(shape)
    for lag, c in zip(lags, coefficients, strict=True):
        y[lag:] += c * seen[: max(length - lag, 0)]
    return Sequences(xs, y[..., None].astype(np.float32), scored(shape, slice(None)))
