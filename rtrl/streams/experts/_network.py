"""A recurrent network under an online rule, which learns the change that the others forecast."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from rtrl.cells import LRU
from rtrl.learners import OnlineLearner, hidden, kalman, restarted
from rtrl.networks import SequenceModel
from rtrl.streams.experts._others import mixer

MOST = 32  # numbers of other columns; more are mixed down to so many
WARMUP = 20  # rows before it learns: the first scales are rough


def half_square(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


def small_network(in_size: int, key) -> SequenceModel:
    """The network that is used where none is given: 16 LRU modules, 8 wide, one layer."""

    def cell(size, key):
        return LRU(size, 16, key=key)

    return SequenceModel(in_size, 1, 8, 1, cell, norm=None, glu="half1", key=key)


@functools.cache  # one learner: forecasters of the same sizes share one compiled program
def default_learner() -> OnlineLearner:
    optimizer = kalman(prior=10.0)
    return OnlineLearner(half_square, optimizer)


class Network(eqx.Module):
    """An `OnlineLearner` on standardised levels and changes of all columns.

    It runs ``ahead`` rows behind and learns from single rows; the forecasts are made ahead of it,
    with the newest parameters, from hidden states of their own.

    Args:
        learner: of a network with one output.
        model: takes ``(in_size, key)`` and gives the network.
    """

    learner: OnlineLearner
    model: Any = eqx.field(static=True)

    def __init__(self, learner: OnlineLearner | None = None, model: Any = small_network):
        self.learner = default_learner() if learner is None else learner
        self.model = model

    @property
    def names(self):
        return (f"network, {self.learner.rule.label()}",)

    def init(self, sizes, key):
        model, mix = jax.random.split(key)
        size = 2 + min(2 * sizes.columns, MOST)
        state = self.learner.init(self.model(size, model), key=key)
        return state, hidden(state.carry), jnp.int32(0), mixer(2 * sizes.columns, MOST, mix)

    def predict(self, state, features):
        learned, carry, rows, mix = state
        others = jnp.concatenate([features.inputs, features.moves])
        others = others if mix is None else mix @ others
        x = jnp.concatenate([jnp.stack([features.level, features.step]), others])
        carry = restarted(learned.model, carry, features.reset)
        prediction, carry = self.learner.predict(learned, x, carry)
        # Nothing is forecast before anything has been learned.
        prediction = jnp.where(rows > WARMUP, prediction, 0).astype(jnp.float32)
        return prediction, (x, features.reset, jnp.bool_(True)), (learned, carry, rows, mix)

    def learn(self, state, kept, target, weight):
        learned, carry, rows, mix = state
        x, reset, there = kept
        x = jnp.where(there, x, jnp.nan)  # nothing was kept: the learner leaves its state as it is
        weight = jnp.where(rows >= WARMUP, weight, 0)
        learned, _ = self.learner.step(learned, x, target[None], weight, reset)
        return learned, carry, rows + there, mix
