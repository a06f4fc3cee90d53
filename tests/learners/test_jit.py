"""Compiling what may be one kernel, and what XLA then does not compile."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rtrl
from rtrl.engine import _one_kernel, one_kernel
from rtrl.learners import _learner, _step, prepare
from rtrl.learners._jit import Jitted
from tests.learners.test_live import network

ASKED = _one_kernel.JAXLIB in _one_kernel.TESTED
X, W = np.ones((16, 64), "f4"), np.full((64, 64), 0.5, "f4")


def multiplying(monkeypatch, donate):
    """A function that XLA refuses to make one kernel of."""
    traced = []

    def function(w, x):
        traced.append(True)
        return one_kernel(lambda x, w: x @ w, x, w)

    monkeypatch.setattr(_one_kernel, "PRODUCT", 1 << 30)
    return Jitted(function, donate_last=donate), traced


@pytest.mark.parametrize("donate", [True, False])
def test_what_xla_refuses_is_compiled_without(monkeypatch, donate):
    function, traced = multiplying(monkeypatch, donate)
    for _ in range(3):
        np.testing.assert_array_equal(function(W, jnp.array(X)), X @ W)
    assert len(traced) == 1 + ASKED  # once with, once without


def test_a_bound_program_and_a_compiled_one_as_well(monkeypatch):
    function, traced = multiplying(monkeypatch, True)
    bound = function.bind(W, X)
    for _ in range(2):
        np.testing.assert_array_equal(bound([W], [jnp.array(X)])[0], X @ W)
    assert len(traced) == 1 + ASKED and bound.holds()
    other, _ = multiplying(monkeypatch, True)
    other.use(other.compile(W, X), W, X)
    np.testing.assert_array_equal(other(W, jnp.array(X)), X @ W)


@pytest.mark.parametrize("donate", [True, False])
def test_an_error_of_the_user_is_not_taken_for_a_refusal(donate):
    calls = []

    def fails(x):
        calls.append(True)
        raise RuntimeError("UNIMPLEMENTED: by me")

    def function(x):
        return jax.pure_callback(fails, jax.ShapeDtypeStruct((3,), "f4"), one_kernel(jnp.sin, x))

    with pytest.raises(jax.errors.JaxRuntimeError, match="by me"):
        jax.block_until_ready(Jitted(function, donate_last=donate)(jnp.ones(3)))
    assert len(calls) == 1


def test_nothing_is_tried_again_once_its_arrays_are_gone():
    one, error = Jitted(lambda x: x), jax.errors.JaxRuntimeError("UNIMPLEMENTED: too late")
    used_up = jnp.ones(3)
    used_up.delete()
    with pytest.raises(jax.errors.JaxRuntimeError, match="too late"):
        one._refuse(one._key(None, None), [True], [used_up], error)
    one._refuse(one._key(None, None), [True], [jnp.ones(3)], error)
    assert not one._key(None, None).joins


def test_nothing_is_asked_or_donated_inside_of_a_transformation():
    """XLA could not be asked once more; and a closure may hold what is being traced."""
    x = jnp.arange(3.0)

    def kernels_of(rate):
        one = Jitted(lambda x: one_kernel(lambda x: jnp.tanh(x) * rate, x), donate_last=True)
        key = one._key(None, None)
        asked.append(key.joins or key.donate)
        return one(x).sum()

    asked: list[bool] = []
    expected = jnp.tanh(x).sum()
    np.testing.assert_allclose(jax.grad(kernels_of)(2.0), expected, rtol=1e-6)
    jax.vmap(kernels_of)(jnp.ones(2))
    jax.jit(kernels_of)(2.0)
    assert asked == [False] * 3
    x = jnp.arange(3.0)  # one that no compiled program holds as a constant
    kernels_of(2.0)
    assert asked[3] and x.is_deleted()


def error(prediction, target):
    return ((prediction - target) ** 2).sum()


def of_sorted(prediction, target):  # which is no arithmetic: what does not sort are kernels
    return error(jnp.sort(prediction), target)


@pytest.mark.parametrize(
    ("depth", "loss", "kernels"), [(1, error, 1), (3, error, 1), (1, of_sorted, 2)]
)
def test_a_loop_is_one_kernel_or_a_timestep_is_a_few(depth, loss, kernels):
    learner = rtrl.OnlineLearner(loss, optax.adam(1e-3))
    state = learner.init(network("LRU", depth=depth))
    data = jax.tree.map(jnp.asarray, prepare(
        state.model, np.ones((5, 3), "f4"), np.ones((5, 2), "f4"), None, None, None
    ))  # fmt: skip
    text = _step.advance_many.donating.compile(learner, data, 1, state).as_text() or ""
    ours = re.compile(r' call\(.*inlineable="false"')
    assert len(ours.findall(text)) == kernels * ASKED
    *_, entry = text.split("ENTRY ")  # the loop as a whole, where a round of it is one
    assert len(ours.findall(entry)) == (kernels == 1) * ASKED
    many = learner.init(network("LRU", depth=depth), batch_size=16)
    data = jax.tree.map(lambda a: jnp.stack([a] * 16, 1) if a is not None else None, data)
    text = _step.advance_many.donating.compile(learner, data, 1, many).as_text() or ""
    assert not ours.findall(text)


def test_the_numbers_are_those_of_separate_kernels(monkeypatch):
    rng = np.random.default_rng(0)
    xs, ys = (rng.normal(size=(60, n)).astype("f4") for n in (3, 2))
    xs[20] = np.nan

    def learn():
        learner = rtrl.OnlineLearner(error, optax.adam(1e-3), guard=rtrl.Guard())
        state = learner.init(network("LRU", depth=2))
        state, out = learner.scan(state, xs[:50], ys[:50], chunk=1)
        for x, y in zip(xs[50:], ys[50:], strict=True):
            state, last = learner.step(state, x, y)
        return out.prediction, out.skipped, last.prediction, jax.tree.leaves(state.opt_state)

    joined = learn()
    monkeypatch.setenv("RTRL_SEPARATE_KERNELS", "1")
    monkeypatch.setattr(_step, "advance_one", _step._Advance(_step.advance_one.keeping.function))
    monkeypatch.setattr(_step, "advance_many", _step._Advance(_step.advance_many.keeping.function))
    monkeypatch.setattr(_learner, "advance_one", _step.advance_one)
    monkeypatch.setattr(_learner, "advance_many", _step.advance_many)
    for a, b in zip(jax.tree.leaves(joined), jax.tree.leaves(learn()), strict=True):
        # Sixty updates of single precision, in another order of operations.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_what_is_changed_in_place_counts():
    """An optimizer's rate, say, in the dictionary that optax keeps it in."""
    rated = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    learner = rtrl.OnlineLearner(lambda p, y: ((p - y) ** 2).sum(), rated)
    state, timestep = learner.init(network("LRU", depth=1)), (np.ones(3), np.ones(2))
    for _ in range(2):
        state, _ = learner.step(state, *timestep)
    weight = np.array(state.model.decoder.weight)
    state.opt_state.hyperparams["learning_rate"] = jnp.float32(0)
    state, _ = learner.step(state, *timestep)
    np.testing.assert_array_equal(state.model.decoder.weight, weight)
    assert state.opt_state.hyperparams["learning_rate"] == 0
    state.opt_state.hyperparams["learning_rate"] = jnp.float32(1)
    streamed, _ = next(iter(learner.stream(state, [timestep], chunk=1)))
    assert np.abs(streamed.model.decoder.weight - weight).max() > 0
