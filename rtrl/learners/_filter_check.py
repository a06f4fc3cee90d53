"""What a learner must be for a filter: its loss, its model, its updates."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import PyTree

from rtrl.engine import Loss
from rtrl.learners._filter import Filter
from rtrl.learners._hidden import prediction_like
from rtrl.learners._state import LearnerState, batch_size_of
from rtrl.validate import require


def require_every_update(optimizer: optax.GradientTransformation, update_every: int) -> None:
    """Raise a `ValueError` if a `Filter` is to take several chunks at once."""
    require(update_every == 1 or not isinstance(optimizer, Filter), "update_every",
            "1 with a filter such as rtrl.kalman(), which takes every error by itself",
            update_every)  # fmt: skip


def with_optimizer(
    optimizer: optax.GradientTransformation, loss: Loss, state: LearnerState
) -> LearnerState:
    """Add the optimizer's first state; a `Filter` is told how many numbers are predicted.

    Raises:
        ValueError: for a `Filter`, the loss is not half the squared error, or the model does not
            say how large its inputs are.
    """
    params = eqx.filter(state.model, eqx.is_inexact_array)
    if not isinstance(optimizer, Filter):
        return dataclasses.replace(state, opt_state=optimizer.init(params))
    try:
        like = prediction_like(state)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"model: expected one with an in_size that it takes, as a filter has to know how many "
            f"numbers it predicts, got {type(state.model).__name__}: {error}"
        ) from error
    lead = 0 if batch_size_of(state) is None else 1
    sample = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[lead:], a.dtype), like)
    require_half_square(loss, sample)
    outputs = sum(int(np.prod(a.shape)) for a in jax.tree.leaves(sample))
    return dataclasses.replace(state, opt_state=optimizer.init(params, outputs=outputs))


def require_half_square(loss: Loss, like: PyTree) -> None:
    """Raise a `ValueError` unless the derivative of the loss is ``prediction - target``.

    Evaluated at random predictions and targets, small and large: a loss that has the derivative of
    half the squared error at all of them and is none would have to be made for it.
    """
    leaves, structure = jax.tree.flatten(like)
    rng = np.random.default_rng(0)

    def draw(scale):
        numbers = [(scale * rng.normal(size=a.shape)).astype(a.dtype) for a in leaves]
        return jax.tree.unflatten(structure, numbers)

    expected = "half the squared error, 0.5 * jnp.sum((prediction - target) ** 2), for a filter"
    with jax.ensure_compile_time_eval():
        slope = jax.jit(jax.grad(lambda p, y: jnp.asarray(loss(p, y)).astype(float)))
        for scale in (1e-2, 1.0, 1e2):
            prediction, target = draw(scale), draw(scale)
            try:
                found = slope(prediction, target)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"loss: expected {expected}, got one that raises: {error}"
                ) from error
            if any(isinstance(a, Tracer) for a in jax.tree.leaves(found)):
                return  # inside a transformation of the user's nothing can be looked at
            wanted = jax.tree.map(lambda p, y: p - y, prediction, target)
            # Rounding of a few operations, in single precision.
            same = jax.tree.map(
                lambda a, b, s=scale: bool(np.allclose(a, b, rtol=1e-4, atol=1e-4 * s)),
                found, wanted,
            )  # fmt: skip
            require(jax.tree.all(same), "loss", expected,
                    f"{getattr(loss, '__name__', loss)} with another derivative")  # fmt: skip
