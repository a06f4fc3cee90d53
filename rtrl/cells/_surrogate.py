"""Spikes, and the slopes that stand in for their derivative.

A surrogate is a function of ``v``, how far the membrane is above its threshold (in units of the
membrane), that gives the slope used in place of the step's derivative; any elementwise function
will do. Those here have their maximum at the threshold and take their sharpness as an argument::

    def steep(v):
        return fast_sigmoid(v, sharpness=50.0)
    LIF(..., surrogate=steep)
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Surrogate = Callable[[Array], Array]


def fast_sigmoid(v: Float[Array, "*s"], sharpness: float = 10.0) -> Float[Array, "*s"]:
    """Give a slope with slow tails, cheap to compute.

    ::

        1 / (1 + k |v|)^2

    Args:
        v: how far the membrane is above its threshold, in units of the membrane, any shape.
        sharpness: k, in 1 over these units.

    Source: Zenke & Ganguli, "SuperSpike" (2018).
    """
    return 1 / (1 + sharpness * jnp.abs(v)) ** 2


def arctan(v: Float[Array, "*s"], sharpness: float = 2.0) -> Float[Array, "*s"]:
    """Give the derivative of a scaled arctangent.

    ::

        k / 2 / (1 + (pi k v / 2)^2)

    Args:
        v: how far the membrane is above its threshold, in units of the membrane, any shape.
        sharpness: k, in 1 over these units.

    Source: Fang et al., "Incorporating learnable membrane time constant" (2021), equation 9.
    """
    return sharpness / 2 / (1 + (jnp.pi / 2 * sharpness * v) ** 2)


def triangular(v: Float[Array, "*s"], sharpness: float = 1.0) -> Float[Array, "*s"]:
    """Give a slope that is piecewise linear, zero beyond ``1 / k`` from the threshold.

    ::

        0.3 max(0, 1 - k |v|)

    Args:
        v: how far the membrane is above its threshold, in units of the membrane, any shape.
        sharpness: k, in 1 over these units.

    Source: Bellec et al., "Long short-term memory in spiking networks" (2018), with damping 0.3.
    """
    return 0.3 * jnp.maximum(0, 1 - sharpness * jnp.abs(v))


def multi_gaussian(v: Float[Array, "*s"], width: float = 0.5) -> Float[Array, "*s"]:
    """Give a slope that is negative far from the threshold.

    ::

        (1 + a) N(v; 0, s^2) - a N(v; s, (6 s)^2) - a N(v; -s, (6 s)^2)      with a = 0.15

    Args:
        v: how far the membrane is above its threshold, in units of the membrane, any shape.
        width: s, in units of the membrane.

    Source: Yin et al., "Accurate and efficient time-domain classification with adaptive spiking
    recurrent neural networks" (2021), equation 11.
    """

    def normal(v, s):
        return jnp.exp(-((v / s) ** 2) / 2) / (s * jnp.sqrt(2 * jnp.pi))

    far = normal(v - width, 6 * width) + normal(v + width, 6 * width)
    return 1.15 * normal(v, width) - 0.15 * far


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def spike(v: Float[Array, "*s"], surrogate: Surrogate) -> Float[Array, "*s"]:
    """Give 1 where ``v > 0``, else 0; its derivative is the surrogate's.

    Args:
        v: how far the membrane is above its threshold, in units of the membrane, any shape.
        surrogate: a function of v that gives the slope used in place of the derivative.
    """
    return (v > 0).astype(v.dtype)


@spike.defjvp
def _spike_jvp(surrogate, primals, tangents):
    (v,), (tangent,) = primals, tangents
    return spike(v, surrogate), surrogate(v) * tangent


def never(v: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Give no slope at all: a spike with this surrogate is detached.

    Args:
        v: how far the membrane is above its threshold, in units of the membrane, any shape.
    """
    return jnp.zeros_like(v)
