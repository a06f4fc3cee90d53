"""Large arrays that are computed where they are read, from what is there anyway.

The gradient of a matrix after one timestep is a product: of a vector with its trace, or with
another vector. A step that writes it to memory, to read it again for its norm and for the update,
takes 1.04 to 1.45 times as long with 256 modules (`bench/results/single_steps.md`). Computed anew
by whatever reads it, it is never stored.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun
from jaxtyping import Array, Float, PyTree

from rtrl.engine._jaxpr import subprograms
from rtrl.engine._record import record
from rtrl.engine._xla import seldom

#: Numbers from which an array is large.
LARGE = 1 << 10

#: Operations that take each number by itself, or move it; and products of two vectors.
SIMPLE = frozenset(
    "broadcast_in_dim convert_element_type imag jit mul neg pjit real reshape select_n squeeze "
    "transpose".split()
)


@record
class Later:
    """A tree of arrays, the large ones of which are still to be computed.

    Attributes:
        operands: from what.
        factor: what all of them are multiplied by at last; ``None`` for one.
        recipe: how.
    """

    operands: list[Array]
    factor: Float[Array, ""] | None
    recipe: "_Recipe" = eqx.field(static=True)


def computed(tree: PyTree[Array] | Later) -> PyTree[Array]:
    """The arrays of a tree that may still have to be computed."""
    if not isinstance(tree, Later):
        return tree
    arrays = tree.recipe(tree.operands)
    return arrays if tree.factor is None else _times(arrays, tree.factor)


def rarely_times(
    tree: PyTree[Array] | Later, factor: Float[Array, ""], when: Any
) -> PyTree[Array] | Later:
    """A tree times a number, which is one but in the rare case of ``when``."""
    if isinstance(tree, Later):
        return dataclasses.replace(tree, factor=factor)
    # Where it is one, the arrays stay where they are.
    return seldom(_times, when, tree, factor)


def later(
    function: Callable[..., tuple[PyTree, PyTree[Array]]],
    *operands: PyTree,
    run: Callable[..., Any],
    when: bool,
) -> tuple[PyTree, PyTree[Array] | Later]:
    """Give both results of ``function(*operands)``, the second to be computed where it is read.

    An array is left to be computed where that reads no more than the array has, from the results
    of other operations than `SIMPLE` ones.

    Args:
        function: of pytrees; its second result is one of arrays alone.
        operands: what it is called with.
        run: calls what is left of it, as `one_kernel` does.
        when: false where it does not pay: all is computed then.
    """
    if not when:
        return run(function, *operands)
    dynamic, static = eqx.partition(operands, eqx.is_array)
    leaves, structure = jax.tree.flatten(dynamic)
    about: list[Any] = []

    def of_arrays(*leaves):
        result, large = function(*eqx.combine(jax.tree.unflatten(structure, leaves), static))
        dynamic, other = eqx.partition(result, eqx.is_array)
        flat, as_result = jax.tree.flatten(dynamic)
        arrays, as_large = jax.tree.flatten(large)
        about[:] = other, as_result, as_large, len(flat)
        return [*flat, *arrays]

    closed = jax.make_jaxpr(of_arrays)(*leaves)
    other, as_result, as_large, count = about
    jaxpr, constants = closed.jaxpr, len(closed.consts)
    recipe = _Recipe(jaxpr, jaxpr.outvars[count:], as_large)
    first = jaxpr.replace(outvars=[*jaxpr.outvars[:count], *recipe.needs])

    def begin(*given):
        return jaxpr_as_fun(ClosedJaxpr(first, given[:constants]))(*given[constants:])

    found = run(begin, *closed.consts, *leaves)
    result = eqx.combine(jax.tree.unflatten(as_result, found[:count]), other)
    return result, Later(found[count:], None, recipe)


class _Recipe:
    """The last operations of a program, and the variables that they start from."""

    def __init__(self, jaxpr: Jaxpr, wanted: list[Any], structure: Any):
        made = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}
        needs: dict[Any, None] = {}  # in order
        chosen: set[int] = set()  # operations, by identity
        for v in wanted:
            from_what, eqns = _traced_back(v, made)
            if _bytes(n for n in from_what if n.aval.size >= LARGE) > _bytes([v]):
                from_what, eqns = [v], []
            needs |= dict.fromkeys(from_what)
            chosen |= set(map(id, eqns))
        self.needs = list(needs)
        self._wanted, self._structure = wanted, structure
        self._eqns = [eqn for eqn in jaxpr.eqns if id(eqn) in chosen]

    def __call__(self, operands: list[Array]) -> PyTree[Array]:
        values: dict[Any, Any] = dict(zip(self.needs, operands, strict=True))

        def value(atom):
            return atom.val if isinstance(atom, Literal) else values[atom]

        for eqn in self._eqns:
            found = eqn.primitive.bind(*map(value, eqn.invars), **eqn.params)
            several = eqn.primitive.multiple_results
            values |= zip(eqn.outvars, found if several else [found], strict=True)
        arrays = [jnp.asarray(value(v), v.aval.dtype) for v in self._wanted]  # also of constants
        return jax.tree.unflatten(self._structure, arrays)


def _traced_back(v: Any, made: dict[Any, Any]) -> tuple[list[Any], list[Any]]:
    """From what a variable is made by simple operations on large arrays, and by which."""
    needs, eqns, seen = [], [], set()

    def back(v):
        if isinstance(v, Literal) or v in seen:
            return
        seen.add(v)
        eqn = made.get(v)
        if v.aval.size < LARGE or eqn is None or not _is_simple(eqn):
            needs.append(v)
            return
        eqns.append(eqn)
        for one in eqn.invars:
            back(one)

    back(v)
    return needs, eqns


def _is_simple(eqn: Any) -> bool:
    if eqn.primitive.name == "dot_general":
        left, _ = eqn.params["dimension_numbers"][0]
        return math.prod(eqn.invars[0].aval.shape[i] for i in left) == 1
    inside = all(map(_is_simple, (one for j in subprograms(eqn) for one in j.eqns)))
    return eqn.primitive.name in SIMPLE and inside


def _bytes(variables: Iterable[Any]) -> int:
    return sum(v.aval.size * v.aval.dtype.itemsize for v in variables)


def _times(tree: PyTree[Array], factor: Float[Array, ""]) -> PyTree[Array]:
    return jax.tree.map(lambda a: a * factor.astype(a.dtype), tree)
