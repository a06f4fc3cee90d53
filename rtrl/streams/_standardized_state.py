"""A learner with its running scales, as one state."""

import equinox as eqx
import numpy as np
from jaxtyping import PyTree

from rtrl.learners import (
    LearnerState,
    StreamState,
)
from rtrl.streams._moments import Moments


class StandardizedState(eqx.Module):
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
