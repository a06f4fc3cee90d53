"""How far back can be learned from so many samples? Heavy tails, sample sizes, windows."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from rtrl.validate import require

# McCulloch's table III: alpha by nu_alpha = (q95 - q05) / (q75 - q25), down, and by
# nu_beta = |q95 + q05 - 2 q50| / (q95 - q05), across.
NU_ALPHA = np.array([2.439, 2.5, 2.6, 2.7, 2.8, 3, 3.2, 3.5, 4, 5, 6, 8, 10, 15, 25])
NU_BETA = np.array([0, 0.1, 0.2, 0.3, 0.5, 0.7, 1])
ALPHA = np.array([
    [2.000, 2.000, 2.000, 2.000, 2.000, 2.000, 2.000],
    [1.916, 1.924, 1.924, 1.924, 1.924, 1.924, 1.924],
    [1.808, 1.813, 1.829, 1.829, 1.829, 1.829, 1.829],
    [1.729, 1.730, 1.737, 1.745, 1.745, 1.745, 1.745],
    [1.664, 1.663, 1.663, 1.668, 1.676, 1.676, 1.676],
    [1.563, 1.560, 1.553, 1.548, 1.547, 1.547, 1.547],
    [1.484, 1.480, 1.471, 1.460, 1.448, 1.438, 1.438],
    [1.391, 1.386, 1.378, 1.364, 1.337, 1.318, 1.318],
    [1.279, 1.273, 1.266, 1.250, 1.210, 1.184, 1.150],
    [1.128, 1.121, 1.114, 1.101, 1.067, 1.027, 0.973],
    [1.029, 1.021, 1.014, 1.004, 0.974, 0.935, 0.874],
    [0.896, 0.892, 0.884, 0.883, 0.855, 0.823, 0.769],
    [0.818, 0.812, 0.806, 0.801, 0.780, 0.756, 0.691],
    [0.698, 0.695, 0.692, 0.689, 0.676, 0.656, 0.597],
    [0.593, 0.590, 0.588, 0.586, 0.579, 0.563, 0.513],
])  # fmt: skip


def stable_index(samples: ArrayLike) -> float:
    """Estimate the tail index of an alpha-stable law, by McCulloch's quantiles.

    ::

        nu_alpha = (q95 - q05) / (q75 - q25),   nu_beta = (q95 + q05 - 2 q50) / (q95 - q05)
        alpha = psi_1(nu_alpha, |nu_beta|)            his table III, linear in between

    2 for a Gaussian, less the heavier the tails; the same for any location and scale. Its standard
    error at n samples is about ``2 / sqrt(n)``. Confined to [0.5, 2], where the table ends.

    Args:
        samples: at least 20 numbers, of any shape.

    Returns the index.

    Raises:
        ValueError: too few, not finite, or more than half of them alike.

    Source: McCulloch, "Simple consistent estimators of stable distribution parameters" (1986), as
    in the first guess of ``scipy.stats.levy_stable``.
    """
    x = np.asarray(samples, float).ravel()
    fit = len(x) >= 20 and bool(np.isfinite(x).all())
    require(fit, "samples", "at least 20 finite numbers", len(x))
    q05, q25, q50, q75, q95 = np.percentile(x, [5, 25, 50, 75, 95])
    require(q75 > q25, "samples", "numbers of which no half are alike", q25)
    nu_alpha = np.clip((q95 - q05) / (q75 - q25), NU_ALPHA[0], NU_ALPHA[-1])
    nu_beta = abs(q95 + q05 - 2 * q50) / (q95 - q05)
    by_beta = [np.interp(nu_alpha, NU_ALPHA, column) for column in ALPHA.T]
    return float(np.interp(nu_beta, NU_BETA, by_beta))


def sample_size(f: ArrayLike, alpha: float, *, noise: float = 1.0) -> Float[np.ndarray, " lags"]:
    """Give how many samples it takes to detect a dependency at every lag, up to a constant.

    ::

        N(l) = (noise / f(l))^kappa,   kappa = alpha / (alpha - 1)

    Averages of noise with tail index alpha shrink as ``N^(-1/kappa)``: as the square root for a
    Gaussian, ever more slowly as alpha falls to 1, where no average helps.

    Args:
        f: envelope of the effective learning rates, ``(lags,)``.
        alpha: tail index of the gradient's noise, in (1, 2].
        noise: scale of the noise over what f is measured in.

    Raises:
        ValueError: an index outside of (1, 2].

    Source: Livi, arXiv:2512.05790.
    """
    require(1 < alpha <= 2, "alpha", "a tail index in (1, 2]", alpha)
    kappa = alpha / (alpha - 1)
    with np.errstate(divide="ignore", over="ignore"):
        return (noise / np.asarray(f, float)) ** kappa


def learnability_window(
    f: ArrayLike, alpha: float, samples: ArrayLike, *, noise: float = 1.0
) -> Int[np.ndarray, "..."]:
    """Give the longest lag at which a dependency can be learned from so many samples.

    ::

        H_N = max {l : N(l) <= N},   N(l) from `sample_size`

    A power law ``f = l^-b`` gives a window that grows as ``N^(1 / (b kappa))``, an exponential
    one only as ``log N``.

    Args:
        f: envelope of the effective learning rates, ``(lags,)``, lag 0 first.
        alpha: tail index of the gradient's noise, in (1, 2].
        samples: N, a number or an array.
        noise: as for `sample_size`.

    Returns the lag for every N; 0 where there is none.

    Raises:
        ValueError: an index outside of (1, 2].

    Source: Livi, arXiv:2512.05790.
    """
    enough = sample_size(f, alpha, noise=noise) <= np.asarray(samples, float)[..., None]
    lags = np.arange(enough.shape[-1])
    return np.where(enough, lags, 0).max(-1)


def draw_window(ax: Any, f: ArrayLike, alpha: float, label: str = "", **style: Any) -> None:
    """Draw the learnability window by the number of samples.

    Args:
        ax: axes of matplotlib.
        f: from `envelope`.
        alpha: tail index.
        label: for the legend.
        **style: of the line, as ``ax.plot`` takes it.
    """
    N = np.logspace(0, 8, 200)
    f = np.asarray(f, float)
    ax.plot(N, learnability_window(f / f[0], alpha, N), label=label, **style)
    ax.set_xscale("log")
    ax.set(xlabel="samples N", ylabel="window H_N, timesteps")
