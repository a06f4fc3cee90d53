"""What a classifier knows, and what it tells."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from rtrl.engine import record
from rtrl.learners import ONCE, Jitted
from rtrl.streams._class_row import ClassInside, ClassTold
from rtrl.streams._rows import RowState
from rtrl.streams.classes import ClassSizes


@record
class Classification:
    """What a `Classifier` tells of a row, as numpy arrays.

    Attributes:
        probabilities: of every class.
        experts: the probabilities that every expert told.
        weights: how much each counted in the weighted mean.
        skipped: whether the class of this row was missing.
        held: how many inputs were missing, infinite or beyond 1e18: the last known ones stood for
            them.
    """

    probabilities: Float[np.ndarray, "*time classes"]
    experts: Float[np.ndarray, "*time experts classes"]
    weights: Float[np.ndarray, "*time experts"]
    skipped: Int[np.ndarray, "*time"]
    held: Int[np.ndarray, "*time"]

    @property
    def prediction(self) -> Int[np.ndarray, "*time"]:
        """The most probable class."""
        return self.probabilities.argmax(-1)


class ClassifierState(RowState):
    """State of a `Classifier`: an immutable pytree, saved and loaded whole.

    Attributes:
        inside: all that lives on the device.
        items: rows taken so far.
        begins: whether a new sequence begins with the next row.
    """


def classification_of(
    rows: int | slice, told: ClassTold, missing: np.ndarray, held: np.ndarray
) -> Classification:
    """Of some rows of what came out of the loop."""
    mixed, experts, weights = (np.asarray(a)[rows] for a in told)
    return Classification(
        np.exp(mixed.astype(np.float64)), np.exp(experts), weights,
        missing[rows].astype(np.int32), held[rows].astype(np.int32),
    )  # fmt: skip


def _begin(classifier: Any, key: PRNGKeyArray) -> ClassInside:
    sizes = ClassSizes(len(classifier.others), classifier.classes)
    keys = jax.random.split(key, len(classifier.experts))
    states = tuple(e.init(sizes, k) for e, k in zip(classifier.experts, keys, strict=True))
    return ClassInside.empty(classifier, states)


begin_classes = Jitted(_begin, options=ONCE)
