"""The gradient of a chunk, and of a whole sequence chunk by chunk."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rtrl.engine._carry import out_of_window
from rtrl.engine._data import Chunk, Past
from rtrl.engine._rule import Rule
from rtrl.engine._varying import axes_of, devices, sum_over, vary
from rtrl.engine._window import runner

Loss = Callable[[PyTree, PyTree], Array]


class ChunkResult(NamedTuple):
    """What a chunk gives: predictions and losses of its timesteps, gradient of its objective."""

    predictions: PyTree[Array]
    losses: Float[Array, "time *batch"]  # per sample, unweighted; inf where there is no target
    weights: Float[Array, "time *batch"]  # as used: zero where a target or loss was not finite
    objective: Float[Array, ""]
    grads: PyTree
    carry: PyTree
    axes: frozenset[str]  # of the mesh of a shard_map, over which samples are distributed


def chunk_gradient(
    model: PyTree,
    loss: Loss,
    carry: PyTree,
    chunk: Chunk,
    *,
    rule: Rule,
    key: PRNGKeyArray | None,
    forgive: bool = False,
    past: Past | None = None,
) -> ChunkResult:
    """Predict a chunk of timesteps and give the rule's gradient of its weighted loss.

    The three phases of a learning step: the network runs forward (and every cell advances its
    trace); the loss's error is taken at every prediction; the rule carries it back to the
    parameters.

    Inside `jax.shard_map` the batch is all devices' along the mesh axes over which the data vary
    and the parameters do not.

    Args:
        forgive: give a loss that is not finite, or whose error is not, the weight zero.
        past: timesteps that are run again before the chunk, from ``carry``, so that its errors
            reach back over them, too. What is carried then advances by as many timesteps as the
            chunk has, and its ``newest`` is the state after the chunk. ``key`` is one key for every
            timestep of both.
    """
    params, static = eqx.partition(model, eqx.is_inexact_array)
    axes = axes_of((model, carry, chunk, key, past))
    carry = vary(carry, axes)  # a trace, too: what comes back for it is no gradient to be summed
    axes -= axes_of(params)

    run, carry = runner(static, carry, chunk, past, rule=rule, key=key)
    # Only the network knows whether it runs a cell twice; without its word traces advance in the
    # forward pass, which is always right.
    once = getattr(model, "recurs_once", False)
    predictions, pull = rule.differentiate(run, params, carry, once=once)
    weights = chunk.weights
    if chunk.ys is None:
        # The errors are zero rather than absent: the backward pass must run all the same, as it is
        # what advances deferred traces.
        losses = jnp.full_like(weights, jnp.inf)
        errors = jax.tree.map(jnp.zeros_like, predictions)
        weights = jnp.zeros_like(weights)
    else:
        losses, errors = _loss_and_error(loss, predictions, chunk.ys, weights.ndim)
        if forgive:
            usable = jnp.isfinite(losses)
            for error in jax.tree.leaves(errors):
                # A loss may be finite where its derivative is not, as that of a root at zero.
                usable &= jnp.isfinite(error).all(range(weights.ndim, error.ndim))
            weights = jnp.where(usable, weights, 0)
    # The mean over the batch is taken here, once, so that no rule needs to know of it.
    samples = devices(axes) * (1 if weights.ndim == 1 else weights.shape[1])
    errors = jax.tree.map(lambda e: _weigh(e, weights / samples), errors)
    objective = sum_over(_weigh(losses, weights / samples).sum(), axes)
    grads, carry = pull(errors)
    # Reverse mode has summed it over devices; a rule with means of its own has not.
    grads = jax.tree.map(lambda g, p: sum_over(g, axes_of(g) - axes_of(p)), grads, params)
    carry = out_of_window(carry)
    return ChunkResult(predictions, losses, weights, objective, grads, carry, axes)


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


def _weigh(a: Array, weights: Array) -> Array:
    """What has weight zero does not count, whatever it is."""
    weights = jnp.expand_dims(weights, range(weights.ndim, a.ndim)).astype(a.dtype)
    # Zero times NaN is NaN, so it must be replaced, not multiplied.
    return jnp.where(weights == 0, 0, a * weights)


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
