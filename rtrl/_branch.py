"""Control flow that keeps XLA on a CPU from computing things twice and from copying them."""

import functools
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


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def in_place(change: Callable[..., PyTree[Array]], value: PyTree[Array], *operands: PyTree[Array]):
    """Give ``change(value, *operands)``, computed once and in the memory of ``value``.

    XLA on a CPU computes an elementwise result again inside everything that reads it, which keeps
    the old value alive and costs a copy of it. A loop of one round that it can't foresee does not
    let it.
    """

    def loop(value, *operands):
        def once(carry):
            _, value = carry
            return jnp.zeros((), bool), change(value, *operands)

        unforeseen = jax.lax.optimization_barrier(jnp.ones((), bool))
        return jax.lax.while_loop(lambda carry: carry[0], once, (unforeseen, value))[1]

    return jax.lax.platform_dependent(value, *operands, cpu=loop, default=change)


@in_place.defjvp
def _derivative(change, primals, tangents):
    return jax.jvp(change, primals, tangents)


class _Planes(NamedTuple):
    """The parts of a complex array; an array of its own for each is quicker to work with."""

    real: Array
    imag: Array


def _split(tree: PyTree[Array]) -> PyTree:
    return jax.tree.map(lambda a: _Planes(a.real, a.imag) if jnp.iscomplexobj(a) else a, tree)


def _join(node: Array | _Planes) -> Array:
    return jax.lax.complex(*node) if isinstance(node, _Planes) else node
