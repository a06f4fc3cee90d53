"""Updates that are proven to be finite are not judged; all others are."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import data, network, squared_error

import rtrl
from rtrl.engine import Range
from rtrl.learners import _update
from rtrl.learners._proven import STEEPEST, STEPS, judged, prove

T = 3 * STEPS + 5
PROVEN = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(1e-3),
    "adamw": optax.adamw(optax.cosine_decay_schedule(1e-3, 100), weight_decay=0.1),
    "rmsprop": optax.rmsprop(1e-3),
    "adagrad": optax.adagrad(1e-2),
    "lion": optax.lion(1e-3),
    "a rate in an array": optax.adam(jnp.asarray(1e-3)),
    "adamax": optax.adamax(1e-3),
    "a rate in the state": optax.inject_hyperparams(optax.sgd)(0.1),
    "bounded": optax.chain(optax.clip(1.0), optax.adam(1e-3)),
}


def of_single(function):
    return optax.stateless(lambda updates, params: jax.tree.map(function, updates))


NOT_PROVEN = {
    "an inverse": of_single(lambda g: 1e-3 * g**-1),
    "a division": of_single(lambda g: 1 / g),
    "an exponential": of_single(jnp.exp),
    "a large rate": optax.sgd(1e30),
    "growth": optax.sgd(1e8, momentum=100.0),
    "what is not read": of_single(lambda g: jnp.sort(g)),
}


def proof(optimizer, params):
    def optimize(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return prove(optimize, params, optimizer.init(params), params)


@pytest.mark.parametrize("name", PROVEN)
def test_optimizers_are_read(name):
    assert proof(PROVEN[name], {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}) is not None


@pytest.mark.parametrize("name", NOT_PROVEN)
def test_no_proof_where_numbers_may_overflow(name):
    assert proof(NOT_PROVEN[name], {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}) is None


def test_no_proof_by_a_rate_that_is_not_at_hand():
    found = []

    def update(rate):
        found.append(proof(optax.sgd(rate), jnp.ones(3)))
        return rate

    jax.vmap(update)(jnp.ones(2))
    assert found == [None]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.complex64])
def test_no_proof_for_other_numbers(dtype):
    assert proof(optax.sgd(0.1), jnp.ones(3, dtype)) is None


@pytest.mark.parametrize("name", PROVEN)
def test_what_is_proven_holds_at_the_very_edge(name):
    """STEPS updates from the ends of the ranges, by the steepest gradients, are finite."""
    optimizer, params = PROVEN[name], jnp.ones(4)
    found = proof(optimizer, params)
    assert found is not None
    leaves, structure = jax.tree.flatten((params, optimizer.init(params)))
    for end in (min, max):
        worst = [jnp.full_like(a, end(r[:2])) for a, r in zip(leaves, found.ranges, strict=True)]
        params, state = jax.tree.unflatten(structure, worst)
        for t in range(STEPS):
            slope = jnp.full(4, STEEPEST) * jnp.array([1, -1, (-1) ** t, 0])
            updates, state = optimizer.update(slope, state, params)
            params = optax.apply_updates(params, updates)
        for a in jax.tree.leaves((params, state)):
            assert np.isfinite(a).all()


def fresh(optimizer):
    """One of its own: programs are kept by optimizer, and some of these are spoilt on purpose."""
    return optax.chain(optimizer)


def scanned(learner, state, T=T):
    xs, ys, *_ = data(T, None, 0)
    return learner.scan(state, xs, ys)


def judgements(learner, state, monkeypatch, within=True):
    """Which updates are judged: those that a judge who finds nothing finite leaves out."""
    monkeypatch.setattr(_update, "judged", lambda *_: (jnp.zeros((), bool), jnp.array(within)))
    _, out = scanned(learner, state)
    return [int(n) for n in out.skipped]


@pytest.mark.parametrize("chunk", [1, 4])
def test_one_update_of_many_is_judged(chunk, monkeypatch):
    learner = rtrl.OnlineLearner(squared_error, fresh(optax.adam(1e-2)), rule=rtrl.RTRL())
    state = learner.init(network("LRU", depth=1))
    monkeypatch.setattr(_update, "judged", lambda *_: (jnp.zeros((), bool), jnp.ones((), bool)))
    xs, ys, *_ = data(T, None, 0)
    _, out = learner.scan(state, xs, ys, chunk=chunk)
    judged = [t // chunk for t, n in enumerate(out.skipped) if n]
    assert judged == list(range(0, -(-T // chunk), STEPS + 1))


def test_numbers_that_are_large_are_judged_every_time(monkeypatch):
    learner = rtrl.OnlineLearner(squared_error, fresh(optax.adam(1e-2)))
    state = learner.init(network("LRU", depth=1))
    assert judgements(learner, state, monkeypatch, within=False) == [1] * T


def test_a_steep_gradient_is_judged(monkeypatch):
    learner = rtrl.OnlineLearner(
        lambda p, y: STEEPEST * 1e6 * (p - y).sum(), fresh(optax.adam(1e-2))
    )
    state = learner.init(network("LRU", depth=1))
    assert judgements(learner, state, monkeypatch) == [1] * T


def test_single_steps_are_judged(monkeypatch):
    learner = rtrl.OnlineLearner(squared_error, fresh(optax.sgd(1e-2)))
    monkeypatch.setattr(_update, "judged", lambda *_: 1 / 0)
    state = learner.init(network("LRU", depth=1))
    state, out = learner.step(state, np.ones(3), np.ones(2))
    assert not out.skipped


@pytest.mark.parametrize("optimizer", [optax.adam(1e-2), optax.sgd(1e-2)], ids=["adam", "sgd"])
def test_a_scan_is_single_steps(optimizer):
    learner = rtrl.OnlineLearner(squared_error, optimizer)
    one = two = learner.init(network("LRU", depth=1))
    two, outs = scanned(learner, two)
    xs, ys, *_ = data(T, None, 0)
    one = learner.init(network("LRU", depth=1))
    for x, y in zip(xs, ys, strict=True):
        one, _ = learner.step(one, x, y)
    arrays = [jax.tree.leaves(eqx.filter(s.model, eqx.is_inexact_array)) for s in (one, two)]
    for a, b in zip(*arrays, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)  # other products meet their sums
    assert not outs.skipped.any()


@pytest.mark.parametrize("where", [0, 1, STEPS, STEPS + 1, 2 * STEPS])
def test_an_overflow_is_left_out_wherever_it_comes(where):
    """A rate that is proven, until a gradient comes that is too steep for it."""
    rate = 1e15
    learner = rtrl.OnlineLearner(squared_error, optax.sgd(rate), on_nonfinite="skip")
    model = jax.tree.map(lambda a: a * 0 if eqx.is_inexact_array(a) else a, network("LRU", depth=1))
    xs, ys, *_ = data(T, None, 0)
    ys = np.zeros_like(ys)
    ys[where] = 1e25  # a gradient of 2e25 by a rate of 1e15
    state, out = learner.scan(learner.init(model), xs, ys)
    assert list(np.flatnonzero(out.skipped)) == [where]
    for a in jax.tree.leaves(eqx.filter(state.model, eqx.is_inexact_array)):
        assert np.isfinite(a).all()


@pytest.mark.parametrize("kind", [bool, jnp.int4, jnp.uint8, jnp.int32, jnp.bfloat16])
def test_numbers_of_every_kind_are_judged(kind):
    within, one = Range(0.0, 1.0), jnp.ones(2, kind)
    assert [*map(bool, judged(one, [within]))] == [True, True]
    assert [*map(bool, judged(one, [Range(2.0, 3.0)]))] == [True, False]
    if jnp.issubdtype(kind, jnp.floating):
        assert [*map(bool, judged(one * jnp.nan, [within]))] == [False, False]


def test_only_what_is_never_negative_is_taken_to_be_so():
    adam = proof(optax.adam(1e-3), jnp.ones(3))
    assert adam is not None
    assert [r.low < 0 for r in adam.ranges] == [True, False, True, False]  # count, mu, nu
