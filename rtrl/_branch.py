"""A branch that costs nothing where it can, and keeps XLA from computing things twice."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree


def branch(
    predicate: Bool[Array, ""],
    take: Callable[..., PyTree[Array]],
    leave: Callable[..., PyTree[Array]],
    *operands: PyTree[Array],
) -> PyTree[Array]:
    """Give ``take(*operands)`` where ``predicate`` is true, else ``leave(*operands)``.

    On a CPU one of the two runs. XLA writes what goes into a branch to memory once, where it would
    otherwise compute it again for every array that is made of it, and would copy a large array
    that is both read and overwritten. Elsewhere both run and the result is chosen: a branch would
    make a GPU wait for the host.
    """

    def one(*operands):
        return jax.lax.cond(predicate, take, leave, *operands)

    def both(*operands):
        return jax.tree.map(
            lambda a, b: jnp.where(predicate, a, b), take(*operands), leave(*operands)
        )

    return jax.lax.platform_dependent(*operands, cpu=one, default=both)
