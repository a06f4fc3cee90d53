"""Whether a value is affine in the state, proven from the code that computes it."""

import enum
from typing import Any

import jax.numpy as jnp


class Degree(enum.IntEnum):
    """How a value depends on the state."""

    NONE = 0  # not at all
    AFFINE = 1  # c + the sum of c_i h_i, where the c do not depend on the state
    OTHER = 2  # in another way, or in one that is not understood


#: Sums, and what only moves numbers about: affine in all their arguments together.
LINEAR = {
    "add", "sub", "neg", "add_any", "reduce_sum", "cumsum", "copy", "copy_p", "broadcast_in_dim",
    "convert_element_type", "reshape", "squeeze", "expand_dims", "transpose", "rev", "slice",
    "split", "concatenate", "stack", "unstack", "pad", "optimization_barrier",
}  # fmt: skip
#: Affine in the argument at this place as long as the others do not depend on the state.
LINEAR_IN = {"select_n": slice(1, None), "div": slice(0, 1), "gather": slice(0, 1),
             "dynamic_slice": slice(0, 1), "dynamic_update_slice": slice(0, 2)}  # fmt: skip
#: Affine if only one of the two arguments depends on the state.
BILINEAR = {"mul", "dot_general"}
#: Linear over the real numbers, but not over the complex ones.
REAL_LINEAR = {"real", "imag", "conj", "complex"}


class Linearity:
    """The `Degree` of a value in arguments of type ``dtype``; complex ones as complex numbers.

    What is `AFFINE` is so in exact arithmetic, and its derivative by `jax.jvp` is its slope: the
    operations allowed are all linear themselves, with their own derivative. Not among them are
    `jax.lax.stop_gradient` and custom derivatives, under which a value moves with the state and
    its derivative says something else; comparisons, roundings, and conversions to integers or to
    numbers coarser than ``dtype``; and, in complex arguments, whatever takes them apart.
    """

    of_values = False

    def constant(self, value: Any) -> Degree:
        return Degree.NONE

    def __init__(self, dtype: Any):
        self.dtype = jnp.dtype(dtype)
        self.complex = jnp.issubdtype(self.dtype, jnp.complexfloating)

    def either(self, a: Degree, b: Degree) -> Degree:
        return max(a, b)

    def chosen(self, by: Degree, value: Degree) -> Degree:
        return value if by == Degree.NONE else Degree.OTHER

    def item(self, stacked: Degree) -> Degree:
        return stacked

    stack = item

    def apply(self, eqn: Any, inputs: list[Degree]) -> list[Degree]:
        degree = max(inputs, default=Degree.NONE)
        if degree == Degree.AFFINE and not self._keeps(eqn, inputs):
            degree = Degree.OTHER
        return [degree] * len(eqn.outvars)

    def _keeps(self, eqn: Any, inputs: list[Degree]) -> bool:
        """Whether an operation on affine values gives affine ones."""
        name = eqn.primitive.name
        if not all(self._holds(out.aval.dtype) for out in eqn.outvars):
            return False
        if name in LINEAR_IN:
            rest = list(inputs)
            del rest[LINEAR_IN[name]]
            return not any(rest)
        if name in BILINEAR:
            return sum(inputs) == 1
        if name in REAL_LINEAR:
            return not self.complex
        return name in LINEAR or (name == "integer_pow" and eqn.params["y"] == 1)

    def _holds(self, dtype: Any) -> bool:
        """Whether a type has room for all numbers of the arguments' type."""
        if not jnp.issubdtype(dtype, jnp.inexact):
            return False
        if self.complex and not jnp.issubdtype(dtype, jnp.complexfloating):
            return False
        own, other = jnp.finfo(self.dtype), jnp.finfo(dtype)
        return bool(other.nmant >= own.nmant and other.maxexp >= own.maxexp)
