"""An optimizer's moments in fewer bits."""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree, UInt32

from rtrl.engine import can_narrow, narrow, widen
from rtrl.learners._filter import Filter
from rtrl.validate import require

#: What optax calls averages of gradients, and what a step divides by the root of; anything else,
#: such as averages of parameters, stays as it is.
_AVERAGES = frozenset({"mu", "trace"})
_DIVISORS = frozenset({"nu", "nu_max", "sum_of_squares", "v", "v_row", "v_col", "e_g", "e_x"})
_FIRST = 1 << 16  # number of the first moment: traces are rounded with numbers from 0


class NarrowMoments(eqx.Module):
    """The state of an optimizer in fewer bits.

    Attributes:
        updates: made so far, modulo 2^32.
        inner: the optimizer's own state, moments narrow.
    """

    updates: UInt32[Array, ""]
    inner: PyTree


def narrow_moments(
    optimizer: optax.GradientTransformation, dtype: Literal["bfloat16", "int8"]
) -> optax.GradientTransformationExtraArgs:
    """Keep an optimizer's moments in bfloat16 or int8 between updates.

    ::

        moments <- round(update(widen(moments), gradient))      round: up or down at random

    All is computed in float32. Rounding keeps the mean (see ``trace_dtype`` of `OnlineLearner`):
    an average that moves by a thousandth of itself, as Adam's second moment, would never move in
    bfloat16 if it were rounded to nearest. Narrow are averages of gradients (optax's ``mu`` and
    ``trace``) and what a step divides by the root of (``nu``, ``v`` and their like). Single
    numbers, such as counts, averages of parameters and all else stay as they are.

    In int8 a small number beside a large one in its row is at times rounded up to a whole unit.
    What divides by its own small root then, as Adam does, takes a step of many times its rate
    there; momentum does not. bfloat16 has an exponent for every number.

    Args:
        optimizer: an optax gradient transformation; no filter (`rtrl.kalman`), whose covariances
            rounding would make indefinite.
        dtype: ``"bfloat16"``, half the memory, or ``"int8"``, a quarter of it, with a float32 scale
            for every row of a matrix. In int8 what a step divides by the root of (optax's ``nu``)
            is kept in bfloat16, as a small entry beside a large one would become 0, and vectors
            stay float32.

    Returns the optimizer, whose state is a `NarrowMoments`.

    Raises:
        ValueError: an argument of the wrong kind; later, moments in double precision.
    """
    valid = callable(getattr(optimizer, "update", None)) and not isinstance(optimizer, Filter)
    require(valid, "optimizer", "an optax gradient transformation that is no filter", optimizer)
    require(dtype in ("bfloat16", "int8"), "dtype", "'bfloat16' or 'int8'", dtype)
    extended = optax.with_extra_args_support(optimizer)

    def kept(state: PyTree, like: PyTree, updates: UInt32[Array, ""]) -> NarrowMoments:
        paths, structure = jax.tree_util.tree_flatten_with_path(state)
        of_params = {path for path, _ in jax.tree_util.tree_flatten_with_path(like)[0]}
        leaves = [
            _kept(_names(path, of_params), a, dtype, updates, _FIRST + i)
            for i, (path, a) in enumerate(paths)
        ]
        return NarrowMoments(updates, jax.tree.unflatten(structure, leaves))

    def init(params: PyTree) -> NarrowMoments:
        return kept(optimizer.init(params), params, jnp.uint32(0))

    def update(
        grads: PyTree, state: NarrowMoments, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, NarrowMoments]:
        narrow = isinstance(state, NarrowMoments)
        require(narrow, "state", "one of this optimizer, with narrow moments", type(state))
        steps, inner = extended.update(grads, widen(state.inner), params, **extra)
        return steps, kept(inner, grads, state.updates + jnp.uint32(1))

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


def _names(path: Any, of_params: set[Any]) -> set[str]:
    """What an optimizer calls an array, without what the parameter is called that it is of."""
    end = next((i for i in range(len(path)) if path[i:] in of_params), len(path))
    return {getattr(key, "name", "") for key in path[:end]}


def _kept(names: set[str], a: Any, dtype: str, updates: UInt32[Array, ""], number: int) -> Any:
    dtype = "bfloat16" if names & _DIVISORS else dtype
    if not names & (_AVERAGES | _DIVISORS) or not can_narrow(a, dtype):
        return a
    single = a.dtype in (jnp.float32, jnp.complex64)
    require(single, "optimizer", "moments in float32", f"moments in {a.dtype}")
    return narrow(a, dtype, updates, number)
