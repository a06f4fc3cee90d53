"""Any `OnlineLearner` as an expert, with all its safeguards."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from rtrl.learners import OnlineLearner, hidden, restarted
from rtrl.streams.experts._network import MOST, WARMUP, small_network
from rtrl.streams.experts._others import mixer


class Learned(eqx.Module):
    """An `OnlineLearner` on standardised levels and changes of all columns.

    It runs ``ahead`` rows behind and learns from single rows; the forecasts are made ahead of it,
    with the newest parameters, from hidden states of their own.

    Args:
        learner: of a network with one output.
        model: takes ``(in_size, key)`` and gives the network.
    """

    learner: OnlineLearner
    model: Any = eqx.field(static=True)

    def __init__(self, learner: OnlineLearner, model: Any = small_network):
        self.learner = learner
        self.model = model

    @property
    def names(self):
        return (f"learner, {self.learner.rule.label()}",)

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
