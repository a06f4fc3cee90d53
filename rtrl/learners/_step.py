"""The learning step as it is compiled: remove what is not finite, differentiate, update."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PyTree

from rtrl.engine import (
    Chunk,
    all_finite,
    axes_of,
    branch,
    global_norm,
    over_chunks,
    sum_over,
    vary,
)
from rtrl.learners._filter import differentiate, filter_update
from rtrl.learners._jit import Jitted
from rtrl.learners._state import LearnerState, StepOutput, Window, no_loss


class _Advance:
    """A function of ``(learner, data, chunk, state)`` compiled with and without donating state."""

    def __init__(self, function: Callable[..., Any]):
        self.donating = Jitted(function, donate_last=True)
        self.keeping = Jitted(function)


@_Advance
def advance_one(learner, data, chunk, state):
    # A timestep is a chunk of one: there is one learning step, not two.
    state, out = _learn(learner, state, jax.tree.map(lambda a: a[None], data))
    prediction, loss, skipped = jax.tree.map(
        lambda a: a[0], (out.prediction, out.loss, out.skipped)
    )
    return state, StepOutput(prediction, loss, skipped, out.grad_norm)


@_Advance
def advance_many(learner, data, chunk, state):
    carry = vary(state.carry, axes_of((state, data)))
    state = eqx.tree_at(lambda s: s.carry, state, carry)
    # A scan carries arrays only.
    arrays, static = eqx.partition(state, eqx.is_array)

    def body(arrays, data):
        state, out = _learn(learner, eqx.combine(arrays, static), data)
        return eqx.filter(state, eqx.is_array), out

    arrays, outs = over_chunks(body, arrays, data, data.xs.shape[0], chunk)
    norms = jnp.concatenate([out.grad_norm for out in outs])

    def join(*parts):  # (chunks, K, ...) each, to (time, ...)
        return jnp.concatenate([p.reshape(-1, *p.shape[2:]) for p in parts])

    parts = [(out.prediction, out.loss, out.skipped) for out in outs]
    prediction, loss, skipped = jax.tree.map(join, *parts)
    return eqx.combine(arrays, static), StepOutput(prediction, loss, skipped, norms)


def _learn(learner: Any, state: LearnerState, data: Chunk) -> tuple[LearnerState, StepOutput]:
    """Learn from one chunk."""
    data, present = remove_nonfinite(data)
    result, observed = differentiate(learner, state, data)
    # One number tells whether any of them is not finite, or too large to be squared.
    norm = global_norm(result.grads)
    finite = jnp.isfinite(norm)
    weight = sum_over(jnp.abs(result.weights).sum(), result.axes)
    if state.window is None:
        go = finite & (weight > 0)
        window = None
        if observed is None:
            model, opt_state, refused = _update(learner, state, result.grads, go)
        else:
            model, opt_state, refused = filter_update(learner, state, result.grads, go, observed)
    else:
        model, opt_state, window, refused = _accumulate(
            learner, state, state.window, result.grads, finite, weight
        )

    # What is reported is the loss as it was, also of samples whose weight is zero.
    counted = present & jnp.isfinite(result.losses)
    loss = jnp.where(counted, result.losses, 0)
    skipped = ~present | ((data.weights != 0) & (result.weights == 0) & (data.ys is not None))
    if loss.ndim == 2:
        loss, counted, skipped = loss.sum(1), counted.sum(1), skipped.sum(1)
    counted, skipped = counted.astype(jnp.int32), skipped.astype(jnp.int32)
    loss, counted, skipped = (sum_over(a, result.axes) for a in (loss, counted, skipped))
    out = StepOutput(
        prediction=result.predictions,
        # The least divisor is one: NaN is put there on purpose, not made by 0 / 0.
        loss=jnp.where(counted > 0, loss / jnp.maximum(counted, 1), no_loss()),
        # A gradient belongs to a whole chunk, so what is wrong with it is counted at its end.
        skipped=skipped.at[-1].add(~finite | refused),
        grad_norm=norm,
    )
    length = np.uint32(data.xs.shape[0])
    step = jnp.minimum(state.step, ~length) + length  # ~length: what is left to the largest
    return LearnerState(model, result.carry, opt_state, window, step, state.key), out


def remove_nonfinite(data: Chunk) -> tuple[Chunk, Bool[Array, "time *batch"]]:
    """Mask the samples whose input is not finite, before it can reach any state or trace."""
    xs = data.xs
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        return data, jnp.ones(data.weights.shape, bool)
    present = jnp.isfinite(xs).all(range(data.weights.ndim, xs.ndim))
    shape = jnp.expand_dims(present, range(present.ndim, xs.ndim))
    # Zeros for its values too: NaN times a derivative of zero would still be NaN.
    xs = jnp.where(shape, xs, 0)
    weights = jnp.where(present, data.weights, 0)
    return data._replace(xs=xs, weights=weights, mask=present), present


def _update(learner, state, grads, go: Bool[Array, ""]) -> tuple[PyTree, PyTree, Bool[Array, ""]]:
    """Update the parameters, or leave everything as it was, also where it would not be finite.

    Says at last whether an update was left out that should have been made. The new values are
    computed twice, to be judged and to be stored: keeping the old ones instead, to go back to,
    takes longer.
    """
    params, static = eqx.partition(state.model, eqx.is_inexact_array)

    def optimize(params, opt_state, grads):
        updates, opt_state = learner.optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    # The optimizer's moments are left as well: a window without data is no step of time for it.
    good = branch(
        go,
        lambda *now: all_finite(optimize(*now)),
        lambda *now: jnp.zeros((), bool),
        params, state.opt_state, grads,
    )  # fmt: skip
    params, opt_state = branch(
        good, optimize, lambda params, opt_state, grads: (params, opt_state),
        params, state.opt_state, grads,
    )  # fmt: skip
    return eqx.combine(params, static), opt_state, go & ~good


def _accumulate(
    learner, state, window: Window, grads, finite: Bool[Array, ""], weight: Float[Array, ""]
) -> tuple[PyTree, PyTree, Window, Bool[Array, ""]]:
    """Add a chunk to the window, and update the parameters when it is full."""
    # A chunk whose gradient is not finite is left out of the window, which goes on.
    grads = jax.tree.map(lambda t, g: jnp.where(finite, t + g, t), window.grads, grads)
    window = Window(grads, window.weight + jnp.where(finite, weight, 0), window.chunks + 1)
    full = window.chunks >= learner.update_every
    go = full & (window.weight > 0)
    model, opt_state, refused = _update(learner, state, window.grads, go)
    # Emptied also where the update was skipped: its chunks have had their turn.
    window = jax.tree.map(lambda a: jnp.where(full, jnp.zeros_like(a), a), window)
    return model, opt_state, window, refused
