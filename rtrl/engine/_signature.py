"""A cell without the values of its arrays: all that a proof may use."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from rtrl.cells import Cell


class AbstractArray(NamedTuple):
    """An array's shape and dtype, hashable."""

    shape: tuple[int, ...]
    dtype: Any


class Constant:
    """A leaf that is not an array; 1, 1.0 and True are not the same, nor are 0.0 and -0.0."""

    __slots__ = ("value", "identity")

    def __init__(self, value: Any):
        self.value = value
        self.identity = (type(value), repr(value) if isinstance(value, float) else value)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.identity == other.identity


class Signature(NamedTuple):
    """All of a cell but the values of its arrays; JAX's precision, too, decides what it does."""

    treedef: Any
    leaves: tuple[AbstractArray | Constant, ...]
    double: bool

    def arrays(self) -> list[jax.ShapeDtypeStruct]:
        return [
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
            for leaf in self.leaves
            if isinstance(leaf, AbstractArray)
        ]

    def learned(self) -> list[int]:
        """Which of the arrays are parameters, the leaves of `Modules`."""
        return [i for i, a in enumerate(self.arrays()) if jnp.issubdtype(a.dtype, jnp.inexact)]

    def cell(self, arrays: list[Any]) -> Cell:
        """A cell of this signature with these arrays."""
        rest = iter(arrays)
        leaves = [leaf.value if isinstance(leaf, Constant) else next(rest) for leaf in self.leaves]
        return jax.tree.unflatten(self.treedef, leaves)


def signature(cell: Cell) -> Signature:
    leaves, treedef = jax.tree.flatten(cell)
    return Signature(
        treedef,
        tuple(
            AbstractArray(leaf.shape, leaf.dtype)
            if eqx.is_array_like(leaf) and hasattr(leaf, "dtype")
            else Constant(leaf)
            for leaf in leaves
        ),
        jax.config.jax_enable_x64,  # type: ignore[attr-defined]
    )


def trace_abstractly(signature: Signature, function: Callable[..., Any], *arguments: Any) -> Any:
    """The jaxpr of ``function(cell, *arguments)``: it holds for all values of the cell's arrays.

    They are its first arguments, then come those of ``arguments``.

    Raises:
        ValueError: the code is not the same for all values.
    """
    name = type(signature.cell(signature.arrays())).__name__
    try:
        return jax.make_jaxpr(lambda arrays, *rest: function(signature.cell(arrays), *rest))(
            signature.arrays(), *arguments
        )
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    ) as error:
        raise ValueError(
            f"{name}: expected code that is the same for all values of its arrays, got one where "
            "Python looks at the value of an array; use jnp.where or jax.lax.cond, or make the "
            f"array a static field. {error}"
        ) from error
