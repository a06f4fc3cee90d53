"""What rules with random signs share: keys that a trace carries, and balanced norms."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, UInt32

from rtrl.validate import require


def check_seed(seed: int) -> None:
    ok = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0
    require(ok, "seed", "an integer of at least 0", seed)


def sample_keys(seed: int, batch_size: int | None) -> UInt32[Array, "*B 2"]:
    """One key per sample, as plain integers: a trace holds arrays."""
    # Named, as users may choose another default: the shape of the key is part of the trace's.
    key = jax.random.key(seed, impl="threefry2x32")
    return jax.random.key_data(key if batch_size is None else jax.random.split(key, batch_size))


def next_keys(key: UInt32[Array, "B 2"]) -> tuple[Array, UInt32[Array, "B 2"]]:
    """A key to draw with now for every sample, and the one to carry on."""
    keys = jax.vmap(jax.random.split)(jax.random.wrap_key_data(key, impl="threefry2x32"))
    return keys[:, 0], jax.random.key_data(keys[:, 1])


def norm(tree: PyTree[Array]) -> Float[Array, " B"]:
    """The norm of every sample's arrays together."""
    squares = [(jnp.abs(a) ** 2).reshape(len(a), -1).sum(1) for a in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros_like(squares[0])))


def balance(left: Float[Array, " B"], right: Float[Array, " B"]) -> tuple[Array, Array]:
    """Scale two factors of an outer product to equal norm: ``rho`` and ``1 / rho``.

    Where one is zero so is the product: both are zero then, which takes its random cross terms
    away with it (a reset starts afresh, a timestep that did not happen leaves no mark).
    """
    ok = (left > 0) & (right > 0)
    # Ones before the division, not after: 0 / 0 in a branch that is not taken is NaN in a
    # derivative.
    rho = jnp.sqrt(jnp.where(ok, right, 1) / jnp.where(ok, left, 1))
    return jnp.where(ok, rho, 0), jnp.where(ok, 1 / rho, 0)
