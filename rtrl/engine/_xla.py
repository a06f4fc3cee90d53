"""What keeps XLA on a CPU from computing things twice and from copying them.

The one place that knows of such habits. Each trick stands with its measurement (`bench/tricks.py`:
`bench/results/tricks.md`, two cores, JAX 0.10.2): what the plain form takes over what the trick
takes, in a whole learner of four layers, N = 64, H = 128, and by itself where that shows nothing.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact, PyTree

from rtrl.engine._varying import axes_of, vary


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

    Measured: a learner of single timesteps takes 4.9 times as long without it for LRUs, 1.4 times
    for leaky integrators; with 16 samples side by side it costs, 0.95 and 0.85 times.
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

    Measured: without it every trace is copied once a timestep, with it none is; a learner of single
    timesteps takes 1.09 times as long without it for LRUs, 1.05 times for leaky integrators.
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


def global_norm(tree: PyTree[Array], *, spread: bool = False) -> Float[Array, ""]:
    """Euclidean norm of all numbers in a tree; ``spread``: over devices, see `_total`."""
    return jnp.sqrt(_total(jax.tree.leaves(tree), lambda a: jnp.square(jnp.abs(a)), spread))


def all_finite(tree: PyTree[Array], *, spread: bool = False) -> Bool[Array, ""]:
    """Say whether all floating-point numbers in a tree are finite."""
    leaves = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    return jnp.isfinite(_total(leaves, lambda a: jnp.abs(a) * 0, spread))


def total(leaves: list[Array]) -> Float[Array, ""]:
    """Sum all numbers of some arrays."""
    return _total(leaves, lambda a: a)


def total_square(
    leaves: list[Array], axes: int = 0, *, spread: bool = False
) -> Float[Array, "*samples"]:
    """Sum the squares of all numbers; of each sample, where there is a leading axis of samples.

    In single precision at least, where that of a half would overflow at 256.
    """

    def square(a: Array) -> Array:
        a = jnp.abs(a)
        return jnp.square(a.astype(jnp.promote_types(a.dtype, jnp.float32)))

    if not axes:
        return _total(leaves, square, spread)
    if spread:
        zero = jnp.zeros(len(leaves[0]))
        return sum((square(a).sum(range(1, a.ndim)) for a in leaves), zero)
    return sum((square(a).reshape(len(a), -1).sum(1) for a in leaves), jnp.zeros(len(leaves[0])))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def seldom(
    change: Callable[..., PyTree[Array]],
    predicate: Bool[Array, ""],
    value: PyTree[Array],
    *operands: PyTree[Array],
):
    """Give ``change(value, *operands)`` in the rare case of ``predicate``, else ``value``.

    On a CPU a loop of no round or one, which leaves the value where it is: a branch that gives back
    what it is given copies it. Elsewhere both are computed and one is chosen, as in `branch`.
    """

    def loop(predicate, value, *operands):
        def once(carry):
            return carry[0] & False, change(carry[1], *operands)  # false, wherever it varies

        predicate = vary(predicate, axes_of((value, operands)))
        return jax.lax.while_loop(lambda carry: carry[0], once, (predicate, value))[1]

    def both(predicate, value, *operands):
        return jax.tree.map(
            lambda a, b: jnp.where(predicate, a, b), change(value, *operands), value
        )

    return jax.lax.platform_dependent(predicate, value, *operands, cpu=loop, default=both)


@seldom.defjvp
def _derivative_of_seldom(change, primals, tangents):
    predicate, *primals = primals

    def choose(value, *operands):
        return jax.lax.cond(predicate, change, lambda value, *_: value, value, *operands)

    return jax.jvp(choose, tuple(primals), tangents[1:])


def after(predicate: Bool[Array, ""], finite: PyTree[Array]) -> Bool[Array, ""]:
    """Give a predicate, once the smallest array of a tree of finite numbers is there.

    What reads the traces (the update of the parameters, by the gradient) has then been computed.
    XLA on a CPU would copy a trace that may still be read when `seldom` is about to change it.

    Measured: without it every trace is copied twice a timestep, with it none is
    (``tests/learners/test_learner.py``).
    """
    there = [a for a in jax.tree.leaves(finite) if a.size]
    if not there:
        return predicate
    smallest = min(there, key=lambda a: a.size)
    return predicate | ~jnp.isfinite(smallest.reshape(-1)[0])


def _total(
    leaves: list[Array], term: Callable[[Array], Array], spread: bool = False
) -> Float[Array, ""]:
    """Sum the real ``term`` over all numbers.

    XLA on a CPU does not vectorise a sum over everything, and every sum is a call that takes longer
    than a few hundred numbers. So arrays of one shape are added up first, number by number, and
    the rows of what comes out are summed by a matrix product.
    """
    if spread:  # over devices: one number of every array travels, where reshaping would move all
        return jnp.stack([term(a).sum() for a in leaves if a.size]).sum()
    alike: dict[Any, list[Array]] = {}
    for a in filter(lambda a: a.size, leaves):
        alike.setdefault((a.shape, a.dtype), []).append(a)
    sums = []
    for arrays in alike.values():
        # More in one loop take long to compile, and large ones long to run.
        most = 32 if arrays[0].size <= 1 << 14 else 4
        for i in range(0, len(arrays), most):
            some = arrays[i : i + most]
            t = functools.reduce(jnp.add, map(term, some))
            if t.ndim > 1:
                ones = jnp.ones(t.shape[-1], t.dtype)
                t = jnp.matmul(t.reshape(-1, t.shape[-1]), ones, precision="highest")
            sums.append(t.reshape(-1))
    dtype = jnp.result_type(*(t.dtype for t in sums))
    return jnp.concatenate([t.astype(dtype) for t in sums]).sum()


def sum_over_samples(
    term: Callable[..., Array], *arrays: Inexact[Array, "samples ..."], products: bool = False
) -> Array:
    """``term(*arrays).sum(0)``, of a ``term`` that takes each sample for itself.

    XLA on a CPU does not vectorise a sum over the first axis of what was computed; here it is
    written out, sixteen samples at a time, which takes longer to compile. Complex numbers that are
    multiplied alone, ``products``, XLA sums well by itself, if they are not more.

    Measured: 250 us in place of 91 for 16 samples of 256 times 256 numbers.
    """

    def some(arrays):
        if products and jnp.iscomplexobj(arrays[-1]):
            return term(*arrays).sum(0)
        each = [term(*(a[i] for a in arrays)) for i in range(len(arrays[0]))]
        # Halves are added in single precision, as JAX does.
        kind = jnp.promote_types(each[0].dtype, jnp.float32)
        return functools.reduce(jnp.add, [one.astype(kind) for one in each])

    def written_out(*arrays):
        first = len(arrays[0]) % 16 or 16  # more in one loop take long to compile

        def add(i, total):  # by index, as a scan over groups would copy them all
            place = first + 16 * i
            return total + some([jax.lax.dynamic_slice_in_dim(a, place, 16) for a in arrays])

        total = some([a[:first] for a in arrays])
        if groups := (len(arrays[0]) - first) // 16:
            total = jax.lax.fori_loop(0, groups, add, total)
        return total.astype(jnp.result_type(*arrays))

    if len(arrays[0]) == 1:
        return term(*(a[0] for a in arrays))
    return jax.lax.platform_dependent(
        *arrays, cpu=written_out, default=lambda *arrays: term(*arrays).sum(0)
    )


def sum_over_time(a: Inexact[Array, "K *rest"]) -> Array:
    """``a.sum(0)``, without axes of length 1.

    With them XLA on a CPU hands a sum of products to a library that takes longer.

    Measured: 38 us in place of 9 for a chunk of 64 timesteps of 64 modules, the call included; in a
    whole learner it does not show (0.99 to 1.06).
    """
    return a.reshape(len(a), -1).sum(0).reshape(a.shape[1:])


def sum_over_few(a: Inexact[Array, "..."], axis: int) -> Array:
    """``a.sum(axis)`` of an axis of a few numbers, written out.

    XLA on a CPU does not vectorise a sum over an axis of two or three.
    """
    if a.shape[axis] > 8:  # long when written out
        return a.sum(axis)
    terms = (jax.lax.index_in_dim(a, i, axis, keepdims=False) for i in range(a.shape[axis]))
    return functools.reduce(jnp.add, terms)
