"""Live steps are steps, to the bit, whatever a timestep is made of."""

import functools
import signal

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
    (kind, (bound, told)), *_ = live._known.items()

    def program(*arguments):
        signal.raise_signal(signal.SIGINT)
        return bound(*arguments)

    program.holds = lambda: True  # type: ignore[attr-defined]
    try:
        live._known[kind] = program, told  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt) as caught:
            live.step(*timestep)
    finally:
        signal.signal(signal.SIGINT, before)
    assert int(caught.value.state.step) == int(live.state.step) == 2  # type: ignore
    live._known[kind] = bound, told
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

    def stop(*_):
        raise KeyboardInterrupt

    for place in ((_live.Live, "_taken_apart"), (_live, "packing_of"), (_live, "uninterrupted")):
        with monkeypatch.context() as m:
            m.setattr(*place, stop)
            with pytest.raises(KeyboardInterrupt):
                live.step(np.ones(3), np.ones(2))
    assert int(live.state.step) == 0
    live.step(np.ones(3), np.ones(2))
    assert int(live.state.step) == 1


def test_other_kinds_are_refused():
    one = learner()
    state = one.init(network("LRU", depth=1))
    with pytest.raises(ValueError, match="learner: expected an OnlineLearner"):
        rtrl.Live(None, state)  # type: ignore
    with pytest.raises(ValueError, match="state: expected a LearnerState"):
        rtrl.Live(one, {})  # type: ignore
