"""Proof that a value is affine in the state, and that its derivative is the slope."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from rtrl.engine._jaxpr import Analysis


class Degree(IntEnum):
    """How a value depends on the inputs asked about."""

    INDEPENDENT = 0
    AFFINE = 1
    ANYTHING = 2


class Affinity(Analysis):
    """Whether a value is affine in the inputs asked about, and its derivative is the true slope.

    The first matters because the engine adds up ``D h + update(0, u)``; the second because D is
    what ``jax.jvp`` says: behind ``stop_gradient`` or a custom derivative a value moves with the
    state, and its derivative does not tell.

    Args:
        over_complex: the inputs are complex, and affine is to mean with one complex slope: then
            parts and conjugates of them are not.
    """

    free = Degree.INDEPENDENT
    derivatives_matter = True

    def __init__(self, over_complex: bool):
        self.over_complex = over_complex

    def anything(self, classes: Sequence[Degree]) -> Degree:
        return Degree.ANYTHING if max(classes, default=self.free) > self.free else self.free

    def either(self, a: Degree, b: Degree) -> Degree:
        return max(a, b)

    def apply(self, eqn: JaxprEqn, classes: list[Degree]) -> list[Degree]:
        name = eqn.primitive.name
        if name == "optimization_barrier":
            return classes
        proven = (
            name in LINEAR
            or (name in COMPLEX_PARTS and not self.over_complex)
            or (name in BILINEAR and sum(c > self.free for c in classes) == 1)
            or (name in LINEAR_IN_FIRST and not any(classes[1:]))
            or (name in LINEAR_IN_ALL_BUT_FIRST and classes[0] == self.free)
            or (name in SCATTERS and classes[1] == self.free)
            or (name == "convert_element_type" and not _drops_imaginary(eqn))
            or (name == "integer_pow" and eqn.params["y"] == 1)
        )
        exact = _rounds_no_coarser(eqn, [c > self.free for c in classes])
        degree = max(classes) if proven and exact else self.anything(classes)
        return [degree] * len(eqn.outvars)


#: Sums of their operands, and rearrangements.
LINEAR = {
    "add", "add_any", "sub", "neg", "reduce_sum", "cumsum", "broadcast_in_dim", "reshape",
    "squeeze", "transpose", "expand_dims", "slice", "rev", "concatenate", "stack", "unstack",
    "split", "pad", "copy", "copy_p", "pvary", "pcast",
}  # fmt: skip


BILINEAR = {"mul", "dot_general"}


LINEAR_IN_FIRST = {"div", "gather", "dynamic_slice"}  # the others divide, or say where


LINEAR_IN_ALL_BUT_FIRST = {"select_n"}


SCATTERS = {"scatter", "scatter-add", "scatter_add"}  # operand, where, updates


#: Linear over the real numbers only.
COMPLEX_PARTS = {"real", "imag", "complex", "conj"}


def _rounds_no_coarser(eqn: JaxprEqn, asked: list[bool]) -> bool:
    """Whether the result has the precision and range of every operand that is asked about."""
    after = _dtype(eqn.outvars[0])
    for atom, matters in zip(eqn.invars, asked, strict=True):
        before = _dtype(atom)
        if not matters or before == after:
            continue
        if not (jnp.issubdtype(before, jnp.inexact) and jnp.issubdtype(after, jnp.inexact)):
            return False
        small, large = jnp.finfo(before), jnp.finfo(after)
        if large.nmant < small.nmant or large.maxexp < small.maxexp:
            return False
    return True


def _drops_imaginary(eqn: JaxprEqn) -> bool:
    before, after = _dtype(eqn.invars[0]), _dtype(eqn.outvars[0])
    return jnp.issubdtype(before, jnp.complexfloating) and jnp.issubdtype(after, jnp.floating)


def _dtype(atom: Any) -> Any:
    return atom.aval.dtype
