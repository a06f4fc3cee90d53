"""The structure of a cell, read off its code: which leaves do what, and whether it is affine."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array, PyTree

from rtrl.cells import Cell
from rtrl.engine._affinity import Affinity, Degree
from rtrl.engine._dependence import Dependence
from rtrl.engine._jaxpr import Analysis, classify, trace
from rtrl.engine._modules import Modules, all_weights


class AbstractArray(NamedTuple):
    """An array's shape and dtype, hashable."""

    shape: tuple[int, ...]
    dtype: Any


def signature(cell: Cell) -> tuple[Any, tuple[Any, ...]]:
    """All of a cell but the values of its arrays."""
    leaves, treedef = jax.tree.flatten(cell)
    return treedef, tuple(
        AbstractArray(leaf.shape, leaf.dtype) if eqx.is_array_like(leaf) and hasattr(leaf, "dtype")
        else leaf
        for leaf in leaves
    )  # fmt: skip


def with_values(signature: tuple[Any, tuple[Any, ...]], value: Callable[[AbstractArray], Any]):
    """A cell of this signature with other arrays."""
    treedef, leaves = signature
    return jax.tree.unflatten(
        treedef, [value(leaf) if isinstance(leaf, AbstractArray) else leaf for leaf in leaves]
    )


class Structure(NamedTuple):
    """What a cell's code says of itself, the same for all values of its arrays.

    Attributes:
        module_leaves: indices of the parameter leaves that ``update`` uses: module parameters.
        projection_leaves: indices of those that ``project`` and ``recurrent`` use.
        affine: whether ``update`` is affine in ``(h, v)``, so that its derivatives see no state.
            Then ``update(h, u) = D h + update(0, u)`` for independent modules.
    """

    module_leaves: tuple[int, ...]
    projection_leaves: tuple[int, ...]
    affine: bool


def structure(modules: Modules) -> Structure:
    """Read off a cell's code what the engine may rely on."""
    return _structure(signature(modules.cell))


class Code(NamedTuple):
    """What a function of a cell and a timestep does, whatever the values of all arrays.

    Attributes:
        jaxpr: inputs are all arrays of the cell, the state, what enters the timestep, and for a
            derivative the tangents of these and of the parameters.
        leaves: which of the inputs are the cell's parameters, in their order.
        h, u, v: which are the state, the projected inputs and the recurrent ones.
        tangents: which are the tangents, of the parameters, h, u and v.
    """

    jaxpr: ClosedJaxpr
    leaves: tuple[int, ...]
    h: int
    u: tuple[int, ...]
    v: tuple[int, ...]
    tangents: tuple[int, ...]

    def shape(self, i: int) -> tuple[int, ...]:
        return self.jaxpr.in_avals[i].shape

    def is_complex(self, i: int) -> bool:
        return jnp.issubdtype(self.jaxpr.in_avals[i].dtype, jnp.complexfloating)

    def classify(self, analysis: Analysis, classes: dict[int, Any]) -> list[Any]:
        """Classify the outputs; inputs that are not named are not asked about."""
        count = len(self.jaxpr.jaxpr.invars)
        return classify(self.jaxpr, [classes.get(i, analysis.free) for i in range(count)], analysis)


def read_code(
    signature: tuple[Any, tuple[Any, ...]],
    function: Callable[..., PyTree],
    *,
    derivative: bool = False,
) -> Code:
    """Trace a function of ``(modules, h, w)`` for a cell of this signature.

    ``derivative``: a fourth argument are tangents, ``(parameters, h, w)``.

    Raises:
        ValueError: the cell's Python code looks at the values of arrays.
    """
    arrays = [jax.ShapeDtypeStruct(*a) for a in signature[1] if isinstance(a, AbstractArray)]

    def modules(arrays: list[Array]) -> Modules:
        remaining = iter(arrays)
        return Modules(with_values(signature, lambda _: next(remaining)))

    try:
        h, w = jax.eval_shape(lambda arrays: modules(arrays).example(), arrays)
        parameters = [a for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact)]
        tangents = [(parameters, h, w)] if derivative else []
        code = trace(
            lambda arrays, h, w, *tangents: function(modules(arrays), h, w, *tangents),
            arrays, h, w, *tangents,
        )  # fmt: skip
    except jax.errors.ConcretizationTypeError as error:
        name = type(with_values(signature, lambda a: a)).__name__
        raise ValueError(
            f"{name}: expected methods that do the same whatever the values of arrays (choose with "
            f"jnp.where), got Python code that looks at a value: {error}"
        ) from error
    count = len(jax.eval_shape(lambda arrays: modules(arrays).weights(), arrays))
    state = len(arrays)
    first, last = state + 1, state + 1 + len(w)
    return Code(
        code,
        tuple(i for i, a in enumerate(arrays) if jnp.issubdtype(a.dtype, jnp.inexact)),
        state,
        tuple(range(first, first + count)),
        tuple(range(first + count, last)),
        tuple(range(last, len(code.in_avals))),
    )


@functools.lru_cache(maxsize=256)
def _structure(signature: tuple[Any, tuple[Any, ...]]) -> Structure:
    code = read_code(signature, lambda m, h, w: (m.update(h, w), all_weights(m.cell)))
    # One walk tells of every leaf where it goes.
    update, *weights = code.classify(Dependence(), {i: frozenset([i]) for i in code.leaves})
    projections = frozenset().union(*weights)

    asked = dict.fromkeys((code.h, *code.v), Degree.AFFINE)
    degree, *_ = code.classify(Affinity(over_complex=code.is_complex(code.h)), asked)
    return Structure(
        module_leaves=tuple(k for k, i in enumerate(code.leaves) if i in update),
        projection_leaves=tuple(k for k, i in enumerate(code.leaves) if i in projections),
        affine=degree <= Degree.AFFINE,
    )
