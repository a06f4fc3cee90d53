"""The gradient of a whole sequence, chunk by chunk, parameters held fixed."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from rtrl.engine import (
    Loss,
    Past,
    Rule,
    axes_of,
    check_rule,
    chunk_gradient,
    init_carry,
    kept_behind,
    over_chunks,
    vary,
)
from rtrl.learners import _inputs
from rtrl.learners._overlap import check_overlap, slide, window_keys


def sequence_gradient(
    model: PyTree,
    loss: Loss,
    xs: ArrayLike,
    ys: PyTree[ArrayLike],
    *,
    rule: Rule,
    chunk: int | None = None,
    overlap: int = 0,
    weights: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    key: PRNGKeyArray | None = None,
) -> tuple[Float[Array, ""], PyTree]:
    """Give a rule's gradient over a whole sequence, parameters held fixed.

    ::

        objective = sum over t of w_t * (mean over the batch of loss(prediction_t, y_t))

    Args:
        model: a `SequenceModel`, or any Equinox module of our cells that is called the same way:
            ``model(xs, carry, *, rule, resets, mask, key) -> (predictions, carry)``. One that
            calls `recur` exactly once per cell, on the carry as it is given, and returns the carry
            which that gives, may say so with a class attribute ``recurs_once = True``: its traces
            are then advanced and read in one pass. A model that says so and does otherwise is
            refused.
        loss: ``(prediction, target) -> scalar``, for one sample at one timestep.
        xs: inputs, ``(time, [batch,] in_size)``.
        ys: targets, a pytree of arrays ``(time, [batch,] ...)``.
        rule: the learning rule.
        chunk: timesteps per chunk. Default: 1 for an online rule; the whole sequence for `BPTT`.
            A ragged tail is a chunk.
        overlap: timesteps before every chunk that are run again with it, so that every error
            reaches back over at least as many through all layers; see `OnlineLearner`.
        weights: of the losses, ``(time, [batch])``; default 1. Where it is 0 the target does not
            count, also if it is NaN.
        resets: true where a new sequence begins, ``(time, [batch])``.
        key: PRNG key of the dropout; ``None`` for no dropout.

    Returns:
        The objective and its gradient, a pytree like ``eqx.filter(model, eqx.is_inexact_array)``,
        the same for every rule.

    Raises:
        ValueError: an argument of the wrong shape or kind, named.
    """
    check_rule(rule)
    check_overlap(overlap, rule)
    batch_size = _inputs.infer_batch(model, xs)
    data = _inputs.prepare(model, xs, ys, weights, resets, batch_size)
    length = data.xs.shape[0]
    chunk = _inputs.chunk_size(chunk, length, rule)
    carry = init_carry(model, rule, batch_size)
    if overlap:
        return _overlapping(model, loss, carry, data, key, rule, chunk, overlap)
    return _sequence_gradient(model, loss, carry, data, key, rule, chunk)


@eqx.filter_jit
def _sequence_gradient(model, loss, carry, data, key, rule, chunk):
    # Summed chunk by chunk: a gradient for each would take memory that grows with the sequence.
    zeros = jax.tree.map(jnp.zeros_like, eqx.filter(model, eqx.is_inexact_array))

    def body(state, data):
        carry, grads, total, key = state
        # Another mask in every chunk, the same ones for the same key.
        key, now = (None, None) if key is None else jax.random.split(key)
        result = chunk_gradient(model, loss, carry, data, rule=rule, key=now)
        grads = jax.tree.map(jnp.add, grads, result.grads)
        return (result.carry, grads, total + result.objective, key), None

    carry = vary(carry, axes_of((model, data, key)))
    init = (carry, zeros, jnp.zeros((), data.weights.dtype), key)
    (_, grads, total, _), _ = over_chunks(body, init, data, data.xs.shape[0], chunk)
    return total, grads


@eqx.filter_jit
def _overlapping(model, loss, carry, data, key, rule, chunk, overlap):
    zeros = jax.tree.map(jnp.zeros_like, eqx.filter(model, eqx.is_inexact_array))

    def body(state, data):
        carry, past, grads, total, step = state
        length = len(data.xs)
        keys = None if key is None else window_keys(key, step, overlap, length)
        result = chunk_gradient(model, loss, carry, data, rule=rule, key=keys, past=past)
        carry, past = slide(model, result.carry, past, data)
        grads = jax.tree.map(jnp.add, grads, result.grads)
        return (carry, past, grads, total + result.objective, step + length), None

    past = Past(
        jnp.zeros((overlap, *data.xs.shape[1:]), data.xs.dtype),
        jnp.zeros((overlap, *data.weights.shape[1:]), bool),
    )
    # The first windows begin before the sequence does. In later ones every timestep has happened,
    # and a mask that says so would take time.
    length = len(data.xs)
    masked = min(-(-overlap // chunk) * chunk, length) if data.resets is None else length
    first = jax.tree.map(lambda a: a[:masked], data)
    rest = jax.tree.map(lambda a: a[masked:], data)
    carry, past = vary((kept_behind(carry), past), axes_of((model, data, key)))
    state = (carry, past, zeros, jnp.zeros((), data.weights.dtype), jnp.uint32(0))
    state, _ = over_chunks(body, state, first, masked, chunk)
    if masked < length:
        carry, past, *sums = state
        state, _ = over_chunks(
            body, (carry, past._replace(mask=None), *sums), rest, length - masked, chunk
        )
    _, _, grads, total, _ = state
    return total, grads
