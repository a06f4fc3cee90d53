"""What a learner knows, and what a step tells."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree


class Window(eqx.Module):
    """What is summed until the next update of the parameters."""

    grads: PyTree
    weight: Float[Array, ""]
    chunks: Int[Array, ""]


class LearnerState(eqx.Module):
    """All that a learner knows: an immutable pytree, saved and loaded whole.

    Attributes:
        model: the network as it is now.
        carry: hidden state and trace of every cell.
        opt_state: the optimizer's state.
        window: gradients summed since the last update; ``None`` if every chunk updates.
        step: timesteps seen (stays at the largest uint32 if it gets there).
        key: PRNG key of the dropout.
    """

    model: PyTree
    carry: PyTree
    opt_state: PyTree
    window: Window | None
    step: Int[Array, ""]
    key: PRNGKeyArray


class StepOutput(eqx.Module):
    """What a learning step tells.

    Attributes:
        prediction: made before the update, ``([time,] [batch,] ...)``.
        loss: unweighted, mean over the samples that have a usable target, ``([time])``; NaN where
            none has.
        skipped: samples left out because an input, target or loss was not finite, plus one at the
            end of a chunk whose gradient was not finite, ``([time])``.
        grad_norm: Euclidean norm of the gradient of every chunk, ``([chunks])``.
    """

    prediction: PyTree[Array]
    loss: Float[Array, "*time"]
    skipped: Int[Array, "*time"]
    grad_norm: Float[Array, "*chunks"]


class NonFiniteError(ArithmeticError):
    """Data or a gradient was not finite; ``state`` is the learner's state before the call."""

    def __init__(self, message: str, state: LearnerState):
        super().__init__(message)
        self.state = state


def layout(state: LearnerState) -> tuple[int | None, jnp.dtype]:
    """The batch size, and the real dtype of the network: asking its parameters takes longer."""
    h = jax.tree.leaves(state.carry)[0]  # a hidden state: ([batch,] N)
    return None if h.ndim == 1 else h.shape[0], jnp.finfo(h.dtype).dtype


def batch_size_of(state: LearnerState) -> int | None:
    return layout(state)[0]
