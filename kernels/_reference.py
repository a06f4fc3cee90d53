"""The trace update in plain JAX: a scan for reading and for tests, and a fast form for XLA."""

import jax
import jax.numpy as jnp
from jaxtyping import Array


def reference(trace, D, J, xs, deltas) -> tuple[Array, Array]:
    """One timestep after another, as in the equations; arguments as for `diagonal_trace`."""
    K, B, d, N = deltas.shape
    D = jnp.broadcast_to(D, (K, B, d, d, N))
    J = jnp.broadcast_to(J, (K, B, d, N))

    def timestep(carry, step):
        s, gradient = carry
        D_k, J_k, x, delta = step
        s = (D_k[..., None] * s[:, None]).sum(2) + J_k[..., None] * x[:, None, None, :]
        gradient = gradient + (delta[..., None] * s).sum((0, 1))
        return (s, gradient), None

    zero = jnp.zeros(trace.shape[2:], trace.dtype)
    (trace, gradient), _ = jax.lax.scan(timestep, (trace, zero), (D, J, xs, deltas))
    return gradient, trace


def xla(trace, D, J, xs, deltas) -> tuple[Array, Array]:
    """The same for XLA: elementwise for one timestep, two GEMMs for a chunk.

    ::

        e_K = delta_K,  e_k = delta_k + D_{k+1}^T e_{k+1},  a_0 = D_1^T e_1
        P_K = 1,        P_{k-1} = P_k D_k
        gradient  = sum_k (J_k e_k) x_k^T + a_0 s_0
        new trace = P_0 s_0 + sum_k (P_k J_k) x_k^T

    so that the trace is read and written once a chunk, not once a timestep.
    """
    K, B, d, N = deltas.shape
    if K == 1:
        drive = J[0][..., None] * xs[0][:, None, None, :]
        trace = _apply(D[0][..., None], trace) + drive
        return (deltas[0][..., None] * trace).sum((0, 1)), trace
    # Over time only: a D or J that is the same for all samples is not copied for each.
    D = jnp.broadcast_to(D, (K, *D.shape[1:]))
    J = jnp.broadcast_to(J, (K, *J.shape[1:]))

    def back(carry, step):
        later, P = carry
        D_k, J_k, delta = step
        error = delta + later
        later = (D_k * error[:, :, None]).sum(1)  # D^T error
        drive = _apply(P, J_k)
        P = (P[:, :, :, None] * D_k[:, None]).sum(2)
        return (later, P), ((J_k * error).sum(1), drive)

    # P begins at the chunk's end and grows backwards: no inverse, so D may be zero.
    one = jnp.broadcast_to(jnp.eye(d, dtype=D.dtype)[..., None], (D.shape[1], d, d, N))
    zero = jnp.zeros_like(deltas[0])
    (boundary, P), (within, drive) = jax.lax.scan(back, (zero, one), (D, J, deltas), reverse=True)
    gradient = _outer("kbn,kbh->nh", within, xs) + (boundary[..., None] * trace).sum((0, 1))
    # First read the trace, then write over it: the other way round XLA would copy it.
    gradient, trace = jax.lax.optimization_barrier((gradient, trace))
    drive = jnp.broadcast_to(drive, (K, B, d, N))
    return gradient, _apply(P[..., None], trace) + _outer("kbin,kbh->binh", drive, xs)


def _apply(matrix, vector):
    """``(b, d, d, ...)`` times ``(B, d, ...)``, module by module."""
    if matrix.shape[1] == 1:
        return matrix[:, 0] * vector
    return (matrix * vector[:, None]).sum(2)


def _outer(subscripts: str, a, x):
    """``einsum`` of a possibly complex and a real array, in real arithmetic."""
    if not jnp.iscomplexobj(a):
        return jnp.einsum(subscripts, a, x)
    return jax.lax.complex(jnp.einsum(subscripts, a.real, x), jnp.einsum(subscripts, a.imag, x))
