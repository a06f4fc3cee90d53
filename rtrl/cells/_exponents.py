"""Exponentials of parameters that an optimizer may push anywhere: finite, derivatives included.

Where a cell would have an infinity it has a number times zero next to it, and NaN as its
derivative. Each function here is its equation to rounding wherever float32 can tell; beyond, it is
constant (`capped`), and the caps are part of the cells' equations.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

#: Of the logarithm of an angle, radians: beyond, neighbouring float32 numbers are turns apart.
ANGLE_LOG = 20.0
#: Of the logarithm of a gain: 2e17, so that its product with states and angles is still a float32.
GAIN_LOG = 40.0
#: Of the logarithm of a rate: ``exp(-exp(7))`` is zero also in double precision.
RATE_LOG = 7.0
#: Of the logarithm of a growth in one timestep: 1e26.
GROWTH_LOG = 60.0

TINY_LOG = -30.0  # of a rate x at which sqrt(1 - exp(-2 x)) = sqrt(2 x), to 1e-13


def capped(x: Float[Array, "*s"], top: float) -> Float[Array, "*s"]:
    """``min(x, top)``, with derivative 1 up to ``top`` and 0 beyond."""
    return jnp.where(x > top, top, x)


def decay(rate_log: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """``exp(-exp(rate_log))``: from 1, where the rate is nothing, to 0."""
    return jnp.exp(-jnp.exp(capped(rate_log, RATE_LOG)))


def leak(tau_log: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """``exp(-1 / tau)``, tau in timesteps."""
    return decay(-tau_log)


def normaliser(rate_log: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """``sqrt(1 - r^2)`` for ``r = exp(-exp(rate_log))``, also where r rounds to 1.

    There ``sqrt`` has an infinite derivative at zero; that by ``rate_log`` is half the value.
    """
    tiny = rate_log < TINY_LOG
    rate = jnp.exp(capped(jnp.where(tiny, TINY_LOG, rate_log), RATE_LOG))
    small = jnp.exp((jnp.where(tiny, rate_log, TINY_LOG) + math.log(2)) / 2)
    return jnp.where(tiny, small, jnp.sqrt(-jnp.expm1(-2 * rate)))


def log_softplus(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """``log(log(1 + exp(x)))``, which is x where ``exp(x)`` underflows."""
    tiny = x < TINY_LOG
    return jnp.where(tiny, x, jnp.log(jax.nn.softplus(jnp.where(tiny, TINY_LOG, x))))
