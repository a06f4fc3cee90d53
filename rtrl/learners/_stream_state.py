"""A learner in the middle of a stream: what it holds."""

import jax
import numpy as np
from jaxtyping import PyTree

from rtrl.engine import record
from rtrl.learners._state import LearnerState, batch_size_of


@record
class StreamState:
    """A learner in the middle of a stream: an immutable pytree, saved and loaded whole.

    Predictions are ahead of learning by the items held here, which wait for the target of the last
    of their chunk. ``learner.predict(state, x)`` looks ahead from the newest item, with the newest
    parameters.

    Attributes:
        learner: the learner's state, behind by the items held.
        carry: hidden states after the newest item (a carry without traces).
        xs: inputs held, oldest first, ``(chunk + delay, [batch,] ...)``.
        ys: targets held, a pytree of ``(chunk, [batch,] ...)``.
        weights: of the losses, ``(chunk, [batch])``; 0 where the target is missing.
        resets: where a new sequence begins, ``(chunk + delay, [batch])``.
        known: which targets are not missing, ``(chunk,)``.
        held: how many inputs are held; what is beyond them in the arrays means nothing.
        settled: whether the shape and kind of a target are known for sure.
        items: items taken from the source so far, over all calls: the number of the next one.
    """

    learner: LearnerState
    carry: PyTree
    xs: np.ndarray
    ys: PyTree[np.ndarray]
    weights: np.ndarray
    resets: np.ndarray
    known: np.ndarray
    held: np.int64
    settled: np.bool_
    items: np.int64

    @property
    def model(self) -> PyTree:
        """The network with its newest parameters."""
        return self.learner.model

    @property
    def chunk(self) -> int:
        """Timesteps per chunk."""
        return len(self.weights)

    @property
    def delay(self) -> int:
        """Items between an input and its target."""
        return len(self.xs) - len(self.weights)


def targets_like(y: PyTree[np.ndarray], chunk: int) -> PyTree[np.ndarray]:
    return jax.tree.map(lambda a: np.zeros((chunk, *a.shape), a.dtype), y)


def lead_of(state: LearnerState | StreamState) -> tuple[int, ...]:
    if isinstance(state, StreamState):
        return state.weights.shape[1:]
    batch_size = batch_size_of(state)
    return () if batch_size is None else (batch_size,)
