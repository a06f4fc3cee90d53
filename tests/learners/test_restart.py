"""Nothing that is carried is ever not finite: what has overflowed begins anew."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import DENSE_RULES, EVERY_CELL, IN, data, network
from learning import finite, identical, learner, leaves

import rtrl
from rtrl.engine import after


def wild(length, batch, sample):
    """Data with one input of the largest number, in one sample of the batch."""
    xs, ys, _, _ = data(length, batch, 0)
    at = (3,) if batch is None else (3, sample)
    return xs.at[at].set(jnp.finfo(xs.dtype).max), ys


@pytest.mark.parametrize("cell", EVERY_CELL)
@pytest.mark.parametrize("chunk", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_nothing_carried_is_ever_not_finite(cell, chunk):
    """Two layers without a norm; a rate at which sgd would leave nothing finite by itself."""
    one = learner(optax.sgd(1.0))
    model = network(cell, norm=None)
    xs, ys = wild(8, 2, 0)
    state, out = one.scan(one.init(model, 2), xs, ys, chunk=chunk)
    assert finite(state)
    assert out.restarted.shape == (8,)
    state, out = one.scan(state, *wild(8, 2, 1), chunk=chunk)
    assert finite(state)


@pytest.mark.parametrize("rule", DENSE_RULES.values(), ids=DENSE_RULES.keys())
def test_nor_what_rules_for_dense_cells_carry(rule):
    one = learner(optax.sgd(1.0), rule=rule)
    cell = "VanillaRNN" if isinstance(rule, rtrl.KFRTRL) else "LinearRNN"
    xs, ys = wild(6, None, 0)
    chunk = 3 if isinstance(rule, rtrl.TBPTT) else 1
    state, _ = one.scan(one.init(network(cell, depth=1, norm=None)), xs, ys, chunk=chunk)
    assert finite(state)


def spoiled(state, sample, value):
    """The trace of the second layer of one sample holds one wild number."""

    def spoil(trace):
        number = jax.tree.leaves(trace)[0]
        index = (sample,) + (0,) * (number.ndim - 1) if sample is not None else (0,) * number.ndim
        return jax.tree.map(lambda a: a.at[index].set(value) if a is number else a, trace)

    return eqx.tree_at(lambda s: s.carry[1].trace, state, spoil(state.carry[1].trace))


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -1e25])
def test_only_the_sample_and_the_cell_that_overflowed_lose_their_memory(value):
    one = learner()
    state, _ = one.scan(one.init(network("LRU"), 3), *data(6, 3, 0)[:2], chunk=6)
    xs = data(1, 3, 1)[0][0]
    healthy, out = one.step(state, xs)  # no target: the parameters stay
    assert out.restarted == 0
    after, out = one.step(spoiled(state, 1, value), xs)
    assert out.restarted == 1 and out.skipped == 0
    assert identical(after.carry[0], healthy.carry[0])
    for got, want in zip(leaves(after.carry[1]), leaves(healthy.carry[1]), strict=True):
        assert np.array_equal(got[[0, 2]], want[[0, 2]])
    fresh = one.init(network("LRU"), 3).carry[1]
    for got, want in zip(leaves(after.carry[1]), leaves(fresh), strict=True):
        assert np.array_equal(got[1], want[1])


def test_large_numbers_whose_squares_are_finite_stay():
    one = learner()
    state = spoiled(one.init(network("LRU")), None, 1e18)
    after, out = one.step(state, jnp.ones(IN))
    assert out.restarted == 0
    assert np.abs(leaves(after.carry[1].trace)[0]).max() > 1e17


def test_without_a_batch_and_in_looking_ahead():
    one = learner()
    state = spoiled(one.init(network("LRU")), None, jnp.nan)
    after, out = one.step(state, jnp.ones(IN))
    assert out.restarted == 1 and finite(after)
    hidden = jax.tree.map(lambda a: a * jnp.inf, state.carry)
    _, carry = one.predict(state, jnp.ones(IN), hidden)
    assert finite(carry)


def test_what_waits_for_parameters_takes_empty_ones():
    """A layer without inputs has weights of no numbers."""
    for tree in ([jnp.zeros((3, 0)), jnp.ones(2)], [jnp.zeros((3, 0))], []):
        for said in (True, False):
            assert bool(jax.jit(after)(jnp.bool_(said), tree)) == said
