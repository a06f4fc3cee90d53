"""What would a constant have cost? The loss that a learner has to beat to know anything."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, PyTree

from rtrl.engine import Loss


def constant_loss(
    loss: Loss, predictions: PyTree, ys: PyTree, known: Bool[np.ndarray, "K B"], axes: int
) -> float:
    """Give the mean loss of the best constant prediction on a window, by Newton's method.

    ::

        min over c of (1 / K) sum over t of loss(c, y_t)

    Args:
        loss: of one prediction and target.
        predictions: to begin from, and for their structure.
        ys: targets.
        known: which of them there are.
        axes: how many axes a timestep and sample are addressed by, 1 or 2.
    """
    rows = np.flatnonzero(known.ravel())
    if rows.size == 0:
        return float("nan")
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[axes:])[rows], (predictions, ys))
    first = jax.tree.map(lambda a: a.mean(0), flat[0])
    start, unravel = ravel_pytree(first)

    @jax.jit
    def objective(p):
        return jax.vmap(loss, (None, 0))(unravel(p), flat[1]).mean()

    step = jax.jit(lambda p: _damped(objective, p))
    best, p = float(objective(start)), start
    for _ in range(20):
        p = step(p)
        best = min(best, float(objective(p)))
    return best


def _damped(objective, p):
    H, g = jax.hessian(objective)(p), jax.grad(objective)(p)
    return p - jnp.linalg.solve(H + (1e-6 + 1e-3 * jnp.abs(jnp.trace(H))) * jnp.eye(len(p)), g)
