"""Optimizers that filter: they take every predicted number's error and its own derivative."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, PyTree

from rtrl.engine import (
    Chunk,
    ChunkResult,
    Later,
    branch,
    chunk_gradient,
    computed,
    observe,
)
from rtrl.learners._overlap import window_keys
from rtrl.learners._state import LearnerState


class Filter(optax.GradientTransformationExtraArgs):
    """An optax transformation that an `OnlineLearner` hands its errors to, not only a gradient.

    ::

        init(params, outputs) -> state
        update(grads, state, params, *, observations, time) -> updates, state

    ``outputs`` is how many numbers a sample's prediction has, ``observations`` a
    `rtrl.engine.Observations`, ``time`` the timesteps that the learner has seen. The loss must be
    half the squared error: then an observation is all that there is to know.

    A filter keeps what it carries finite by itself, and parameters too: the state has a
    ``left_out``, the number of observations that it had to leave out for it.
    """

    init: Callable[..., Any]
    update: Callable[..., tuple[PyTree, Any]]


def begin(optimizer: optax.GradientTransformation, params: PyTree, state: PyTree) -> PyTree:
    """The first state of an optimizer again, given a later one."""
    if isinstance(optimizer, Filter):
        return optimizer.init(params, outputs=state.spread.size)
    return optimizer.init(params)


def differentiate(
    learner: Any, state: LearnerState, data: Chunk
) -> tuple[ChunkResult, dict[str, Any] | None]:
    """The gradient of a chunk, and what a `Filter` takes beside it (``None`` for any other)."""
    # From the step: the key in the state stays, and a resumed run draws the same masks.
    past: Any = state.past
    if past is None:
        key = jax.random.fold_in(state.key, state.step)
    else:
        key = window_keys(state.key, state.step, len(past.xs), len(data.xs))
    if isinstance(learner.optimizer, Filter):
        result, seen = observe(
            state.model, state.carry, data, rule=learner.rule, key=key, past=past
        )
        return result, {"observations": seen, "time": state.step}
    result = chunk_gradient(
        state.model, learner.loss, state.carry, data, rule=learner.rule, key=key,
        forgive=learner.on_nonfinite != "ignore", past=past,
    )  # fmt: skip
    return result, None


def filter_update(
    learner: Any,
    state: LearnerState,
    grads: PyTree[Array] | Later,
    go: Bool[Array, ""],
    extra: dict[str, Any],
) -> tuple[PyTree, PyTree, Bool[Array, ""]]:
    """Update the parameters by a filter, which judges by itself what it can take.

    Says at last whether an observation was left out that should have been taken.
    """
    params, static = eqx.partition(state.model, eqx.is_inexact_array)

    def optimize(params, opt_state, grads, extra):
        grads = computed(grads)
        updates, opt_state = learner.optimizer.update(grads, opt_state, params, **extra)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state = branch(
        go, optimize, lambda params, opt_state, *_: (params, opt_state),
        params, state.opt_state, grads, extra,
    )  # fmt: skip
    refused = jnp.not_equal(opt_state.left_out, state.opt_state.left_out)
    return eqx.combine(params, static), opt_state, refused
