"""Traces that are kept in fewer bits: which of them, and when they are rounded."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree, UInt32

from rtrl.engine._carry import Carry, is_carry
from rtrl.engine._narrow import WIDTHS, can_narrow, narrow, widen
from rtrl.engine._rule import Rule
from rtrl.engine._trace import Trace
from rtrl.validate import require


def check_trace_dtype(dtype: str, rule: Rule) -> None:
    """Raise a `ValueError` unless a rule's traces can be kept so."""
    require(dtype in WIDTHS, "trace_dtype", "'float32', 'bfloat16' or 'int8'", dtype)
    fits = dtype == "float32" or getattr(rule, "trace_type", None) is Trace
    expected = f"'float32' with {rule}, whose trace is not one number per parameter"
    require(fits, "trace_dtype", expected, dtype)


def widened(carry: PyTree[Carry]) -> PyTree[Carry]:
    """What a network carries, with traces to be computed with."""
    return jax.tree.map(
        lambda c: dataclasses.replace(c, trace=widen(c.trace)), carry, is_leaf=is_carry
    )


def narrowed(carry: PyTree[Carry], dtype: str, time: UInt32[Array, ""]) -> PyTree[Carry]:
    """What a network carries, with traces to be kept; for float32 as it is.

    ``time`` changes with every rounding. Of int8 only the traces of weights are, a scale for every
    module: those of module parameters are one number each.

    Raises:
        ValueError: traces of other numbers than those of single precision.
    """
    if dtype == "float32":
        return carry
    traces = [c.trace for c in jax.tree.leaves(carry, is_leaf=is_carry)]
    leaves, structure = jax.tree.flatten(traces)
    small = {id(a) for t in traces for a in t.modules.values()} if dtype == "int8" else set()

    def one(number: int, a: Any) -> Any:
        if id(a) in small or not can_narrow(a, dtype):
            return a
        single = a.dtype in (jnp.float32, jnp.complex64)
        require(
            single, "trace_dtype", "'float32' for a model that is not in single precision", dtype
        )
        return narrow(a, dtype, time, number)

    kept = iter(jax.tree.unflatten(structure, [one(*item) for item in enumerate(leaves)]))
    return jax.tree.map(lambda c: dataclasses.replace(c, trace=next(kept)), carry, is_leaf=is_carry)


def require_kept(carry: PyTree[Carry], like: PyTree[Carry], dtype: str) -> None:
    """Raise a `ValueError` unless a carry keeps its traces as one that has just been narrowed."""
    found, wanted = (
        jax.tree.structure([c.trace for c in jax.tree.leaves(tree, is_leaf=is_carry)])
        for tree in (carry, like)
    )
    require(found == wanted, "state", f"one with traces in {dtype}, from this learner's init",
            "one of a learner with another trace_dtype")  # fmt: skip
