"""The gradient of a chunk, and of a whole sequence chunk by chunk."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from rtrl import _inputs
from rtrl._carry import init_carry
from rtrl._inputs import Chunk
from rtrl.rules._base import Rule, check_rule

Loss = Callable[[PyTree, PyTree], Array]


class ChunkResult(NamedTuple):
    """What a chunk gives: predictions and losses of its timesteps, gradient of its objective."""

    predictions: PyTree[Array]
    losses: Float[Array, "time *batch"]  # per sample, unweighted; NaN where there is no target
    weights: Float[Array, "time *batch"]  # as used: zero where a target or loss was not finite
    grads: PyTree
    carry: PyTree


def chunk_gradient(
    model: PyTree,
    loss: Loss,
    carry: PyTree,
    chunk: Chunk,
    *,
    rule: Rule,
    key: PRNGKeyArray | None,
    forgive: bool = False,
) -> ChunkResult:
    """Predict a chunk of timesteps and give the rule's gradient of its weighted loss.

    The three phases of a learning step: the network runs forward (and every cell advances its
    trace); the loss's error is taken at every prediction; the rule carries it back to the
    parameters.

    Args:
        forgive: give a loss that is not finite, or whose error is not, the weight zero.
    """
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def run(params, carry):
        network = eqx.combine(params, static)
        return network(chunk.xs, carry, rule=rule, resets=chunk.resets, mask=chunk.mask, key=key)

    once = getattr(model, "recurs_once", False)
    predictions, pull = rule.differentiate(run, params, carry, once=once)
    weights = chunk.weights
    if chunk.ys is None:
        losses = jnp.full_like(weights, jnp.nan)
        errors = jax.tree.map(jnp.zeros_like, predictions)
        weights = jnp.zeros_like(weights)
    else:
        losses, errors = _loss_and_error(loss, predictions, chunk.ys, weights.ndim)
        if forgive:
            usable = jnp.isfinite(losses)
            for error in jax.tree.leaves(errors):
                usable &= jnp.isfinite(error).all(range(weights.ndim, error.ndim))
            weights = jnp.where(usable, weights, 0)
        samples = 1 if weights.ndim == 1 else weights.shape[1]
        errors = jax.tree.map(lambda e: _weigh(e, weights / samples, forgive), errors)
    grads, carry = pull(errors)
    return ChunkResult(predictions, losses, weights, grads, carry)


def _loss_and_error(loss: Loss, predictions: PyTree, ys: PyTree, axes: int) -> tuple[Array, PyTree]:
    """Loss and its derivative by the prediction, for every timestep and sample."""
    function = jax.value_and_grad(partial(_scalar, loss))
    for _ in range(axes):
        function = jax.vmap(function)
    return function(predictions, ys)


def _scalar(loss: Loss, prediction: PyTree, y: PyTree) -> Array:
    """Call the loss; what it can't take is a mistake in ``ys`` or ``loss``, and said as such."""

    def shapes(tree):
        return ", ".join(f"{jnp.shape(a)} {jnp.result_type(a)}" for a in jax.tree.leaves(tree))

    try:
        value = loss(prediction, y)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"ys: the loss can't take a target {shapes(y)} (one sample at one timestep) with a "
            f"prediction {shapes(prediction)}: {error}"
        ) from error
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise ValueError(
            f"loss: expected a real scalar for one sample at one timestep, got {shapes(value)} "
            f"from a prediction {shapes(prediction)} and a target {shapes(y)}."
        )
    return jnp.asarray(value)


def _weigh(error: Array, weights: Array, forgive: bool) -> Array:
    weights = jnp.expand_dims(weights, range(weights.ndim, error.ndim)).astype(error.dtype)
    weighted = error * weights
    return jnp.where(weights == 0, 0, weighted) if forgive else weighted


def over_chunks(
    body: Callable[[Any, Any], tuple[Any, Any]], init: Any, data: Any, length: int, chunk: int
) -> tuple[Any, list[Any]]:
    """Scan ``body`` over chunks of ``chunk`` timesteps of ``data``, then over the ragged tail.

    Returns the final carry and the outputs: those of the full chunks stacked, then the tail's.
    """
    full = length // chunk
    outputs = []
    state = init
    if full > 1:
        head = jax.tree.map(lambda a: a[: full * chunk].reshape(full, chunk, *a.shape[1:]), data)
        state, out = jax.lax.scan(body, state, head)
        outputs.append(out)
    elif full == 1:
        state, out = body(state, jax.tree.map(lambda a: a[:chunk], data))
        outputs.append(jax.tree.map(lambda a: a[None], out))
    if length % chunk:
        state, out = body(state, jax.tree.map(lambda a: a[full * chunk :], data))
        outputs.append(jax.tree.map(lambda a: a[None], out))
    return state, outputs


def sequence_gradient(
    model: PyTree,
    loss: Loss,
    xs: ArrayLike,
    ys: PyTree[ArrayLike],
    *,
    rule: Rule,
    chunk: int | None = None,
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
            calls `recur` once per cell may say so with a class attribute ``recurs_once = True``:
            its traces are then advanced and read in one pass.
        loss: ``(prediction, target) -> scalar``, for one sample at one timestep.
        xs: inputs, ``(time, [batch,] in_size)``.
        ys: targets, a pytree of arrays ``(time, [batch,] ...)``.
        rule: the learning rule.
        chunk: timesteps per chunk. Default: 1 for an online rule; the whole sequence for `BPTT`.
            A ragged tail is a chunk.
        weights: of the losses, ``(time, [batch])``; default 1.
        resets: true where a new sequence begins, ``(time, [batch])``.
        key: PRNG key of the dropout; ``None`` for no dropout.

    Returns:
        The objective and its gradient, a pytree like ``eqx.filter(model, eqx.is_inexact_array)``,
        the same for every rule.

    Raises:
        ValueError: an argument of the wrong shape or kind, named.
    """
    check_rule(rule)
    batch_size = _inputs.infer_batch(model, xs)
    data = _inputs.prepare(model, xs, ys, weights, resets, batch_size)
    length = data.xs.shape[0]
    chunk = _inputs.chunk_size(chunk, length, rule)
    carry = init_carry(model, rule, batch_size)
    return _sequence_gradient(model, loss, carry, data, key, rule, chunk)


@eqx.filter_jit
def _sequence_gradient(model, loss, carry, data, key, rule, chunk):
    zeros = jax.tree.map(jnp.zeros_like, eqx.filter(model, eqx.is_inexact_array))

    def body(state, data):
        carry, grads, total, key = state
        key, now = (None, None) if key is None else jax.random.split(key)
        result = chunk_gradient(model, loss, carry, data, rule=rule, key=now)
        samples = 1 if result.weights.ndim == 1 else result.weights.shape[1]
        total = total + (result.weights * result.losses).sum() / samples
        grads = jax.tree.map(jnp.add, grads, result.grads)
        return (result.carry, grads, total, key), None

    init = (carry, zeros, jnp.zeros((), data.weights.dtype), key)
    (_, grads, total, _), _ = over_chunks(body, init, data, data.xs.shape[0], chunk)
    return total, grads
