"""A learner with its running scales, as one state."""

import numpy as np
from jaxtyping import PyTree

from rtrl.engine import record
from rtrl.learners import LearnerState, StreamState
from rtrl.streams._moments import Moments
from rtrl.validate import require


@record
class StandardizedState:
    """State of a `Standardized` learner: an immutable pytree, saved and loaded whole.

    Attributes:
        learner: the state of the learner inside, or of its stream.
        inputs, targets: their moments; ``None`` where they are left as they are.
        items: timesteps seen.
    """

    learner: LearnerState | StreamState
    inputs: Moments | None
    targets: Moments | None
    items: np.int64

    @property
    def model(self) -> PyTree:
        """The network with its newest parameters, which lives in standardised units."""
        return self.learner.model

    @property
    def carry(self) -> PyTree:
        """Hidden states (and traces, unless in a stream) of the network's cells."""
        return self.learner.carry


def at_rest(state: StandardizedState) -> LearnerState:
    """The learner's own state; `ValueError` in the middle of a stream."""
    require(
        isinstance(state.learner, LearnerState),
        "state",
        "one that is not in the middle of a stream (close_stream ends it)",
        type(state.learner).__name__,
    )
    return state.learner  # type: ignore[return-value]
