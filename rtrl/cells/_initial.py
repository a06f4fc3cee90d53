"""Initialisations that cells share: input weights, time constants, gates that hold for a time."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rtrl.validate import require


def check_sizes(in_size: int, hidden_size: int) -> None:
    require(in_size >= 1, "in_size", "at least 1", in_size)
    require(hidden_size >= 1, "hidden_size", "at least 1", hidden_size)


def weight(in_size: int, hidden_size: int, *, key: PRNGKeyArray) -> Float[Array, "N H"]:
    """Draw an input weight, normal with variance ``1 / H``."""
    check_sizes(in_size, hidden_size)
    return jax.random.normal(key, (hidden_size, in_size)) / math.sqrt(in_size)


def dense_weight(hidden_size: int, *, gain: float = 1.0, key: PRNGKeyArray) -> Float[Array, "N N"]:
    """Draw a recurrent weight, normal with variance ``gain^2 / N``, independent of `weight`."""
    require(gain > 0, "gain", "a positive number", gain)
    own = jax.random.fold_in(key, 1)
    return gain / math.sqrt(hidden_size) * jax.random.normal(own, (hidden_size, hidden_size))


def log_uniform(
    low: float, high: float, hidden_size: int, *, key: PRNGKeyArray, name: str = "tau"
) -> Float[Array, " N"]:
    """Draw the logarithm of a time (timesteps), uniform between those of its bounds."""
    require(low > 0, f"{name}_min", "a positive number of timesteps", low)
    require(high >= low, f"{name}_max", f"at least {name}_min = {low}", high)
    return jax.random.uniform(key, (hidden_size,), minval=math.log(low), maxval=math.log(high))


def hold(tau_log: Float[Array, " N"]) -> Float[Array, " N"]:
    """The bias at which a sigmoid gate forgets over tau timesteps: ``sigmoid(b) = exp(-1/tau)``."""
    return -jnp.log(jnp.expm1(jnp.exp(-tau_log)))


def chrono(nu0: float, hidden_size: int, *, key: PRNGKeyArray) -> Float[Array, " N"]:
    """The bias of a forget gate that holds for T timesteps, T uniform in [1, 2] / (1 - nu0):
    ``sigmoid(b) = T / (1 + T)``. Source: Zucchet et al. (2023), appendix A; Tallec & Ollivier, "Can
    recurrent neural networks warp time?" (2018)."""
    require(0 <= nu0 < 1, "nu0", "a decay in [0, 1)", nu0)
    low = 1 / (1 - nu0)
    return jnp.log(jax.random.uniform(key, (hidden_size,), minval=low, maxval=2 * low))


def connections(
    hidden_size: int, density: float, *, key: PRNGKeyArray
) -> Bool[Array, "N N"] | None:
    """Draw which recurrent weights there are: a share ``density`` of them, ``None`` for all."""
    require(0 < density <= 1, "density", "a share in (0, 1]", density)
    if density == 1:
        return None
    own = jax.random.fold_in(key, 2)
    return jax.random.bernoulli(own, density, (hidden_size, hidden_size))
