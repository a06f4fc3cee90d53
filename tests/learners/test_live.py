"""Live steps are steps, to the bit, whatever a timestep is made of."""

import functools
import signal
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import data, network, squared_error

import rtrl
from rtrl.learners import _live

T = 12


@functools.cache
def learner(**options):
    return rtrl.OnlineLearner(squared_error, optax.adam(1e-2), **options)


def timesteps(batch):
    """Some without a target, some with a weight or a reset of their own."""
    xs, ys, weights, resets = data(T, batch, 0)
    for t in range(T):
        y = None if t % 5 == 3 else ys[t]
        yield (xs[t], y, *((weights[t], resets[t]) if t % 3 == 1 else ()))


def same(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(left.dtype, jax.dtypes.prng_key):
            left, right = map(jax.random.key_data, (left, right))
        np.testing.assert_array_equal(left, right)


@pytest.fixture
def ordinary(monkeypatch):
    """How many steps took the state as a whole."""
    taken = []
    step = _live.Live._ordinary
    monkeypatch.setattr(
        _live.Live, "_ordinary", lambda self, *a: (taken.append(1), step(self, *a))[1]
    )
    return taken


@pytest.mark.parametrize(
    ("batch", "options", "whole"),
    [
        (None, {}, 0),
        (2, {"guard": rtrl.Guard(), "update_every": 3}, 0),
        (None, {"rule": rtrl.RTRL(), "overlap": 2}, 0),
        (None, {"donate": False}, T),
        (None, {"on_nonfinite": "raise"}, T),
    ],
    ids=["plain", "batch and guard", "overlap", "kept", "raise"],
)
def test_live_steps_are_steps(batch, options, whole, ordinary):
    one = learner(**options)
    state = one.init(network("LRU", depth=1), batch)
    live = rtrl.Live(one, one.init(network("LRU", depth=1), batch))
    for t, timestep in enumerate(timesteps(batch)):
        state, out = one.step(state, *timestep)
        same(live.step(*timestep), out)
        if t in (6, 7):  # to look at a state changes nothing
            same(live.state, state)
    same(live.state, state)
    assert len(ordinary) == whole


def test_a_mistake_changes_nothing():
    live = rtrl.Live(one := learner(), one.init(network("LRU", depth=1)))
    x, y = np.ones(3), np.ones(2)
    for _ in range(3):
        live.step(x, y)
    with pytest.raises(ValueError, match="x: expected"):
        live.step(np.ones(4), y)
    with pytest.raises(ValueError, match="weight: expected"):
        live.step(x, y, weight=np.ones(2))
    live.step(x, y)
    assert int(live.state.step) == 4


def test_what_was_handed_in_may_be_changed_afterwards():
    live = rtrl.Live(one := learner(), one.init(network("LRU", depth=1)))
    state = one.init(network("LRU", depth=1))
    x = np.ones(3, np.float32)
    for t in range(5):
        x[:] = t
        live.step(x, np.ones(2))
        state, _ = one.step(state, np.full(3, t, np.float32), np.ones(2))
        x[:] = 1e9
    same(live.state, state)


def test_a_state_that_was_used_up_elsewhere_is_named(tmp_path):
    one = learner()
    live = rtrl.Live(one, one.init(network("LRU", depth=1)))
    timestep = np.ones(3), np.ones(2)
    live.step(*timestep)
    live.step(*timestep)
    state, _ = one.step(live.state, *timestep)
    with pytest.raises(ValueError, match="state: expected one that is still there"):
        live.step(*timestep)
    live = rtrl.Live(one, state)
    live.step(*timestep)
    rtrl.save(tmp_path / "state", live.state)
    again = rtrl.Live(one, rtrl.load(tmp_path / "state", like=live.state))
    same(again.step(*timestep), live.step(*timestep))
    same(again.state, live.state)


def test_it_sees_the_settings_of_jax_and_other_dtypes(ordinary):
    live = rtrl.Live(one := learner(), one.init(network("LRU", depth=1)))
    x, y = np.ones(3), np.ones(2)
    live.step(x, y)
    with jax.debug_nans(True):
        assert np.isnan(live.step(x, None).loss)
        live.step(x, y)
    assert len(ordinary) == 2
    live.step(x, y)
    live.step(x.astype("f4"), y.astype(int))  # a program of its own, of the same structure
    assert len(ordinary) == 2 and int(live.state.step) == 5


def test_an_interrupt_leaves_the_new_state(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    live = rtrl.Live(one := learner(), one.init(network("LRU", depth=1)))
    timestep = np.ones(3), np.ones(2)
    live.step(*timestep)
    (kind, known), *_ = live._known.items()

    def program(*arguments):
        signal.raise_signal(signal.SIGINT)
        return known.bound(*arguments)

    program.holds = lambda: True  # type: ignore[attr-defined]
    try:
        live._known[kind] = known._replace(bound=program)  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt) as caught:
            live.step(*timestep)
    finally:
        signal.signal(signal.SIGINT, before)
    assert int(caught.value.state.step) == int(live.state.step) == 2  # type: ignore
    live._known[kind] = known
    live.step(*timestep)
    assert int(live.state.step) == 3


def test_inputs_of_another_kind_are_what_they_are_to_a_step():
    """Where inputs are held, others than those are refused."""
    one = learner(overlap=2)
    live = rtrl.Live(one, one.init(network("LRU", depth=1)))
    for _ in range(3):
        live.step(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="xs: expected float32"):
        live.step(np.ones(3, int), np.ones(2))
    live.step(np.ones(3), np.ones(2))
    assert int(live.state.step) == 4


def test_an_interrupt_before_the_first_step_leaves_the_state(monkeypatch):
    live = rtrl.Live(one := learner(), one.init(network("LRU", depth=1)))

    def stop(*_, **__):
        raise KeyboardInterrupt

    for place in ((_live.Live, "_taken_apart"), (_live, "packing_of"), (_live, "uninterrupted")):
        with monkeypatch.context() as m:
            m.setattr(*place, stop)
            with pytest.raises(KeyboardInterrupt):
                live.step(np.ones(3), np.ones(2))
    assert int(live.state.step) == 0
    live.step(np.ones(3), np.ones(2))
    assert int(live.state.step) == 1


def test_a_state_before_is_used_up_whatever_its_size():
    one, timestep = learner(), (np.ones(3), np.ones(2))
    first = one.init(network("LRU", depth=1))
    live = rtrl.Live(one, first)
    live.step(*timestep)
    shown = live.state
    live.step(*timestep)
    for state in (first, shown):
        for use in (lambda s: one.step(s, *timestep), one.reset, lambda s: rtrl.Live(one, s)):
            with pytest.raises(ValueError, match="state: expected one that is still there"):
                use(state)
    assert int(live.state.step) == 2


def test_what_is_changed_in_a_state_that_was_asked_for_counts():
    one = rtrl.OnlineLearner(squared_error, optax.inject_hyperparams(optax.sgd)(learning_rate=0.1))
    live = rtrl.Live(one, one.init(network("LRU", depth=1)))
    for _ in range(2):
        live.step(np.ones(3), np.ones(2))
    live.state.opt_state.hyperparams["learning_rate"] = jnp.float32(0)
    before = np.array(live.state.model.decoder.weight)
    live.step(np.ones(3), np.ones(2))
    same(live.state.model.decoder.weight, before)
    # Of another shape, too: the program is another one then.
    state = live.state.opt_state.hyperparams
    state["learning_rate"] = jnp.full((1,), 0.1)
    live.step(np.ones(3), np.ones(2))
    assert np.abs(live.state.model.decoder.weight - before).max() > 0


def test_an_optimizer_that_begins_with_a_number():
    """Its state is an array from the first step on."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda g: -0.1 * g / (1 + state), updates), state + 1

    counting = optax.GradientTransformation(lambda params: 0, update)
    one = rtrl.OnlineLearner(squared_error, counting)
    state, timestep = one.init(network("LRU", depth=1)), (np.ones(3), np.ones(2))
    live = rtrl.Live(one, one.init(network("LRU", depth=1)))
    for _ in range(3):
        state, _ = one.step(state, *timestep)
        live.step(*timestep)
    assert live.state.opt_state == 3
    same(live.state, state)


@pytest.mark.parametrize("fails", ["packing_of", "fitted", "advance_packed"])
def test_inputs_are_of_the_kind_of_the_first_that_is_held(fails, monkeypatch):
    """Whatever goes wrong on the way, and however many kinds of timesteps there are."""

    class Tokens(eqx.Module):
        inner: rtrl.SequenceModel
        in_size: None = None

        def __call__(self, xs, carry, **options):
            return self.inner(jnp.stack([xs, xs, xs], -1) * 1.0, carry, **options)

    one = learner(overlap=2, rule=rtrl.RTRL())
    live = rtrl.Live(one, one.init(Tokens(network("LRU", depth=1))))

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(_live, fails, stop)
        with pytest.raises((KeyboardInterrupt, AttributeError)):
            live.step(np.float32(0.7), np.ones(2))
    live.step(np.float32(np.nan), np.ones(2))  # is not held
    live.step(np.float32(0.7), np.ones(2))

    def held() -> Any:
        return live.state.past

    assert held().xs[-1] == np.float32(0.7)
    with pytest.raises(ValueError, match="xs: expected float32"):
        live.step(np.int32(3), np.ones(2))
    live.step(np.float32(0.6), np.ones(2))
    assert held().xs.tolist() == pytest.approx([0.7, 0.6])


def test_nothing_travels_to_the_device_unasked():
    live = rtrl.Live(one := learner(), one.init(network("LRU", depth=1)))
    x, y = jnp.ones(3), jnp.ones(2)
    rtrl.Live(one, one.init(network("LRU", depth=1))).step(x, y)  # compiled
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            live.step(x, y)


def test_a_state_that_a_failed_step_took_along_is_named():
    calls = []

    def third(value):
        calls.append(value)
        if len(calls) == 3:
            raise RuntimeError("out of order")
        return value

    def loss(prediction, y):
        found = ((prediction - y) ** 2).sum()
        shape = jax.ShapeDtypeStruct((), found.dtype)
        return found + 0 * jax.pure_callback(
            third, shape, jax.lax.stop_gradient(found), vmap_method="sequential"
        )

    one = rtrl.OnlineLearner(loss, optax.sgd(0.1))
    live = rtrl.Live(one, one.init(network("LRU", depth=1)))
    with pytest.raises(Exception, match="out of order"):
        for _ in range(5):
            live.step(np.ones(3), np.ones(2)).loss.block_until_ready()
    if live._whole is None:
        with pytest.raises(ValueError, match="state: expected one that is still there"):
            live.step(np.ones(3), np.ones(2))


def test_other_kinds_are_refused():
    one = learner()
    state = one.init(network("LRU", depth=1))
    with pytest.raises(ValueError, match="learner: expected an OnlineLearner"):
        rtrl.Live(None, state)  # type: ignore
    with pytest.raises(ValueError, match="state: expected a LearnerState"):
        rtrl.Live(one, {})  # type: ignore
