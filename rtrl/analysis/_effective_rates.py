"""How much of a gradient survives a lag? Effective learning rates of a cell on data."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from rtrl.analysis._recording import record
from rtrl.cells import Cell
from rtrl.engine import Carry, Rule, init_carry, recur
from rtrl.rules import BPTT
from rtrl.validate import require, require_integer


def effective_rates(
    cell: Cell, xs: ArrayLike, max_lag: int, *, order: int = 1, carry: Carry | None = None
) -> Float[np.ndarray, "time lags N"]:
    """Give what a module keeps of its state over every lag: its effective learning rates.

    ::

        F_t = dh_t/dh_{t-1} = D_t + M_t    (M_t: by way of what modules see of each other)
        order 0:   mu_{t,l} = D_t D_{t-1} ... D_{t-l+1}
        order 1:   + sum over j of D_t ... D_{j+1} diag(M_j) D_{j-1} ... D_{t-l+1}

    the diagonal of the Jacobian ``dh_t/dh_{t-l}`` up to terms of one or two factors M. Times the
    optimizer's rate it is the rate at which an error teaches a module about what it did l timesteps
    before. Exact, at any order, for a cell whose modules do not see each other.

    Args:
        cell: any cell.
        xs: inputs, ``(time, H)``.
        max_lag: the longest lag, below the number of timesteps.
        order: 0 or 1.
        carry: to begin with; default the initial state.

    Returns:
        For every timestep, lag 0 .. max_lag and module; NaN where the lag reaches back before the
        data. Signed for a real state of one number; the modulus of a complex one, the spectral norm
        for several numbers.

    Raises:
        ValueError: an argument out of its range.

    Source: Livi, "Learnability window in gated recurrent neural networks", arXiv:2512.05790.
    """
    xs = jnp.asarray(xs)
    require_integer(max_lag, "max_lag", 0, "(timesteps)")
    require(max_lag < len(xs), "max_lag", f"less than the {len(xs)} timesteps", max_lag)
    require(order in (0, 1), "order", "0 or 1", order)
    begin = init_carry(cell, BPTT()) if carry is None else Carry(carry.state)
    _, (seen,) = record(_Alone(cell), xs, (begin,))
    p = seen.partials
    D = np.asarray(p.D[:, 0])  # (time, d, d, N)
    M = np.zeros_like(D)
    if order == 1 and p.slope is not None:
        for U, J in zip(p.recurrent, p.J[p.first_recurrent :], strict=True):
            own = np.asarray(U[0] if U.shape[0] == 1 else U.diagonal())
            M = M + (np.asarray(J[:, 0]) * own)[:, :, None, :] * np.asarray(p.slope[:, 0])[:, None]
    d, n = D.shape[1], D.shape[-1]
    eye = np.broadcast_to(np.eye(d)[:, :, None], D.shape).astype(D.dtype)
    zeroth, first = eye, np.zeros_like(eye)
    out = np.full((len(D), max_lag + 1, n), np.nan)
    for lag in range(max_lag + 1):
        out[lag:, lag] = _size(zeroth + first)
        earlier, mixed = zeroth[:-1], first[:-1]
        zeroth = np.einsum("tijn,tjkn->tikn", D[lag + 1 :], earlier)
        first = np.einsum("tijn,tjkn->tikn", D[lag + 1 :], mixed) + np.einsum(
            "tijn,tjkn->tikn", M[lag + 1 :], earlier
        )
    return out


class _Alone(eqx.Module):
    """A cell by itself, called as a network is."""

    cell: Cell

    def __call__(
        self, xs: Array, carry: tuple[Carry], *, rule: Rule, resets: Any, mask: Any, key: Any
    ) -> tuple[PyTree[Array], tuple[Carry]]:
        hs, after = recur(self.cell, xs, carry[0], rule=rule, resets=resets, mask=mask)
        return hs, (after,)


def _size(P: np.ndarray) -> np.ndarray:
    if P.shape[1] == 1:
        return np.abs(P[:, 0, 0]) if np.iscomplexobj(P) else P[:, 0, 0]
    return np.linalg.norm(np.moveaxis(P, -1, 1), 2, axis=(2, 3))


def envelope(mu: Float[np.ndarray, "time lags N"]) -> Float[np.ndarray, " lags"]:
    """Give the envelope of effective learning rates: what all modules keep over a lag.

    ::

        f(l) = mean over t of sum over modules of |mu_{t,l}|

    Args:
        mu: from `effective_rates`.

    Source: Livi, arXiv:2512.05790.
    """
    mu = np.asarray(mu)
    return np.array([np.abs(mu[lag:, lag]).sum(-1).mean() for lag in range(mu.shape[1])])


class Decay(NamedTuple):
    """Two fits to an envelope, over lags from 1 on.

    Attributes:
        kind: ``"power"`` or ``"exponential"``, whichever leaves the smaller residual.
        exponent: b of ``f(l) ~ l^-b``.
        tau: of ``f(l) ~ exp(-l / tau)``, timesteps.
        r2_power, r2_exponential: share of the variance of log f that each explains.
    """

    kind: str
    exponent: float
    tau: float
    r2_power: float
    r2_exponential: float


def fit_decay(f: ArrayLike) -> Decay:
    """Fit a power law and an exponential to an envelope, by least squares in log f.

    ::

        log f(l) = a - b log l,     log f(l) = a - l / tau

    Modules of many time scales give the first, of a single one the second.

    Args:
        f: from `envelope`, ``(lags,)``, lag 0 first; at least four lags, positive.

    Returns both fits.

    Raises:
        ValueError: fewer lags, or values that are not positive.

    Source: Livi, arXiv:2512.05790.
    """
    f = np.asarray(f, float)
    require(f.ndim == 1 and len(f) >= 4 and bool((f[1:] > 0).all()), "f",
            "an envelope of at least four lags, positive", f)  # fmt: skip
    lags, y = np.arange(1, len(f)), np.log(f[1:])
    fits = {}
    for kind, x in (("power", np.log(lags)), ("exponential", lags.astype(float))):
        slope, level = np.polyfit(x, y, 1)
        rest = ((y - level - slope * x) ** 2).sum()
        total = ((y - y.mean()) ** 2).sum()
        fits[kind] = (slope, 1 - rest / total if total > 0 else 1.0)
    (b, power), (rate, exponential) = fits["power"], fits["exponential"]
    kind = "power" if power > exponential else "exponential"
    tau = -1 / rate if rate < 0 else float("inf")
    return Decay(kind, float(-b), float(tau), float(power), float(exponential))


def exact_diagonal(cell: Cell, xs: ArrayLike, max_lag: int) -> Float[np.ndarray, "lags N"]:
    """Give the diagonal of the exact Jacobian ``dh_T/dh_{T-l}`` by automatic differentiation.

    ::

        diag(F_T F_{T-1} ... F_{T-l+1})

    Slow, and for real states of one number: what `effective_rates` are held against.

    Args:
        cell: a cell whose state is one real array.
        xs: inputs, ``(time, H)``; T is their end.
        max_lag: the longest lag.

    Raises:
        ValueError: a cell of another kind.
    """
    xs, rule = jnp.asarray(xs), BPTT()
    state = init_carry(cell, rule).state
    real = isinstance(state, jax.Array) and not jnp.iscomplexobj(state)
    require(real, "cell", "one whose state is one real array", type(cell).__name__)

    def step(h, x):
        return recur(cell, x[None], Carry(h), rule=rule)[1].state

    jacobian = jax.jit(lambda h, x: (step(h, x), jax.jacfwd(step)(h, x)))
    h, factors = state, []
    for x in xs:
        h, F = jacobian(h, x)
        factors.append(np.asarray(F, np.float64))
    P, out = np.eye(state.shape[0]), []
    for lag in range(max_lag + 1):
        out.append(np.diag(P).copy())
        P = P @ factors[len(xs) - 1 - lag]
    return np.asarray(out)


def draw_envelope(ax: Any, f: ArrayLike, label: str = "", **style: Any) -> None:
    """Draw an envelope on logarithmic axes, where a power law is a straight line.

    Args:
        ax: axes of matplotlib.
        f: from `envelope`.
        label: for the legend.
        **style: of the line, as ``ax.plot`` takes it.
    """
    f = np.asarray(f, float)
    ax.plot(np.arange(1, len(f)), f[1:] / f[0], label=label, **style)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="lag, timesteps", ylabel="f(lag) / f(0)")
