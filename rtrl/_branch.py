"""A branch that costs nothing where it can, and keeps XLA from computing things twice."""

from collections.abc import Callable
from typing import NamedTuple

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
        planes = jax.lax.cond(
            predicate, lambda *o: _split(take(*o)), lambda *o: _split(leave(*o)), *operands
        )
        return jax.tree.map(_join, planes, is_leaf=lambda node: isinstance(node, _Planes))

    def both(*operands):
        return jax.tree.map(
            lambda a, b: jnp.where(predicate, a, b), take(*operands), leave(*operands)
        )

    return jax.lax.platform_dependent(*operands, cpu=one, default=both)


class _Planes(NamedTuple):
    """The parts of a complex array; an array of its own for each is quicker to work with."""

    real: Array
    imag: Array


def _split(tree: PyTree[Array]) -> PyTree:
    return jax.tree.map(lambda a: _Planes(a.real, a.imag) if jnp.iscomplexobj(a) else a, tree)


def _join(node: Array | _Planes) -> Array:
    return jax.lax.complex(*node) if isinstance(node, _Planes) else node
