"""Is the rate right? The window learned again, with every update made smaller or larger."""

import dataclasses
import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from rtrl.analysis._layers import layer_of
from rtrl.learners import LearnerState, OnlineLearner

#: What the updates are multiplied by.
FACTORS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


class Replay(NamedTuple):
    """The window learned again and again, the optimizer's updates multiplied by a factor.

    Attributes:
        factors: of the updates; 0 learns nothing, 1 is the learner as it is.
        losses: predicted before each update and averaged over the second half of the window, where
            the learner has a loss; infinite where it is not finite.
        updates: of the factor 1, the root mean square of what the whole window changed in the
            parameters over that of the parameters, by layer.
    """

    factors: Float[np.ndarray, " factors"]
    losses: Float[np.ndarray, " factors"]
    updates: dict[str, float]


def replay(
    learner: OnlineLearner,
    state: LearnerState,
    xs: Array,
    ys: PyTree,
    *,
    chunk: int | None = None,
    weights: Array | None = None,
    resets: Array | None = None,
    factors: tuple[float, ...] = FACTORS,
) -> Replay:
    """Learn a window again with every update multiplied by a factor, for several factors.

    ::

        p <- p + factor * (update of the optimizer)

    What a smaller or larger rate would have done, whatever the optimizer. Hidden states and traces
    begin anew, so that only rate and rule are judged.

    Args:
        learner: the learner.
        state: its state; it is not touched.
        xs, ys, weights, resets: the window, as for `OnlineLearner.scan`.
        chunk: timesteps per chunk, as for `OnlineLearner.scan`.
        factors: of the updates.
    """

    scaled = dataclasses.replace(
        learner,
        optimizer=_scaled(learner.optimizer),
        on_nonfinite="skip",
        donate=False,
    )
    begun = learner.reset(state)
    count = np.asarray(weights).reshape(len(xs), -1).sum(1) if weights is not None else None
    losses, updates = [], {}
    for factor in factors:
        given = _Scaled(begun.opt_state, jnp.asarray(factor, jnp.float32))
        start = eqx.tree_at(lambda s: s.opt_state, begun, given)
        after, outs = scaled.scan(start, xs, ys, chunk=chunk, weights=weights, resets=resets)
        losses.append(_late(np.asarray(outs.loss, np.float64), count))
        if factor == 1.0:
            updates = _relative(begun.model, after.model)
    return Replay(np.asarray(factors), np.asarray(losses), updates)


@functools.lru_cache(maxsize=16)  # the same functions again, so that nothing is compiled again
def _scaled(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer whose updates are multiplied by a number in its state."""

    def init(params, **more):
        return _Scaled(optimizer.init(params, **more), jnp.ones(()))

    def update(grads, opt_state, params=None, **more):
        inner, factor = opt_state
        updates, inner = optimizer.update(grads, inner, params, **more)
        updates = jax.tree.map(lambda u: (factor * u).astype(u.dtype), updates)
        return updates, _Scaled(inner, factor)

    # Of the optimizer's own kind: a learner hands a filter more than a gradient.
    return type(optimizer)(init, update)  # type: ignore[arg-type]


class _Scaled(NamedTuple):
    """An optimizer's state, and what its updates are multiplied by."""

    inner: PyTree
    factor: Array

    @property
    def left_out(self) -> Array:
        """What a filter had to leave out, which a learner asks for."""
        return self.inner.left_out

    @property
    def spread(self) -> Array:
        """What a filter knows of every output, which says how many there are."""
        return self.inner.spread


def _late(losses: np.ndarray, weights: np.ndarray | None) -> float:
    """Mean over the later half of the timesteps that have a loss."""
    there = np.isfinite(losses) if weights is None else np.isfinite(losses) & (weights > 0)
    late = losses[there][there.sum() // 2 :]
    return float(late.mean()) if late.size else float("inf")


def _relative(before: PyTree, after: PyTree) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    leaves = jax.tree.leaves(eqx.filter(after, eqx.is_inexact_array))
    params = eqx.filter(before, eqx.is_inexact_array)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(params), leaves, strict=True):
        name = layer_of(path)
        pair = sums.setdefault(name, [0.0, 0.0])
        pair[0] += float(((np.asarray(b, np.float64) - np.asarray(a, np.float64)) ** 2).sum())
        pair[1] += float((np.asarray(a, np.float64) ** 2).sum())
    return {name: (u / p) ** 0.5 if p else float("nan") for name, (u, p) in sums.items()}
