"""One row of a stream of classes: learn, see, tell."""

from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from rtrl.streams._class_mixture import ClassMixture
from rtrl.streams._columns import Columns
from rtrl.streams._rows import Given
from rtrl.streams.classes import LAGS, ClassFeatures

LEAST = -12.0  # log probability: no expert is sure for ever


class ClassTold(NamedTuple):
    """Log probabilities ``(classes,)`` and those of every expert, and how much each counted."""

    mixed: Float[Array, " classes"]
    experts: Float[Array, "experts classes"]
    weights: Float[Array, " experts"]


class ClassHeld(NamedTuple):
    """What was told of a row, and all that it takes to learn from its class."""

    kept: tuple[PyTree, ...]
    experts: Float[Array, "experts classes"]
    views: Float[Array, "2 classes"]
    made: Bool[Array, ""]


class ClassInside(eqx.Module):
    """All that is known, on the device.

    Attributes:
        columns: the inputs' scales.
        last: the newest classes, newest first; the number of classes where there is none.
        experts: the state of each.
        mixture: how much each counts.
        held: what waits for its class, a ring of ``ahead`` rows; ``slot`` is the place in it.
    """

    columns: Columns
    last: Int[Array, " lags"]
    experts: tuple[PyTree, ...]
    mixture: ClassMixture
    held: ClassHeld
    slot: Int[Array, ""]

    @classmethod
    def empty(cls, classifier: Any, states: tuple[PyTree, ...]) -> Self:
        ahead, members = classifier.ahead, len(classifier.names)
        last = jnp.full(LAGS, classifier.classes)
        nothing = jnp.zeros(len(classifier.others))
        features = ClassFeatures(last, nothing, nothing, jnp.bool_(False))
        kept = tuple(
            eqx.filter_eval_shape(expert.predict, state, features)[1]
            for expert, state in zip(classifier.experts, states, strict=True)
        )
        told = jnp.zeros((members, classifier.classes))
        views = jnp.zeros((2, classifier.classes))
        held = ClassHeld(kept, told, views, jnp.bool_(False))
        ring = jax.tree.map(lambda a: jnp.zeros((ahead, *a.shape), a.dtype), held)
        columns, mixture = Columns.empty(classifier.in_size), ClassMixture.empty(members)
        return cls(columns, last, states, mixture, ring, jnp.int32(0))


def one_class_row(classifier: Any, state: ClassInside, row: Given) -> tuple[ClassInside, ClassTold]:
    """Take a row: learn, see, tell."""
    weight, reset = row.weight, row.reset
    x, y = row.x, row.y[0, 0].astype(jnp.int32)
    columns, levels, moves = state.columns.take(x, reset, classifier.memory)
    state = eqx.tree_at(lambda s: s.columns, state, columns)
    others = jnp.array(classifier.others, jnp.int32)
    inputs = levels[others], moves[others]
    if classifier.delay == 0:  # what is told is of this row: nobody knows it yet
        begun = eqx.tree_at(
            lambda s: s.last, state, jnp.where(reset, classifier.classes, state.last)
        )
        state, told = _tell(classifier, begun, *inputs, reset)
        state = _see(classifier, _learn(classifier, state, y, weight), y, False)
    else:
        state = _see(classifier, _learn(classifier, state, y, weight), y, reset)
        state, told = _tell(classifier, state, *inputs, reset)
    slot = state.slot
    after = jnp.where(slot + 1 == classifier.ahead, 0, slot + 1)
    return eqx.tree_at(lambda s: s.slot, state, after), told


def _see(classifier: Any, state: ClassInside, y: Array, reset: ArrayLike) -> ClassInside:
    """Take in the class that has come, after forgetting all before it if ``reset``."""
    last = jnp.where(reset, classifier.classes, state.last)
    moved = jnp.concatenate([y[None], last[:-1]])
    return eqx.tree_at(lambda s: s.last, state, jnp.where(y >= 0, moved, last))


def _learn(classifier: Any, state: ClassInside, y: Array, weight: Array) -> ClassInside:
    held: ClassHeld = jax.tree.map(lambda ring: ring[state.slot], state.held)
    weight = jnp.where(held.made & (y >= 0), weight, 0)
    target = jnp.maximum(y, 0)
    experts = tuple(
        expert.learn(inner, kept, target, weight)
        for expert, inner, kept in zip(classifier.experts, state.experts, held.kept, strict=True)
    )
    mixture = state.mixture.learn(held.experts, held.views, target, weight)
    return eqx.tree_at(lambda s: (s.experts, s.mixture), state, (experts, mixture))


def _tell(
    classifier: Any, state: ClassInside, inputs: Array, moves: Array, reset: Array
) -> tuple[ClassInside, ClassTold]:
    features = ClassFeatures(state.last, inputs, moves, reset)
    results = [
        expert.predict(inner, features)
        for expert, inner in zip(classifier.experts, state.experts, strict=True)
    ]
    each = jnp.concatenate([told for told, _, _ in results])
    even = -np.log(classifier.classes)
    each = jnp.where(jnp.isfinite(each).all(-1, keepdims=True), each, even)
    each = jax.nn.log_softmax(jnp.maximum(each, LEAST))
    kept = tuple(kept for _, kept, _ in results)
    mixed = state.mixture.mix(each)
    now = ClassHeld(kept, each, mixed.views, jnp.bool_(True))
    held = jax.tree.map(lambda ring, value: ring.at[state.slot].set(value), state.held, now)
    experts = tuple(after for _, _, after in results)
    state = eqx.tree_at(lambda s: (s.experts, s.held), state, (experts, held))
    return state, ClassTold(mixed.mixed, each, jnp.exp(state.mixture.weights))
