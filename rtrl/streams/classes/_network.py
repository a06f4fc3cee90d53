"""A recurrent network with a softmax, under an online rule."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from rtrl.cells import LRU
from rtrl.engine import Chunk, Rule, chunk_gradient, init_carry
from rtrl.networks import SequenceModel
from rtrl.rules import BPTT, RTRL
from rtrl.streams.experts import mixer

MOST = 32  # numbers of other columns; more are mixed down to so many
RATE = 0.01


def class_network(in_size: int, out_size: int, key) -> SequenceModel:
    """The network that is used where none is given: 32 LRU modules, 16 wide, one layer."""

    def cell(size, key):
        return LRU(size, 32, key=key)

    return SequenceModel(in_size, out_size, 16, 1, cell, norm=None, glu="half1", key=key)


def cross_entropy(logits, target):
    return optax.softmax_cross_entropy_with_integer_labels(logits, target)


class ClassNetwork(eqx.Module):
    """A network under a rule and Adam, on levels and moves of all columns and the last class.

    Args:
        model: takes ``(in_size, out_size, key)`` and gives a network.
        rule: the learning rule; default `RTRL`.
        rate: of Adam.
    """

    model: Any = eqx.field(static=True)
    rule: Rule = eqx.field(static=True)
    rate: float = eqx.field(static=True)

    def __init__(self, model: Any = class_network, *, rule: Rule | None = None, rate: float = RATE):
        self.model = model
        self.rule = RTRL() if rule is None else rule
        self.rate = rate

    @property
    def names(self):
        return (f"network, {self.rule.label()}",)

    def init(self, sizes, key):
        key, mix = jax.random.split(key)
        size = min(2 * sizes.columns, MOST) + sizes.classes + 1
        model = self.model(size, sizes.classes, key)
        moments = optax.adam(self.rate).init(eqx.filter(model, eqx.is_inexact_array))
        carry = init_carry(model, BPTT()), init_carry(model, self.rule)
        return model, moments, *carry, mixer(2 * sizes.columns, MOST, mix)

    def predict(self, state, features):
        model, moments, ahead, behind, mix = state
        others = jnp.concatenate([features.inputs, features.moves])
        others = others if mix is None else mix @ others
        last = jnp.eye(model.out_size + 1)[features.last[0]]
        x, reset = jnp.concatenate([others, last]), features.reset
        logits, ahead = model(x[None], ahead, rule=BPTT(), resets=reset[None])
        told = jax.nn.log_softmax(logits)
        return told, (x, reset, jnp.bool_(True)), (model, moments, ahead, behind, mix)

    def learn(self, state, kept, target, weight):
        model, moments, ahead, behind, mix = state
        x, reset, there = kept  # there: false before anything has been kept
        row = Chunk(x[None], target[None], weight[None], reset[None], there[None])
        found = chunk_gradient(model, cross_entropy, behind, row, rule=self.rule, key=None)
        params, static = eqx.partition(model, eqx.is_inexact_array)
        updates, new = optax.adam(self.rate).update(found.grads, moments, params)
        after = jax.tree.map(lambda p, u: jnp.where(weight > 0, p + u, p), params, updates)
        moments = jax.tree.map(lambda a, b: jnp.where(weight > 0, a, b), new, moments)
        return eqx.combine(after, static), moments, ahead, found.carry, mix
