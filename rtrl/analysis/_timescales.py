"""How long does a module remember? Time scales as they act on data."""

import numpy as np
from jaxtyping import Float

from rtrl.analysis._recording import Record

NEVER = 1e-30  # of a decay: what forgets within a timestep has a time scale near zero


def timescales(record: Record) -> Float[np.ndarray, " states"]:
    """Give the time scales of a cell on a window, one per number of its state.

    ::

        tau = -1 / (mean over t of log |eigenvalue of dh_t/dh_{t-1}|)        timesteps

    Of independent modules module by module; where modules see each other from the Lyapunov
    exponents of the product of the full Jacobians (first sample). Infinite where a state does not
    decay, and negative where it grows.

    Args:
        record: of a cell on a window.
    """
    rates = lyapunov(record) if record.partials.slope is not None else _by_module(record)
    with np.errstate(divide="ignore"):
        return np.where(rates == 0, np.inf, -1 / np.where(rates == 0, 1, rates))


def _by_module(record: Record) -> Float[np.ndarray, " states"]:
    """Growth rates, mean log of the moduli of the eigenvalues of every module's D."""
    D = np.asarray(record.partials.D)  # (K, B, d, d, N)
    real = D.dtype.kind != "c"
    D = D[~_resets(record)] if record.partials.resets is not None else D.reshape(-1, *D.shape[2:])
    D = D[:, 0, 0, None, :] if D.shape[1] == 1 else np.sort(
        np.abs(np.linalg.eigvals(np.moveaxis(D.astype(np.float64 if real else complex), -1, 1))),
        axis=-1,
    ).swapaxes(1, 2)  # fmt: skip
    return np.log(np.maximum(np.abs(D.astype(complex)), NEVER)).mean(0).ravel()


def _resets(record: Record) -> np.ndarray:
    return np.asarray(record.partials.resets)


def lyapunov(record: Record) -> Float[np.ndarray, " states"]:
    """Give the Lyapunov exponents of a cell along a window, largest first.

    ::

        F_t Q_{t-1} = Q_t R_t,    exponent_i = mean over t of log |R_t[i, i]|

    Args:
        record: of a cell on a window; the first sample counts.

    Source: Benettin et al., "Lyapunov characteristic exponents" (1980).
    """
    p = record.partials
    K, _, d, _, N = p.D.shape
    assert p.slope is not None
    D, slope = np.asarray(p.D[:, 0], np.float64), np.asarray(p.slope[:, 0], np.float64)
    first = p.first_recurrent
    U = [np.asarray(np.broadcast_to(u, (N, N)), np.float64) for u in p.recurrent]
    J = [np.asarray(j[:, 0], np.float64) for j in p.J[first:]]
    Q, sums, index = np.eye(d * N), np.zeros(d * N), np.arange(N)
    burn = K // 4  # until the frame has turned to where it stays
    for t in range(K):
        F = np.zeros((d, N, d, N))
        F[:, index, :, index] = np.moveaxis(D[t], -1, 0)
        for u, j in zip(U, J, strict=True):
            F += np.einsum("in,nm,jm->injm", j[t], u, slope[t])
        Q, R = np.linalg.qr(F.reshape(d * N, d * N) @ Q)
        if t >= burn:
            sums += np.log(np.maximum(np.abs(np.diag(R)), NEVER))
    return sums / (K - burn)


def high_quantile(timescales: np.ndarray) -> float:
    """The time scale that one in ten exceeds; one that grows never ends."""
    tau = np.where(timescales < 0, np.inf, timescales)
    return float(np.quantile(tau, 0.9, method="higher"))
