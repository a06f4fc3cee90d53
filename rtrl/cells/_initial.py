"""Initialisations that cells share: input weights, time constants, gates that hold for a time."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl._validate import require


def check_sizes(in_size: int, hidden_size: int) -> None:
    require(in_size >= 1, "in_size", "at least 1", in_size)
    require(hidden_size >= 1, "hidden_size", "at least 1", hidden_size)


def weight(in_size: int, hidden_size: int, *, key: PRNGKeyArray) -> Float[Array, "N H"]:
    """Draw an input weight, normal with variance ``1 / H``."""
    check_sizes(in_size, hidden_size)
    return jax.random.normal(key, (hidden_size, in_size)) / math.sqrt(in_size)


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
