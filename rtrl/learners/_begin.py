"""The state of a learner before the first timestep."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from rtrl.engine import init_carry, kept_behind, narrowed
from rtrl.learners import _inputs
from rtrl.learners._filter_check import with_optimizer
from rtrl.learners._overlap import nothing_past
from rtrl.learners._state import LearnerState, Window


def begin(
    learner: Any, model: PyTree, batch_size: int | None, key: PRNGKeyArray | None
) -> LearnerState:
    """See `OnlineLearner.init`."""
    dtype = _inputs.float_dtype(model)
    window = None
    if learner.update_every > 1:
        zeros = jax.tree.map(jnp.zeros_like, eqx.filter(model, eqx.is_inexact_array))
        window = Window(zeros, jnp.zeros((), dtype), jnp.int32(0))
    carry = init_carry(model, learner.rule, batch_size)
    carry = narrowed(carry, learner.trace_dtype, jnp.uint32(0))
    state = LearnerState(
        model=model,
        carry=kept_behind(carry) if learner.overlap else carry,
        opt_state=None,
        window=window,
        guard=None if learner.guard is None else learner.guard.init(model, dtype),
        step=jnp.uint32(0),
        key=jax.random.key(0) if key is None else key,
        past=nothing_past(model, learner.overlap, batch_size),
    )
    state = with_optimizer(learner.optimizer, learner.loss, state)
    # Every leaf gets memory of its own: donating one must not delete another or the caller's.
    # None is weakly typed: the first call would return another type and compile twice.
    return jax.tree.map(lambda a: jnp.array(a, dtype=a.dtype) if eqx.is_array(a) else a, state)
