"""What a classifier knows, and what it tells."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from rtrl.learners import ONCE, Jitted
from rtrl.streams._class_row import ClassInside, ClassTold
from rtrl.streams.classes import ClassSizes


class Classification(eqx.Module):
    """What a `Classifier` tells of a row, as numpy arrays.

    Attributes:
        probabilities: of every class.
        experts: the probabilities that every expert told.
        weights: how much each counted in the weighted mean.
        skipped: whether the class of this row was missing.
    """

    probabilities: Float[np.ndarray, "*time classes"]
    experts: Float[np.ndarray, "*time experts classes"]
    weights: Float[np.ndarray, "*time experts"]
    skipped: Int[np.ndarray, "*time"]

    @property
    def prediction(self) -> Int[np.ndarray, "*time"]:
        """The most probable class."""
        return self.probabilities.argmax(-1)


class ClassifierState(eqx.Module):
    """State of a `Classifier`: an immutable pytree, saved and loaded whole.

    Attributes:
        inside: all that lives on the device.
        items: rows taken so far.
        begins: whether a new sequence begins with the next row.
    """

    inside: ClassInside
    items: np.int64
    begins: np.bool_


class BegunClasses:
    """Probabilities on their way.

    Attributes:
        parts: of every block what comes out of it, and which rows have no class.
    """

    def __init__(self, parts: list[tuple[ClassTold, np.ndarray]]):
        self.parts = parts

    def forecast(self) -> Classification:
        """Wait for them; time first."""
        each = [_classification(*part) for part in self.parts]
        if len(each) == 1:
            return each[0]
        return jax.tree.map(lambda *parts: np.concatenate(parts), *each)


def _classification(told: ClassTold, missing: np.ndarray) -> Classification:
    mixed, experts, weights = (np.asarray(a)[: len(missing)] for a in told)
    return Classification(
        np.exp(mixed.astype(np.float64)), np.exp(experts), weights, missing.astype(np.int32)
    )


def _begin(classifier: Any, key: PRNGKeyArray) -> ClassInside:
    sizes = ClassSizes(len(classifier.others), classifier.classes)
    keys = jax.random.split(key, len(classifier.experts))
    states = tuple(e.init(sizes, k) for e, k in zip(classifier.experts, keys, strict=True))
    return ClassInside.empty(classifier, states)


begin_classes = Jitted(_begin, options=ONCE)


def copied(state: ClassifierState) -> ClassifierState:
    copy = jax.tree.map(lambda a: jnp.copy(a) if eqx.is_array(a) else a, state.inside)
    return ClassifierState(copy, state.items, state.begins)
