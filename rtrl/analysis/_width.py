"""How long does infinite width last? Energies of powers of random matrices of finite width."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from rtrl.validate import require


def log_ginibre_energy(n: ArrayLike, k: ArrayLike) -> Float[np.ndarray, "..."]:
    """Give the logarithm of `ginibre_energy`, which itself leaves the range of floats.

    ::

        Q = n / ((k + 1)(k + 2)) * (exp(A) - exp(B)),
        A = sum of log(1 + j/n),   B = sum of log(1 - j/n),   j = 0 .. k + 1

    A and B - A are sums of terms of one sign: nothing cancels, for any n and k.

    Args:
        n: width, at least 1; broadcast with k.
        k: power (timesteps), at least 0.

    Raises:
        ValueError: a width below 1 or a power below 0.
    """
    n, k = np.broadcast_arrays(np.asarray(n), np.asarray(k))
    require(bool((n >= 1).all()), "n", "widths of at least 1", n)
    require(bool((k >= 0).all()), "k", "powers of at least 0", k)
    out = np.empty(n.shape)
    for width in np.unique(n):
        here = n == width
        j = np.arange(int(k[here].max()) + 2) / float(width)
        up = np.cumsum(np.log1p(j))
        # B - A = sum of log((1 - j/n) / (1 + j/n)); from j = n on the falling factorial is 0.
        with np.errstate(divide="ignore"):
            gap = np.cumsum(-2 * np.arctanh(np.minimum(j, 1)))
        power = k[here].astype(int)
        scale = np.log(float(width)) - np.log(power + 1.0) - np.log(power + 2.0)
        out[here] = scale + up[power + 1] + np.log(-np.expm1(gap[power + 1]))
    return out


def ginibre_energy(n: ArrayLike, k: ArrayLike) -> Float[np.ndarray, "..."]:
    """Give the energy that k steps of a random linear recurrence of width n keep, exactly.

    ::

        Q_{n,k} = E tr (W^k)^* W^k / n = (n^(k+2 rising) - n^(k+2 falling)) / ((k+1)(k+2) n^(k+1))

    for complex Gaussian W of variance 1/n. Infinite width says 1 for every k; Q grows like
    `critical_profile` of ``k / sqrt(n)``. For n, k up to 10^4 and beyond; infinite where it is
    beyond the largest float (`log_ginibre_energy` is not).

    Args:
        n: width, at least 1; broadcast with k.
        k: power (timesteps), at least 0.

    Raises:
        ValueError: a width below 1 or a power below 0.

    Source: Seleznova, "How long does infinite width last?", arXiv:2605.05113, theorem 2.1.
    """
    with np.errstate(over="ignore"):
        return np.exp(log_ginibre_energy(n, k))


def critical_profile(c: ArrayLike) -> Float[np.ndarray, "..."]:
    """Give the limit of `ginibre_energy` for large width at ``k = c sqrt(n)``.

    ::

        sinh(c^2 / 2) / (c^2 / 2)

    Args:
        c: timesteps over the square root of the width.

    Source: Seleznova, arXiv:2605.05113, the critical regime.
    """
    half = np.asarray(c, float) ** 2 / 2
    small = half < 1e-4  # there the series is exact to rounding
    safe = np.where(small, 1, half)
    with np.errstate(over="ignore"):
        return np.where(small, 1 + half**2 / 6, np.sinh(safe) / safe)


def ring_energy(r_min: float, r_max: float, k: ArrayLike) -> Float[np.ndarray, "..."]:
    """Give the energy that k steps of a diagonal recurrence keep, eigenvalues drawn as an `LRU`'s.

    ::

        E |lambda|^(2k) = (b^(k+1) - a^(k+1)) / ((k + 1)(b - a)),   a = r_min^2,  b = r_max^2

    The same for every width: modules that do not see each other have no finite-width effect.

    Args:
        r_min, r_max: bounds on ``|lambda|``, whose square is uniform between theirs.
        k: timesteps.

    Raises:
        ValueError: bounds that are not ``0 <= r_min <= r_max``.
    """
    require(0 <= r_min <= r_max, "r_max", f"at least r_min = {r_min}, not negative", r_max)
    a, b, k = r_min**2, r_max**2, np.asarray(k, float)
    if b - a < 1e-9:
        return b**k
    return (b ** (k + 1) - a ** (k + 1)) / ((k + 1) * (b - a))


class Sampled(NamedTuple):
    """A mean over samples.

    Attributes:
        mean: over the samples.
        error: standard error of the mean.
    """

    mean: Float[np.ndarray, " k"]
    error: Float[np.ndarray, " k"]


def sampled_energy(
    kind: str, n: int, k: ArrayLike, samples: int, *, rng: int | np.random.Generator
) -> Sampled:
    """Draw matrices and measure the energy that their powers keep.

    ::

        mean over samples of tr (W^k)^* W^k / n

    Args:
        kind: ``"complex"`` or ``"real"`` Gaussian of variance 1/n, or ``"orthogonal"``.
        n: width.
        k: powers, ``(powers,)``, at least 0.
        samples: how many matrices.
        rng: a seed, or a generator, which the call advances.

    Returns the mean and its standard error for every power.

    Raises:
        ValueError: another kind.
    """
    require(kind in ("complex", "real", "orthogonal"), "kind", "complex, real or orthogonal", kind)
    rng, k = np.random.default_rng(rng), np.atleast_1d(np.asarray(k))
    energies = np.empty((samples, len(k)))
    for sample in range(samples):
        W = rng.normal(size=(n, n))
        if kind == "complex":
            W = (W + 1j * rng.normal(size=(n, n))) / np.sqrt(2 * n)
        elif kind == "real":
            W = W / np.sqrt(n)
        else:
            Q, R = np.linalg.qr(W)
            W = Q * np.sign(np.diag(R))  # Haar
        P = np.eye(n, dtype=W.dtype)
        for step in range(int(k.max()) + 1):
            energies[sample, k == step] = (np.abs(P) ** 2).sum() / n
            P = P @ W
    return Sampled(energies.mean(0), energies.std(0, ddof=1) / np.sqrt(samples))


def draw_energy(ax: Any, widths: ArrayLike, length: int) -> None:
    """Draw how energies of several widths leave 1, each at its own time; dotted where c = 1.

    Args:
        ax: axes of matplotlib.
        widths: of the recurrences.
        length: timesteps.
    """
    k = np.unique(np.round(np.logspace(0, np.log10(length), 200)).astype(int))
    for i, n in enumerate(np.atleast_1d(np.asarray(widths))):
        ax.plot(k, log_ginibre_energy(n, k) / np.log(10), color=f"C{i}", label=f"n = {n}")
        ax.axvline(np.sqrt(n), color=f"C{i}", ls=":", lw=1)
    ax.axhline(0, color="0.7", lw=1, zorder=0)
    ax.set_xscale("log")
    ax.set(title="Energy that a random linear recurrence keeps", xlabel="timesteps k",
           ylabel="log10 of the energy", ylim=(-0.2, 4))  # fmt: skip
    ax.legend(frameon=False)
