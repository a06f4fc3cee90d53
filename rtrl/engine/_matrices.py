"""Small matrices, one per module, and their products over a chunk of timesteps."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact

from rtrl.engine._varying import axes_of, vary
from rtrl.engine._xla import sum_over_few


def apply(matrix: Array, vector: Array) -> Array:
    """Multiply module by module: ``(..., d, d, N)`` with ``(..., d, N)``."""
    # N tiny matrices, written elementwise with the modules last: what is long is what the processor
    # works on side by side.
    if matrix.shape[-2] == 1:
        return matrix[..., 0, :] * vector
    return sum_over_few(matrix * vector[..., None, :, :], -2)


def apply_transposed(matrix: Array, vector: Array) -> Array:
    """Multiply module by module with the transposed matrix: how errors travel."""
    if matrix.shape[-2] == 1:
        return matrix[..., 0, :] * vector
    return sum_over_few(matrix * vector[..., :, None, :], -3)


def compose(left: Array, right: Array) -> Array:
    """Multiply two ``(..., d, d, N)`` matrices module by module."""
    if left.shape[-2] == 1:
        return left * right
    return sum_over_few(left[..., :, :, None, :] * right[..., None, :, :, :], -3)


def identity(d: int, dtype: Any) -> Array:
    return jnp.eye(d, dtype=dtype)[:, :, None]


def suffix_products(D: Inexact[Array, "k b d d N"], length: int) -> tuple[Array, Array]:
    """All ``P_1 .. P_K`` and ``P_0``; D has K timesteps or one value for all of them."""
    # Backwards, so that P_k comes without an inverse: D may be zero (a reset) or tiny.
    last = jnp.broadcast_to(identity(D.shape[2], D.dtype), D.shape[1:])
    last = vary(last, axes_of(D))
    if D.shape[0] == 1:
        # One D for all timesteps is closed over: a copy for each would be read for nothing.
        first, products = jax.lax.scan(
            lambda P, _: (compose(P, D[0]), P), last, None, length=length, reverse=True
        )
    else:
        first, products = jax.lax.scan(lambda P, d: (compose(P, d), P), last, D, reverse=True)
    return products, first


def temporal_errors(
    deltas: Inexact[Array, "K B d N"], D: Array, resets: Bool[Array, "K B"] | None = None
) -> tuple[Array, Array]:
    """Errors accumulated backwards through the chunk: all ``e_k``, and ``a_0``."""
    zero = jnp.zeros_like(deltas[0])

    def back(later, step):
        delta_k, D_k, reset = step
        e = delta_k + later
        return choose_zero(reset, apply_transposed(D_k, e)), e

    if D.shape[0] == 1:
        first, errors = jax.lax.scan(
            lambda later, step: back(later, (step[0], D[0], step[1])),
            zero,
            (deltas, resets),
            reverse=True,
        )
    else:
        first, errors = jax.lax.scan(back, zero, (deltas, D, resets), reverse=True)
    return errors, first


def choose_zero(where: Bool[Array, "*b"] | None, value: Array) -> Array:
    """Zero where a mask of leading axes is true (``None``: nowhere), whatever stood there."""
    if where is None:
        return value
    return jnp.where(jnp.expand_dims(where, range(where.ndim, value.ndim)), 0, value)


def outer_sum(subscripts: str, a: Inexact[Array, "..."], x: Float[Array, "..."]) -> Array:
    """``einsum`` of a possibly complex and a real array, in real arithmetic."""
    if not jnp.iscomplexobj(a):
        return jnp.einsum(subscripts, a, x)
    # Einsum would make x complex first, and do four real products in place of two.
    return jax.lax.complex(jnp.einsum(subscripts, a.real, x), jnp.einsum(subscripts, a.imag, x))
