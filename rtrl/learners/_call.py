"""A call of a compiled learning step: what is donated, and what is raised afterwards."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from rtrl.engine import Chunk
from rtrl.learners._feed import feed, is_shared
from rtrl.learners._interrupt import uninterrupted
from rtrl.learners._overlap import fitted
from rtrl.learners._processes import together, waited_for
from rtrl.learners._state import (
    LearnerState,
    NonFiniteError,
    StepOutput,
    mark,
)
from rtrl.learners._step import advance_many


def call(
    learner: Any, function: Any, state: LearnerState, data: Chunk, chunk: int | None
) -> tuple[LearnerState, StepOutput]:
    """Run a compiled learning step for a learner, as it wants to be told of what is not finite."""
    data = feed(state, data, time=function is advance_many)
    past = fitted(learner.overlap, state.past, data.xs, time=function is advance_many)
    if past is not state.past:
        state = dataclasses.replace(state, past=past)
    if learner.on_nonfinite == "raise":
        return _or_raise(function.keeping, learner, data, chunk, state)
    if learner.donate:
        return uninterrupted(_run, function.donating, learner, data, chunk, state)
    return _run(function.keeping, learner, data, chunk, state)


def _run(jitted, learner, data, chunk, state):
    if is_shared(state):
        with together():
            after, out = jitted(learner, data, chunk, state)
        waited_for(out)
    else:
        after, out = jitted(learner, data, chunk, state)
    if jax.config.jax_debug_nans and not isinstance(out.loss, Tracer):  # type: ignore
        loss = mark(out.loss, np.isinf(out.loss))
        out = dataclasses.replace(out, loss=loss)
    return after, out


def _or_raise(jitted, learner, data, chunk, state):
    if any(isinstance(a, Tracer) for a in jax.tree.leaves((state, data))):
        raise ValueError(
            "on_nonfinite: 'raise' can't work inside jit, where no value can be looked at; "
            "use 'skip' and look at out.skipped."
        )
    after, out = _run(jitted, learner, data, chunk, state)
    skipped = np.asarray(out.skipped)
    if skipped.any():
        first = int(np.argmax(skipped > 0))
        raise NonFiniteError(
            f"{int(skipped.sum())} inputs, targets, losses, gradients or updates were not finite, "
            f"the first at timestep {first} of the call; the state before it is in error.state.",
            state,
        )
    return after, out
