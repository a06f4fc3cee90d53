"""A recurrent network under an online rule, which learns the change that the others forecast."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from rtrl.cells import LRU
from rtrl.engine import Chunk, Observations, Rule, init_carry, observe
from rtrl.learners import kalman
from rtrl.networks import SequenceModel
from rtrl.rules import BPTT, RTRL
from rtrl.streams.experts._others import mixer

MOST = 32  # numbers of other columns; more are mixed down to so many
WARMUP = 20  # rows before it learns: the first scales are rough
SHORT = 8  # numbers of a row of a weight; shorter ones are filled up, to be handled together


def half_square(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


def small_network(in_size: int, key) -> SequenceModel:
    """The network that is used where none is given: 16 LRU modules, 8 wide, one layer."""

    def cell(size, key):
        return LRU(size, 16, key=key)

    return SequenceModel(in_size, 1, 8, 1, cell, norm=None, glu="half1", key=key)


class Network(eqx.Module):
    """A network under a rule and a `kalman` filter, on levels and changes of all columns.

    These are standardised. It learns from single rows, ``ahead`` behind; the forecasts are made
    ahead of it, with the newest parameters, from hidden states of their own. What it is given is
    bounded by the forecaster, so it has none of the safeguards of an `OnlineLearner`, and a third
    of its operations; `Learned` has them.

    Args:
        model: takes ``(in_size, key)`` and gives a network with one output.
        rule: the learning rule; default `RTRL`.
        prior: as for `kalman`.
    """

    model: Any = eqx.field(static=True)
    rule: Rule = eqx.field(static=True)
    prior: float = eqx.field(static=True)

    def __init__(
        self, model: Any = small_network, *, rule: Rule | None = None, prior: float = 10.0
    ):
        self.model = model
        self.rule = RTRL() if rule is None else rule
        self.prior = prior

    @property
    def names(self):
        return (f"network, {self.rule.label()}",)

    def init(self, sizes, key):
        key, mix = jax.random.split(key)
        size = 2 + min(2 * sizes.columns, MOST)
        model = self.model(size, key)
        params = eqx.filter(model, eqx.is_inexact_array)
        carry = init_carry(model, BPTT()), init_carry(model, self.rule)
        known = kalman(prior=self.prior).init(joined(params), outputs=1)
        return model, known, *carry, jnp.uint32(0), mixer(2 * sizes.columns, MOST, mix)

    def predict(self, state, features):
        model, known, ahead, behind, rows, mix = state
        others = jnp.concatenate([features.inputs, features.moves])
        others = others if mix is None else mix @ others
        x = jnp.concatenate([jnp.stack([features.level, features.step]), others])
        reset = features.reset
        made, ahead = model(x[None], ahead, rule=BPTT(), resets=reset[None])
        # Nothing is forecast before anything has been learned.
        made = jnp.where(rows > WARMUP, made[0], 0)
        return made, (x, reset, jnp.bool_(True)), (model, known, ahead, behind, rows, mix)

    def learn(self, state, kept, target, weight):
        model, known, ahead, behind, rows, mix = state
        x, reset, there = kept  # there: false before anything has been kept
        weight = jnp.where(rows >= WARMUP, weight, 0)
        row = Chunk(x[None], target[None, None], weight[None], reset[None], there[None])
        result, seen = observe(model, behind, row, rule=self.rule, key=None)
        params, static = eqx.partition(model, eqx.is_inexact_array)
        seen = Observations(joined(seen.jacobian, 3), seen.errors, seen.weights)
        updates, known = kalman(prior=self.prior).update(
            joined(result.grads), known, joined(params), observations=seen, time=rows
        )
        params = jax.tree.map(jnp.add, params, apart(updates, params))
        model = eqx.combine(params, static)
        return model, known, ahead, result.carry, rows + there, mix


def joined(tree: PyTree, lead: int = 0) -> dict[int, Float[Array, "*lead rows numbers"]]:
    """The rows of all weights by their length, a vector being one row: few arrays, not many.

    To a Kalman filter of the rows they are what they were; what fills up a short one has no
    derivative and changes nothing.
    """
    found: dict[int, list[Array]] = {}
    for a in jax.tree.leaves(tree):
        rows = a.reshape(*a.shape[:lead], *_rows(a.shape[lead:]))
        fill = max(SHORT - rows.shape[-1], 0)
        rows = jnp.pad(rows, [(0, 0)] * (lead + 1) + [(0, fill)])
        found.setdefault(rows.shape[-1], []).append(rows)
    return {size: jnp.concatenate(rows, lead) for size, rows in sorted(found.items())}


def apart(rows: dict[int, Array], like: PyTree) -> PyTree:
    """What `joined` joined, as the pytree it was."""
    place = dict.fromkeys(rows, 0)

    def take(a: Array) -> Array:
        count, numbers = _rows(a.shape)
        size = max(SHORT, numbers)
        first = place[size]
        place[size] += count
        return rows[size][first : first + count, :numbers].reshape(a.shape)

    return jax.tree.map(take, like)


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    rows, *rest = shape or (1,)
    size = 1
    for n in rest:
        size *= n
    return (1, rows) if size == 1 else (rows, size)
