"""How far one sample may move a learner: inputs, targets and gradients against their own scales."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from rtrl.engine import Chunk, max_over, record
from rtrl.learners._divergence import Divergence
from rtrl.validate import require, require_integer


@record
class GuardState:
    """What a `Guard` remembers, a part of the learner's state.

    Attributes:
        inputs: the scale of every feature, ``(in_size,)``, or one for all.
        targets: the scale of the targets.
        over: 1 where the last timestep was beyond its bounds: every feature, and the targets.
        gradient: the scale of the gradient's norm, and one that forgets ten times as fast.
        updates: gradients that had a part in it.
        quiet: timesteps since data were bounded.
        divergence: what going back needs; ``None`` if the guard never does.
    """

    inputs: Float[Array, "*in_size"]
    targets: Float[Array, ""]
    over: tuple[Float[Array, "*in_size"], Float[Array, ""]]
    gradient: Float[Array, "2"]
    updates: Int[Array, ""]
    quiet: Int[Array, ""]
    divergence: Divergence | None


class Guard(eqx.Module):
    """Bounds how far one sample, however wild, can move what a learner carries.

    ::

        x <- clip(x, -L, L),  L = bound * max(1, s),     s <- max(a s, min(|x|, 2 max(1, s)))
        g <- g min(1, limit / |g|),                      r <- max(a r, min(|g|, 2 r))

    with a = exp(-1 / memory). A scale s is the largest value that has been seen of late: it follows
    a larger one by doubling, and forgets. Every input feature has one, all targets together. What
    is beyond its bounds moves its scale only if the timestep before was so, too: single values,
    however many, stay bounded, and what stays larger, such as a level that has shifted, is let in
    within a few timesteps.

    For gradients, which have no 1 in the place of a scale, the limit is ``bound * r`` with a
    forgetting of 10 / memory for memory / 10 timesteps after data had to be bounded, as the harm is
    done by what follows; else, so that what is rare but real can be learned, ``bound^2 * r`` with
    that of 1 / memory. While the bound is tight no scale of gradients grows. The first 20 gradients
    are only looked at. What is within its bounds is
    never touched.

    Inputs should be of order one, or be standardised first (`rtrl.Standardized`): values up to
    ``bound`` pass whatever was seen before. Integers (tokens, classes) are not bounded, nor are
    values that are missing. ``predict`` bounds its input alike.

    Args:
        bound: times its scale that a value may be.
        memory: timesteps after which a scale that is not reached has fallen to 1 / e.
        divergence: times its running level that the loss may be for a while before the parameters
            go back to the last good ones, such as 100; ``None``: they never do. Of the logarithm of
            the loss a mean over ``patience`` timesteps is compared with one over ``memory`` (a loss
            that is not finite counts as the largest number). The good parameters are a copy that is
            ``patience`` to ``2 patience`` timesteps of unremarkable loss old; the optimizer begins
            anew, what is remembered of the stream stays, and ``out.reverted`` tells. If the loss
            had come back to its level in between, the steps were too large: updates are halved, and
            grow again while the loss is unremarkable. A loss that stays high becomes the level by
            and by. All this takes two copies of the parameters in memory.
        patience: timesteps.

    Raises:
        ValueError: an argument out of range.

    Source: this library; clipping of the gradient by what its norm has been as in Seetharaman et
    al., "AutoClip: adaptive gradient clipping for source separation networks" (2020), with a
    maximum that fades in place of a percentile.
    """

    bound: float = eqx.field(static=True)
    memory: int = eqx.field(static=True)
    divergence: float | None = eqx.field(static=True)
    patience: int = eqx.field(static=True)

    def __init__(
        self,
        bound: float = 10.0,
        memory: int = 1000,
        divergence: float | None = None,
        patience: int = 100,
    ):
        require(bound >= 2, "bound", "a factor of at least 2", bound)
        require_integer(memory, "memory", 1, "(timesteps)")
        if divergence is not None:
            require(divergence > 1, "divergence", "a factor above 1, or None", divergence)
        require_integer(patience, "patience", 1, "(timesteps)")
        self.bound = bound
        self.memory = memory
        self.divergence = divergence
        self.patience = patience

    def init(self, model: PyTree, dtype: Any) -> GuardState:
        """Give the state in which nothing has been seen yet.

        Args:
            model: the network; its ``in_size`` says how many features there are.
            dtype: of its real numbers.
        """
        size = getattr(model, "in_size", None)
        zero = jnp.zeros((), dtype)
        params = eqx.filter(model, eqx.is_inexact_array)
        return GuardState(
            inputs=jnp.zeros(() if size is None else (size,), dtype),
            targets=zero,
            over=(jnp.zeros(() if size is None else (size,), dtype), zero),
            gradient=jnp.zeros(2, dtype),
            updates=jnp.int32(0),
            quiet=jnp.int32(self.memory),
            divergence=None if self.divergence is None else Divergence.begin(params, dtype),
        )


WATCH = 20  # gradients that are looked at before one is bounded
FAST = 10  # times as fast as others forgets the scale that gradients are held to after an alarm


Bounds = tuple[Guard, Array] | None


def bounds_of(guard: Guard | None, state: GuardState | None) -> Bounds:
    """What `bound_inputs` needs: the guard, and the scale of its inputs."""
    return None if guard is None or state is None else (guard, state.inputs)


def bound_inputs(bounds: Bounds, xs: Array) -> Array:
    """Clip inputs; tokens stay as they are."""
    if bounds is None or not jnp.issubdtype(xs.dtype, jnp.floating):
        return xs
    guard, scale = bounds
    limit = guard.bound * jnp.maximum(1, scale)
    return jnp.clip(xs, -limit, limit)


def bound_data(
    guard: Guard, state: GuardState, data: Chunk, axes: frozenset[str]
) -> tuple[Chunk, GuardState, Bool[Array, "time *batch"]]:
    """Clip the inputs and targets of a chunk, and follow their scales.

    Returns which samples were clipped, too.
    """
    lead = data.weights.ndim
    touched = jnp.zeros(data.weights.shape, bool)
    over_x, over_y = state.over
    if jnp.issubdtype(data.xs.dtype, jnp.floating):
        limit = guard.bound * jnp.maximum(1, state.inputs)
        over = jnp.abs(data.xs) > limit
        xs = bound_inputs((guard, state.inputs), data.xs)
        touched |= over.any(range(lead, xs.ndim))
        kept = range(1, xs.ndim - bool(state.inputs.ndim))
        peaks = jnp.where(over, 0, jnp.abs(xs)).max(kept), over.any(kept)
        scale, over_x = _follow(guard, state.inputs, over_x, *peaks, axes)
        state = dataclasses.replace(state, inputs=scale)
        data = data._replace(xs=xs)
    if data.ys is not None:
        ys, peaks, overs = [], [], []
        limit = guard.bound * jnp.maximum(1, state.targets)
        leaves, structure = jax.tree.flatten(data.ys)
        for y in leaves:
            if jnp.issubdtype(y.dtype, jnp.floating):
                clipped = jnp.clip(y, -limit, limit)  # what is missing stays so
                clipped = jnp.where(jnp.isinf(y), y, clipped)
                counts = jnp.isfinite(y) & _over(data.weights != 0, y)
                over = (jnp.abs(y) > limit) & _over(data.weights != 0, y)
                touched |= over.any(range(lead, y.ndim))
                peaks.append(jnp.where(counts & ~over, jnp.abs(y), 0).max(range(1, y.ndim)))
                overs.append((over & counts).any(range(1, y.ndim)))
                y = clipped.astype(y.dtype)
            ys.append(y)
        if peaks:
            peak = jnp.stack(peaks).max(0).astype(state.targets.dtype)
            over = jnp.stack(overs).any(0)
            scale, over_y = _follow(guard, state.targets, over_y, peak, over, axes)
            state = dataclasses.replace(state, targets=scale)
        data = data._replace(ys=jax.tree.unflatten(structure, ys))
    return data, dataclasses.replace(state, over=(over_x, over_y)), touched


def bound_gradient(
    guard: Guard, state: GuardState, norm: Float[Array, ""], length: int, alarm: Bool[Array, ""]
) -> tuple[Float[Array, ""], GuardState, Bool[Array, ""]]:
    """Give what the gradient is to be multiplied by, and follow its scale.

    ``alarm`` says whether data of this chunk were bounded. A gradient that is zero or not finite
    leaves the scale as it was. Returns whether the gradient is bounded, too.
    """
    quiet = jnp.where(alarm, 0, jnp.minimum(state.quiet + length, guard.memory))
    slow, fast = state.gradient
    counts = jnp.isfinite(norm) & (norm > 0)
    strict = quiet < guard.memory / FAST
    limit = jnp.where(strict, guard.bound * fast, guard.bound**2 * slow)
    bounded = counts & (state.updates >= WATCH) & (norm > limit)
    # Exactly one where nothing is bounded: the gradient keeps its bits.
    factor = jnp.where(bounded, limit / jnp.where(counts, norm, 1), 1)
    # The first sets the scale, and all are let in until there have been enough.
    most = jnp.where(strict, 1, 2) * state.gradient
    watched = jnp.where(state.updates < WATCH, norm, jnp.minimum(norm, most))
    faded = jnp.stack([_decay(guard, n * length, norm.dtype) for n in (1, FAST)]) * state.gradient
    scale = jnp.where(counts, jnp.maximum(faded, watched), state.gradient)
    updates = jnp.minimum(state.updates + counts, WATCH)
    return factor, dataclasses.replace(state, gradient=scale, updates=updates, quiet=quiet), bounded


def _follow(
    guard: Guard, scale: Array, before: Array, peaks: Array, over: Array, axes: frozenset[str]
) -> tuple[Array, Array]:
    """A scale after a chunk, and whether its last timestep was beyond its bounds.

    Args:
        before: that of the chunk before.
        peaks: the largest value within bounds, of every timestep.
        over: whether there was one beyond them.
    """
    length = len(peaks)
    over = max_over(over.astype(scale.dtype), axes)
    # A chunk may hold as many doublings as it has timesteps; its bound was that of its beginning.
    doubled = (over * jnp.concatenate([before[None], over[:-1]])).sum(0)
    within = jnp.minimum(max_over(peaks.max(0), axes), _doubled(scale, min(length, 10)))
    beyond = jnp.minimum(guard.bound * jnp.maximum(1, scale), _doubled(scale, doubled))
    largest = jnp.where(doubled > 0, jnp.maximum(within, beyond), within)
    return jnp.maximum(_decay(guard, length, scale.dtype) * scale, largest), over[-1]


def _doubled(scale: Array, times: int | Array) -> Array:
    return 2.0 ** jnp.minimum(times, 10) * jnp.maximum(1, scale)


def _decay(guard: Guard, length: int, dtype: Any) -> Array:
    return jnp.exp(jnp.asarray(-length / guard.memory, dtype))


def _over(a: Array, like: Array) -> Array:
    return jnp.expand_dims(a, range(a.ndim, like.ndim))
