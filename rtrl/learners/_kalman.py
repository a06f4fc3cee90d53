"""A second-order optimizer for streams: an extended Kalman filter on the rule's gradient."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from rtrl.validate import require


class KalmanState(NamedTuple):
    """One covariance per row of every parameter, in units of the observation noise."""

    covariance: PyTree[Float[Array, "rows m m"]]


def kalman(
    error: Callable[[PyTree], Float[Array, ""]], *, prior: float = 10.0
) -> optax.GradientTransformation:
    """Decoupled extended Kalman filter: recursive least squares for every row of every weight.

    ::

        j = dprediction/dp = gradient / error
        v = 1 + sum over groups of j^T P j
        p <- p - P j error / v,    P <- P - (P j)(P j)^T / v        for every group of parameters

    With an online rule's gradient this is second-order learning in one pass, without a learning
    rate; for a linear model of one row it is recursive least squares exactly. A group is a row of
    a matrix, or a whole vector. Memory: the sum over groups of their squared size. It needs a
    scalar prediction with the loss ``0.5 * (prediction - y) ** 2``, no batch axis, chunks of one
    timestep (``learner.step``, or ``scan`` with ``chunk=1``) and ``update_every=1``: a sum of
    gradients can't be taken apart into errors and derivatives.

    Args:
        error: takes the gradient and gives the error ``prediction - y`` it was made of. For a
            `SequenceModel` that is the gradient of the decoder's bias,
            ``lambda grads: grads.decoder.bias[0]``.
        prior: variance of the parameters before the first timestep over that of the noise; larger
            learns faster at first.

    Returns:
        An optax gradient transformation; its state holds P, ``(rows, m, m)`` for every parameter.

    Raises:
        ValueError: ``prior`` is not positive.

    Source: Puskorius & Feldkamp, "Neurocontrol of nonlinear dynamical systems with Kalman filter
    trained recurrent networks" (1994), section III, without process noise.
    """
    require(prior > 0, "prior", "a positive ratio of variances", prior)

    def rows(a: Array) -> Array:
        return a.reshape(1, -1) if a.ndim < 2 or a.shape[1] == 1 else a

    def init(params: PyTree) -> KalmanState:
        def covariance(a: Array) -> Array:
            n, m = rows(a).shape
            return jnp.tile(prior * jnp.eye(m, dtype=a.dtype), (n, 1, 1))

        return KalmanState(jax.tree.map(covariance, params))

    def update(
        grads: PyTree, state: KalmanState, params: PyTree = None
    ) -> tuple[PyTree, KalmanState]:
        e = error(grads)
        # Without an error there is nothing to divide by, nor to learn: zero slopes leave all as it
        # is.
        slopes = jax.tree.map(lambda g: jnp.where(e == 0, 0, rows(g) / e), grads)
        gains = jax.tree.map(lambda P, j: jnp.einsum("nij,nj->ni", P, j), state.covariance, slopes)
        # One variance for all groups: they explain the same error together (decoupled, not
        # separate).
        variance = 1 + optax.tree.vdot(slopes, gains)
        updates = jax.tree.map(lambda k, g: -(e / variance) * k.reshape(g.shape), gains, grads)
        # An outer product of one vector keeps P symmetric to the last bit.
        covariance = jax.tree.map(
            lambda P, k: P - k[:, :, None] * k[:, None, :] / variance, state.covariance, gains
        )
        return updates, KalmanState(covariance)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]
