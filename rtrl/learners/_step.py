"""The learning step as it is compiled: remove what is not finite, differentiate, update."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

from rtrl.engine import (
    Chunk,
    after,
    axes_of,
    computed,
    global_norm,
    later,
    narrowed,
    one_kernel,
    over_chunks,
    placement_of,
    rarely_times,
    require_kept,
    seldom,
    sum_over,
    vary,
    widened,
)
from rtrl.learners._divergence import watch
from rtrl.learners._filter import begin, differentiate, filter_update
from rtrl.learners._guard import bound_data, bound_gradient
from rtrl.learners._jit import Jitted
from rtrl.learners._overlap import forgotten, slide
from rtrl.learners._restart import renew
from rtrl.learners._shard import in_place
from rtrl.learners._state import LearnerState, StepOutput, no_loss
from rtrl.learners._update import Trust, accumulate, update


class _Advance:
    """A function of ``(learner, data, chunk, state)`` compiled with and without donating state."""

    def __init__(self, function: Callable[..., Any]):
        self.donating = Jitted(function, donate_last=True)
        self.keeping = Jitted(function)


@_Advance
def advance_one(learner, data, chunk, state):
    def step(state, data):
        return _one(learner, state, data)[:2]

    return one_kernel(step, state, data, when=data.weights.ndim == 0)


@_Advance
def advance_packed(learner, data, packing, packed):
    """As `advance_one`, of a state as few arrays, by which updates may be proven."""

    def step(packed, data):
        state, out, proven = _one(learner, packing.unpack(packed), data, packed.proven)
        return packing.pack(state, proven), out

    return one_kernel(step, packed, data, when=data.weights.ndim == 0)


def _one(learner, state, data, proven=None):
    # A timestep is a chunk of one: there is one learning step, not two.
    data = jax.tree.map(lambda a: a[None], data)
    state, out, proven = _learn(learner, state, data, proven)
    state, out = _renewed(learner, state, out, data)
    first = jax.tree.map(lambda a: a[0], dataclasses.replace(out, grad_norm=out.loss))
    return state, dataclasses.replace(first, grad_norm=out.grad_norm), proven


@_Advance
def advance_many(learner, data, chunk, state):
    carry, past = vary((state.carry, state.past), axes_of((state, data)))
    state = dataclasses.replace(state, carry=carry, past=past)
    # A scan carries arrays only.
    arrays, static = eqx.partition(state, eqx.is_array)

    def loop(carry, data):
        # Anew for every look at it, as a scan remembers how its body was made.
        def body(carry, data):
            (arrays, proven), learn = carry, functools.partial(_learn, learner)
            state = eqx.combine(arrays, static)
            alone = data.weights.shape == (1,)  # a timestep of one sample
            state, out, proven = one_kernel(learn, state, data, proven, when=alone)
            return (eqx.filter(state, eqx.is_array), proven), out

        return over_chunks(body, carry, data, data.xs.shape[0], chunk)

    # Of a sharded learner every update is judged: its devices would have to agree.
    judges = placement_of(state.carry) is not None or bool(axes_of((state, data)))
    proven = None if judges else jnp.int32(0)
    steps = chunk == 1 and data.weights.ndim == 1
    carry, outs = one_kernel(loop, (arrays, proven), when=steps, pieces=(data,))
    arrays, _ = carry

    def join(*parts):  # (chunks, K, ...) each, to (time, ...)
        return jnp.concatenate([p.reshape(-1, *p.shape[2:]) for p in parts])

    norms = jnp.concatenate([out.grad_norm for out in outs])
    outs = [dataclasses.replace(out, grad_norm=out.loss) for out in outs]  # of a shape to be joined
    out = dataclasses.replace(jax.tree.map(join, *outs), grad_norm=norms)
    return _renewed(learner, eqx.combine(arrays, static), out, data)


def _renewed(
    learner: Any, state: LearnerState, out: StepOutput, data: Chunk
) -> tuple[LearnerState, StepOutput]:
    """What no gradient has shown, at the end of a call: a look at every trace."""
    if learner.on_nonfinite == "ignore":
        return state, out
    axes = axes_of((state, data)) - axes_of(state.model)
    carry, lost = renew(state.model, state.carry, data.weights.ndim == out.loss.ndim + 1)
    restarted = out.restarted.at[-1].add(sum_over(lost.sum().astype(jnp.int32), axes))
    state = dataclasses.replace(state, carry=carry, past=forgotten(state.past, lost))
    return in_place(state, dataclasses.replace(out, restarted=restarted))


def advance_unrenewed(
    learner: Any, state: LearnerState, data: Chunk
) -> tuple[LearnerState, StepOutput]:
    """Learn from one timestep; what has overflowed stays. For an exported learner.

    To choose between a trace and zeros takes a copy of it there.
    """
    data = jax.tree.map(lambda a: a[None], data)
    state, out, _ = _learn(learner, state, data, renewing=False)
    return state, out


def _learn(
    learner: Any,
    state: LearnerState,
    data: Chunk,
    proven: Int[Array, ""] | None = None,
    renewing: bool = True,
) -> tuple[LearnerState, StepOutput, Int[Array, ""] | None]:
    """Learn from one chunk; ``proven``: of how many updates it is known that they are finite."""
    kept, kernel = state.carry, functools.partial(one_kernel, when=data.weights.shape == (1,))
    state = dataclasses.replace(state, carry=widened(kept))
    looking = learner.on_nonfinite != "ignore"
    given, present = data, jnp.ones(data.weights.shape, bool)
    if looking:
        data, present = remove_nonfinite(data)
    guard: Any = learner.guard
    guarding: Any = state.guard
    bounded = jnp.zeros(data.weights.shape, bool)
    if guard is not None:
        axes = axes_of((state, data)) - axes_of(state.model)
        data, guarding, bounded = bound_data(guard, guarding, data, axes)
        alarm = sum_over(bounded.sum().astype(jnp.int32), axes) > 0
    spread = placement_of(state.carry) is not None
    alone = data.weights.shape == (1,) and not spread and not axes_of((state, data))
    (result, observed), grads = later(
        functools.partial(_differentiate, learner), state, data, run=kernel, when=alone
    )
    # One number tells whether any of them is not finite, or too large to be squared.
    norm = global_norm(computed(grads), spread=spread)
    finite = jnp.isfinite(norm) if looking else jnp.ones((), bool)
    too_large = jnp.zeros((), bool)
    if guard is not None and observed is None:  # a filter has a gate of its own
        factor, guarding, too_large = bound_gradient(guard, guarding, norm, len(data.xs), alarm)
        grads = rarely_times(grads, factor, too_large)
    weight = sum_over(jnp.abs(result.weights).sum(), result.axes)
    if state.window is None:
        go = finite & (weight > 0)
        window = None
        if observed is None:
            trust = None if proven is None else Trust(proven, norm)
            updated = kernel(functools.partial(update, learner), state, grads, go, trust)
            model, opt_state, refused, proven = updated
        else:
            model, opt_state, refused = filter_update(learner, state, grads, go, observed)
    else:
        model, opt_state, window, refused = accumulate(
            learner, state, state.window, grads, finite, weight
        )
    # An overflowed trace shows in the gradient, unless its error is zero; see `_renewed`.
    carry, past, lost = result.carry, state.past, jnp.zeros((), bool)
    # Once a chunk, when the gradient has been read.
    carry = narrowed(carry, learner.trace_dtype, state.step)
    require_kept(kept, carry, learner.trace_dtype)
    if past is not None:
        carry, past = slide(state.model, carry, past, data)
    if renewing and looking:
        suspected = after(~finite, eqx.filter(model, eqx.is_inexact_array))
        batched = data.weights.ndim == 2
        carry, lost = kernel(
            lambda model, carry, at: renew(model, carry, batched, at),
            state.model, carry, suspected,
        )  # fmt: skip
        past = forgotten(past, lost)

    # What is reported is the loss as it was, also of samples whose weight is zero.
    counted = present & jnp.isfinite(result.losses)
    skipped = ~present | ((data.weights != 0) & (result.weights == 0) & (data.ys is not None))
    loss, counted = _over_samples(result.losses, counted, result.axes)
    skipped, bounded, lost = (_count(a, result.axes) for a in (skipped, bounded, lost[None]))
    end = jnp.zeros_like(skipped)
    reverted = end
    if guard is not None and guarding.divergence is not None:
        known = _known(given, present)
        losses = jnp.nan_to_num(result.losses, nan=jnp.inf)  # the largest number
        losses, times = _over_samples(losses, known, result.axes)
        params = eqx.filter(model, eqx.is_inexact_array)
        kept, back = watch(guard, guarding.divergence, params, losses, times > 0)
        guarding = eqx.tree_at(lambda g: g.divergence, guarding, kept)
        model, opt_state, window = _go_back(learner, back, kept.good, model, opt_state, window)
        reverted = end.at[-1].set(back)
        if proven is not None:
            proven = jnp.where(back, 0, proven)  # of other parameters
    out = StepOutput(
        prediction=result.predictions,
        # The least divisor is one: NaN is put there on purpose, not made by 0 / 0.
        loss=jnp.where(counted > 0, loss, no_loss()),
        # A gradient belongs to a whole chunk, so what is wrong with it is counted at its end.
        skipped=skipped.at[-1].add(~finite | refused),
        grad_norm=norm,
        restarted=end.at[-1].set(lost[0]),
        bounded=bounded.at[-1].add(too_large),
        reverted=reverted,
    )
    length = np.uint32(data.xs.shape[0])
    step = jnp.minimum(state.step, ~length) + length  # ~length: what is left to the largest
    learned = LearnerState(model, carry, opt_state, window, guarding, step, state.key, past)
    return *in_place(learned, out), proven


def _differentiate(learner: Any, state: LearnerState, data: Chunk) -> tuple[Any, PyTree]:
    """As `differentiate`, with the gradient beside it."""
    result, observed = differentiate(learner, state, data)
    return (result._replace(grads=None), observed), result.grads


def _over_samples(losses, counted, axes) -> tuple[Array, Array]:
    """The mean over samples that count, and how many they are, for every timestep."""
    loss = jnp.where(counted, losses, 0)
    loss = sum_over(loss.sum(1) if loss.ndim == 2 else loss, axes)
    count = _count(counted, axes)
    return loss / jnp.maximum(count, 1), count


def _count(a: Bool[Array, "time *batch"], axes) -> Int[Array, "time"]:
    return sum_over((a.sum(1) if a.ndim == 2 else a).astype(jnp.int32), axes)


def _known(data: Chunk, present: Bool[Array, "time *batch"]) -> Bool[Array, "time *batch"]:
    """Which samples have an input, a target and a weight, so that their loss is the learner's."""
    known = present & (data.weights != 0) & (data.ys is not None)
    for y in jax.tree.leaves(data.ys):
        if jnp.issubdtype(y.dtype, jnp.inexact):
            known &= jnp.isfinite(y).all(range(known.ndim, y.ndim))
    return known


def _go_back(learner, back: Bool[Array, ""], good, model, opt_state, window):
    """Take the good parameters and begin the optimizer anew, where ``back`` says so."""
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def take(now, good):
        return good, begin(learner.optimizer, good, now[1]), jax.tree.map(jnp.zeros_like, now[2])

    params, opt_state, window = seldom(take, back, (params, opt_state, window), good)
    return eqx.combine(params, static), opt_state, window


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
