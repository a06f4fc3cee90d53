"""Complex arrays as real ones: the plane axis (real part, imaginary part) sits right before N."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float


def to_planes(a: Complex[Array, "..."], *, after: int) -> Float[Array, "..."]:
    """Split a complex array: ``(..., N, *rest)`` to ``(..., 2, N, *rest)``.

    Args:
        a: any complex array.
        after: how many axes follow the plane axis: 1 where modules are last (D, J, deltas), 2 for a
            trace or a gradient, ``(..., N, H)``.
    """
    return jnp.stack([a.real, a.imag], axis=a.ndim - after)


def from_planes(a: Float[Array, "..."], *, after: int) -> Complex[Array, "..."]:
    """Undo `to_planes`."""
    axis = a.ndim - after - 1
    real, imag = (jax.lax.index_in_dim(a, p, axis, keepdims=False) for p in (0, 1))
    return jax.lax.complex(real, imag)
