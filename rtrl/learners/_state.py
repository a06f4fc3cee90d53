"""What a learner knows, and what a step tells."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from rtrl.engine import Past, record
from rtrl.learners._guard import GuardState


@record
class Window:
    """What is summed until the next update of the parameters."""

    grads: PyTree
    weight: Float[Array, ""]
    chunks: Int[Array, ""]


@record
class LearnerState:
    """All that a learner knows: an immutable pytree, saved and loaded whole.

    Attributes:
        model: the network as it is now.
        carry: hidden state and trace of every cell; where chunks overlap those of ``overlap``
            timesteps ago, and the newest state beside them.
        opt_state: the optimizer's state.
        window: gradients summed since the last update; ``None`` if every chunk updates.
        guard: the scales that the learner's `Guard` keeps; ``None`` without one.
        step: timesteps seen (stays at the largest uint32 if it gets there).
        key: PRNG key of the dropout.
        past: the inputs of the last ``overlap`` timesteps, since ``carry``; ``None`` where chunks
            do not overlap. They are run again with every chunk of K timesteps, with the parameters
            of now, in the time of a chunk of overlap + K; ``carry`` advances by K in the same pass.
            A model with dropout is given one key for every timestep (``key`` has a time axis), as
            a timestep has the same mask whenever it is run.
    """

    model: PyTree
    carry: PyTree
    opt_state: PyTree
    window: Window | None
    guard: GuardState | None
    step: Int[Array, ""]
    key: PRNGKeyArray
    past: Past | None = None


@record
class StepOutput:
    """What a learning step tells.

    Attributes:
        prediction: made before the update, ``([time,] [batch,] ...)``.
        loss: unweighted, mean over the samples that have a usable target, ``([time])``; NaN where
            none has. (Under ``jax_debug_nans``, which allows no NaN in an array of JAX, a numpy
            array; inside a program of your own, infinity where none has.)
        skipped: samples left out because an input, target or loss was not finite, plus one at the
            end of a chunk whose update was left out because the gradient, or what would have been
            stored as a parameter or as the optimizer's state, was not finite, ``([time])``.
        grad_norm: Euclidean norm of the gradient of every chunk, ``([chunks])``.
        restarted: samples whose memory began anew at the end of a chunk, ``([time])``: state and
            trace of a cell do where one of their numbers is not finite, or where the sum of their
            squares is not. The data were there; what has been remembered of them is lost.
        bounded: samples whose input or target was bounded by the learner's `Guard`, plus one at the
            end of a chunk whose gradient was, ``([time])``; zero without a guard.
        reverted: one at the end of a chunk after which the parameters went back to the last good
            ones (``divergence`` of the guard), ``([time])``.
    """

    prediction: PyTree[Array]
    loss: Float[Array, "*time"]
    skipped: Int[Array, "*time"]
    grad_norm: Float[Array, "*chunks"]
    restarted: Int[Array, "*time"]
    bounded: Int[Array, "*time"]
    reverted: Int[Array, "*time"]


def nothing_learned(prediction: PyTree) -> StepOutput:
    """A prediction of its own; of length 0, so that outputs of many items can be put end to end."""
    loss: Any = np.zeros(0, np.float32)
    none: Any = np.zeros(0, np.int32)
    return StepOutput(prediction, loss, none, loss, none, none, none)


class NonFiniteError(ArithmeticError):
    """Data, a gradient or an update was not finite; ``state`` is the state before the call."""

    def __init__(self, message: str, state: LearnerState):
        super().__init__(message)
        self.state = state


def no_loss() -> float:
    """What stands in a compiled program for a loss that is missing."""
    return jnp.inf if jax.config.jax_debug_nans else jnp.nan  # type: ignore[attr-defined]


def mark(loss: Any, missing: Any) -> Any:
    """NaN where a loss is missing; a numpy array under ``jax_debug_nans``, which forbids others."""
    if jax.config.jax_debug_nans:  # type: ignore[attr-defined]
        return np.where(missing, np.asarray(np.nan, loss.dtype), np.asarray(loss))
    return jnp.where(missing, jnp.nan, loss)


def layout(state: LearnerState) -> tuple[int | None, jnp.dtype]:
    """The batch size, and the real dtype of the network: asking its parameters takes longer."""
    h = jax.tree.leaves(state.carry)[0]  # a hidden state: ([batch,] N)
    _require_there(h)
    return None if h.ndim == 1 else h.shape[0], jnp.finfo(h.dtype).dtype


def batch_size_of(state: LearnerState) -> int | None:
    return layout(state)[0]


def require_there(state: PyTree) -> None:
    """Raise a `ValueError` if a call has used up a state."""
    for leaf in jax.tree.leaves(state):
        _require_there(leaf)


def _require_there(leaf: Any) -> None:
    if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and leaf.is_deleted():
        raise ValueError(
            "state: expected one that is still there, got one that an earlier call has used up, as "
            "the learner was made with donate=True: go on from the state that the call returned, "
            "or make the learner with donate=False, which keeps old states."
        )
