"""Every number that a chunk predicts, its error, and its own derivative: what a filter takes."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rtrl.engine._carry import out_of_window
from rtrl.engine._chunk import ChunkResult
from rtrl.engine._data import Chunk, Past
from rtrl.engine._rule import Rule
from rtrl.engine._varying import axes_of
from rtrl.engine._window import runner
from rtrl.validate import require


class Observations(NamedTuple):
    """The numbers that a chunk predicts beside those that came, samples that share a time together.

    Attributes:
        jacobian: derivative of every predicted number by the parameters, as the rule gives it,
            leaves ``(time, samples, outputs, *parameter)``.
        errors: prediction minus target; 0 where a target is missing.
        weights: of every number; 0 where its target is missing.
    """

    jacobian: PyTree[Float[Array, "time samples outputs *parameter"]]
    errors: Float[Array, "time samples outputs"]
    weights: Float[Array, "time samples outputs"]


def observe(
    model: PyTree,
    carry: PyTree,
    chunk: Chunk,
    *,
    rule: Rule,
    key: PRNGKeyArray | None,
    past: Past | None = None,
) -> tuple[ChunkResult, Observations]:
    """Predict a chunk, and give the rule's derivative of every number that it predicts.

    ::

        objective = sum over t, samples and outputs of w/2 (prediction - y)^2
        jacobian of output i = the rule's gradient for an error of 1 at output i, and 0 elsewhere

    One backward pass for every number: time x samples x outputs of them. The trace advances once,
    as it depends on no error. A target that is not finite counts as missing; the others of its
    sample do count.

    Args:
        model: the network.
        carry: what it carries before the chunk.
        chunk: the data.
        rule: the learning rule.
        key: PRNG key of the dropout.
        past: as for `chunk_gradient`.

    Returns what `chunk_gradient` does (the losses are those of the targets that are there, the
    gradient is summed over samples), and the observations.

    Raises:
        ValueError: the targets don't have the shapes of the predictions, or samples are distributed
            over devices.
    """
    params, static = eqx.partition(model, eqx.is_inexact_array)
    require(not axes_of((model, carry, chunk, key)), "optimizer", "one that takes gradients (a "
            "filter's samples can't be distributed over devices)", "a filter")  # fmt: skip

    run, carry = runner(static, carry, chunk, past, rule=rule, key=key)
    once = getattr(model, "recurs_once", False)
    predictions, pull = rule.differentiate(run, params, carry, once=once)
    time, *batch = chunk.weights.shape
    leaves, structure = jax.tree.flatten(predictions)

    def join(leaves):
        return jnp.concatenate([a.reshape(time, *(batch or (1,)), -1) for a in leaves], -1)

    def split(numbers):
        sizes = np.cumsum([a[0].size // (batch or (1,))[0] for a in leaves])[:-1]
        parts = jnp.split(numbers, sizes, -1)
        parts = [p.reshape(a.shape) for p, a in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(structure, parts)

    predicted = join(leaves)
    if chunk.ys is None:
        errors = weights = jnp.zeros_like(predicted)
    else:
        errors = predicted - join(_like(chunk.ys, leaves, structure))
        weights = jnp.broadcast_to(chunk.weights.reshape(time, -1, 1), errors.shape)
    # The square of what comes must not overflow.
    there = jnp.isfinite(errors * errors) & (weights > 0)
    errors = jnp.where(there, errors, 0)
    weights = jnp.where(there, weights, 0)

    if errors.size == 1:  # the usual case, without a batch axis over the numbers
        one, carry = pull(split(jnp.ones_like(errors)))
        jacobian = jax.tree.map(lambda a: a[None, None, None], one)
    else:
        basis = jnp.eye(errors.size, dtype=errors.dtype).reshape(-1, *errors.shape)
        jacobian, carry = jax.vmap(lambda unit: pull(split(unit)), out_axes=(0, None))(basis)
        jacobian = jax.tree.map(lambda a: a.reshape(*errors.shape, *a.shape[1:]), jacobian)

    weighted = weights * errors
    grads = jax.tree.map(lambda a: jnp.tensordot(weighted, a, 3), jacobian)
    some = there.any(-1)
    losses = jnp.where(some, 0.5 * (errors * errors).sum(-1), jnp.inf)
    result = ChunkResult(
        predictions=predictions,
        losses=losses.reshape(chunk.weights.shape),
        weights=weights.max(-1).reshape(chunk.weights.shape),
        objective=0.5 * (weighted * errors).sum(),
        grads=grads,
        carry=out_of_window(carry),
        axes=frozenset(),
    )
    return result, Observations(jacobian, errors, weights)


def _like(ys: PyTree, leaves: list[Array], structure) -> list[Array]:
    """The targets, leaf by leaf, if they are shaped as predictions are."""
    same = jax.tree.structure(ys) == structure
    targets = jax.tree.leaves(ys)
    expected = [a.shape[1:] for a in leaves]
    fits = same and all(
        y.shape == p.shape or y.size == p.size == len(p)
        for y, p in zip(targets, leaves, strict=True)
    )
    require(fits, "ys", f"targets like predictions, {expected} at one timestep",
            [jnp.shape(y)[1:] for y in targets])  # fmt: skip
    return targets
