"""What an input held over a timestep adds to the state of a linear system."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

NEAR = 0.1  # |lambda Delta| below which the derivative is a series: its difference would cancel
# Of (exp(z) - 1) / z: 1 / (k + 1)!. The rest at NEAR is below rounding in double precision.
COEFFICIENTS = [1 / math.factorial(k + 1) for k in range(10)]


@jax.custom_jvp
def hold_gain(eigenvalue: Inexact[Array, "*s"], delta: Float[Array, "*s"]) -> Inexact[Array, "*s"]:
    """``(exp(lambda Delta) - 1) / lambda``, which is Delta at ``lambda = 0``.

    The state at the end of ``dh/dt = lambda h + u``, ``h = 0`` at its start, for a constant u of 1.

    Args:
        eigenvalue: lambda, real or complex, its real part at most 0.
        delta: the length of the timestep, positive.
    """
    return delta * _relative(eigenvalue * delta)


@hold_gain.defjvp
def _hold_gain_jvp(primals, tangents):
    eigenvalue, delta = primals
    to_eigenvalue, to_delta = tangents
    z = eigenvalue * delta
    gain = delta * _relative(z)
    near = _size(z) < NEAR
    series = delta * _series(jnp.where(near, z, 0)) * (delta * to_eigenvalue)
    # (Delta exp(z) - gain) / lambda, in an order that neither overflows nor divides by zero.
    quotient = _divide(to_eigenvalue, jnp.where(near, 1, eigenvalue))
    difference = (delta * jnp.exp(z) - gain) * quotient
    return gain, jnp.where(near, series, difference) + jnp.exp(z) * to_delta


def _relative(z: Inexact[Array, "*s"]) -> Inexact[Array, "*s"]:
    """``(exp(z) - 1) / z``."""
    tiny = _size(z) < 1e-17  # there it is 1 to rounding, also in double precision
    return jnp.where(tiny, 1, _divide(_expm1(z), jnp.where(tiny, 1, z)))


def _series(z: Inexact[Array, "*s"]) -> Inexact[Array, "*s"]:
    """The derivative of `_relative` near zero."""
    total = jnp.zeros_like(z)
    for k in reversed(range(1, len(COEFFICIENTS))):
        total = total * z + k * COEFFICIENTS[k]
    return total


def _size(z: Inexact[Array, "*s"]) -> Float[Array, "*s"]:
    return jnp.maximum(jnp.abs(z.real), jnp.abs(z.imag)) if jnp.iscomplexobj(z) else jnp.abs(z)


def _expm1(z: Inexact[Array, "*s"]) -> Inexact[Array, "*s"]:
    """``exp(z) - 1`` without cancellation, also of complex numbers."""
    if not jnp.iscomplexobj(z):
        return jnp.expm1(z)
    a, b = z.real, z.imag
    less = jnp.expm1(a) * jnp.cos(b) - 2 * jnp.sin(b / 2) ** 2
    return jax.lax.complex(less, jnp.exp(a) * jnp.sin(b))


def _divide(a: Inexact[Array, "*s"], z: Inexact[Array, "*s"]) -> Inexact[Array, "*s"]:
    """``a / z``; complex without squaring the size of z, which would overflow."""
    if not jnp.iscomplexobj(z):
        return a / z
    size = _size(z)
    unit = jax.lax.complex(z.real / size, z.imag / size)
    return a * jnp.conj(unit) / (unit.real**2 + unit.imag**2) / size
