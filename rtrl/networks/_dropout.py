"""Dropout by one key for all timesteps, or by one for each."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray


def per_timestep(key: Any) -> bool:
    """Whether it is keys with a time axis; a key of the old kind has an axis of its own."""
    return key.ndim == (1 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 2)


def split(key: PRNGKeyArray | None, count: int) -> Any:
    """Give a key for each of several uses; where there is one for every timestep, so have these."""
    if key is None:
        return [None] * count
    if not per_timestep(key):
        return jax.random.split(key, count)
    return jnp.swapaxes(jax.vmap(lambda one: jax.random.split(one, count))(key), 0, 1)


def dropout(y: Array, key: PRNGKeyArray | None, rate: float) -> Array:
    """Drop numbers of ``(time, ...)`` with probability ``rate``; none without a key."""
    if key is None or rate == 0:
        return y
    if per_timestep(key):
        kept = jax.vmap(lambda one: jax.random.bernoulli(one, 1 - rate, y.shape[1:]))(key)
    else:
        kept = jax.random.bernoulli(key, 1 - rate, y.shape)
    return jnp.where(kept, y / (1 - rate), 0)
