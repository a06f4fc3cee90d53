"""Which time scales does a cell have on data? Their spectrum, and the law of its tail."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from rtrl.validate import require


def timescale_spectrum(mu: Float[np.ndarray, "time lags N"]) -> Float[np.ndarray, " N"]:
    """Give the time scale of every module: over how many timesteps its effective rates e-fold.

    ::

        log |mu_{t,l}| ~ -l / tau        least squares through the origin, mean over t first

    Args:
        mu: from `effective_rates`, with a largest lag of at least 1.

    Returns:
        Timesteps, ``(N,)``. Infinite where nothing decays, negative where it grows; 0 where a rate
        is exactly 0, so that nothing is left.

    Raises:
        ValueError: no lag beyond 0.

    Source: Livi, "Learnability window in gated recurrent neural networks", arXiv:2512.05790.
    """
    mu = np.abs(np.asarray(mu, float))
    require(mu.ndim == 3 and mu.shape[1] > 1, "mu", "(time, lags, N) with lags 0 and 1 at least",
            mu.shape)  # fmt: skip
    lags = np.arange(mu.shape[1])
    with np.errstate(divide="ignore"):
        y = np.array([np.log(mu[lag:, lag]).mean(0) for lag in lags])
        slope = (lags[1:, None] * y[1:]).sum(0) / (lags**2).sum()
        return np.where(slope == 0, np.inf, -1 / slope)


class Spectrum(NamedTuple):
    """Two laws for the tail of a spectrum of time scales, by maximum likelihood.

    Attributes:
        kind: ``"power"`` or ``"exponential"``, whichever is likelier.
        exponent: b of ``p(tau) ~ tau^-(1 + b)``.
        scale: of ``p(tau) ~ exp(-tau / scale)``, timesteps.
        least: where the tail begins, timesteps.
        preference: log likelihood of the power law less the exponential's, over its standard
            deviation (Vuong): beyond 2 or -2 chance alone does not explain it.
    """

    kind: str
    exponent: float
    scale: float
    least: float
    preference: float


def fit_spectrum(tau: ArrayLike, *, least: float | None = None) -> Spectrum:
    """Fit a power law and an exponential to the tail of a spectrum of time scales.

    ::

        power:        p(tau) = (b / least) (tau / least)^-(1 + b),   1 / b = mean log (tau / least)
        exponential:  p(tau) = exp(-(tau - least) / scale) / scale,  scale = mean tau - least

    A tail of the first kind superposes to an envelope that falls as a power law with the same
    exponent, ``integral of tau^-(1 + b) exp(-l / tau) dtau = Gamma(b) l^-b`` (`fit_decay`).

    Args:
        tau: time scales, any shape, timesteps; what is not finite and positive is left out.
        least: where the tail begins; default the smallest of them.

    Returns both fits.

    Raises:
        ValueError: fewer than five different time scales in the tail.

    Source: Clauset, Shalizi & Newman, "Power-law distributions in empirical data" (2009),
    equations 3.1 and C.6; the link between the two exponents: Livi, arXiv:2512.05790.
    """
    tau = np.asarray(tau, float).ravel()
    tau = tau[np.isfinite(tau) & (tau > 0)]
    low = float(tau.min(initial=np.inf) if least is None else least)
    tail = tau[tau >= low]
    require(len(np.unique(tail)) >= 5, "tau", "at least five different time scales in the tail",
            len(np.unique(tail)))  # fmt: skip
    b = 1 / np.log(tail / low).mean()
    scale = tail.mean() - low
    power = np.log(b / low) - (1 + b) * np.log(tail / low)
    exponential = -np.log(scale) - (tail - low) / scale
    ratio = power - exponential
    preference = ratio.sum() / (np.sqrt(len(ratio)) * ratio.std())
    kind = "power" if preference > 0 else "exponential"
    return Spectrum(kind, float(b), float(scale), low, float(preference))


def draw_spectrum(ax: Any, tau: ArrayLike, label: str = "", **style: Any) -> None:
    """Draw the share of modules that reach beyond every time scale, and the likelier law.

    Args:
        ax: axes of matplotlib.
        tau: time scales, as for `fit_spectrum`.
        label: for the legend.
        **style: of the line, as ``ax.step`` takes it.
    """
    tau = np.sort(np.asarray(tau, float).ravel())
    tau = tau[np.isfinite(tau) & (tau > 0)]
    fit = fit_spectrum(tau)
    (line,) = ax.step(tau, 1 - np.arange(len(tau)) / len(tau), where="post", label=label, **style)
    grid = np.geomspace(tau[0], tau[-1], 100)
    law = (grid / fit.least) ** -fit.exponent
    if fit.kind == "exponential":
        law = np.exp(-(grid - fit.least) / fit.scale)
    ax.plot(grid, law, color=line.get_color(), ls=":", lw=1)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="time scale, timesteps", ylabel="share of modules beyond",
           ylim=(0.5 / len(tau), 1.2))  # fmt: skip
