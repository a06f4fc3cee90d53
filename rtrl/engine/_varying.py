"""What differs between the devices of a `jax.shard_map`, and what does not.

JAX's types say over which axes of the mesh an array varies (``check_vma=True``, the default there).
It is cast by `jax.lax.pcast`, whose transpose is the sum over devices: so the gradient of
parameters that are the same everywhere is summed, as a user's own `jax.grad` would.
"""

import math

import jax
from jax.core import Tracer
from jaxtyping import Array, PyTree


def axes_of(tree: PyTree) -> frozenset[str]:
    """The mesh axes over which anything in a tree varies; none outside of `jax.shard_map`."""
    axes: frozenset[str] = frozenset()
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, Tracer):
            kind = getattr(jax.typeof(leaf), "manual_axis_type", None)
            axes |= frozenset() if kind is None else kind.varying
    return axes


def vary(tree: PyTree, axes: frozenset[str]) -> PyTree:
    """Cast every array of a tree to one that varies over ``axes``, too."""

    def cast(leaf):
        missing = tuple(sorted(axes - axes_of(leaf))) if hasattr(leaf, "dtype") else ()
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if axes else tree


def sum_over(a: Array, axes: frozenset[str]) -> Array:
    """Sum over the devices along ``axes``."""
    return jax.lax.psum(vary(a, axes), tuple(sorted(axes))) if axes else a


def max_over(a: Array, axes: frozenset[str]) -> Array:
    """The largest over the devices along ``axes``."""
    return jax.lax.pmax(vary(a, axes), tuple(sorted(axes))) if axes else a


def devices(axes: frozenset[str]) -> int:
    """How many devices there are along ``axes``."""
    return math.prod(jax.lax.axis_size(axis) for axis in axes)
