"""Ctrl-C at any moment leaves a state to go on from."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import optax
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from cases import network, squared_error  # noqa: E402

import rtrl  # noqa: E402
from rtrl.learners import _interrupt, _step, uninterrupted  # noqa: E402

ITEMS = 300
rng = np.random.default_rng(0)
DATA = [(rng.normal(size=3).astype("f"), rng.normal(size=2).astype("f")) for _ in range(ITEMS)]
XS, YS = (np.stack(column) for column in zip(*DATA, strict=True))


def learner(**options):
    return rtrl.OnlineLearner(squared_error, optax.adam(1e-3), **options)


@pytest.mark.core
@pytest.mark.parametrize("donate", [True, False])
def test_an_interrupt_in_the_middle_of_a_call_brings_the_new_state(donate, monkeypatch):
    real = _step.advance_one.donating

    def interrupted(*arguments):
        result = real(*arguments)
        signal.raise_signal(signal.SIGINT)
        return result

    interrupted.__name__ = "advance_one"
    one = learner(donate=donate)
    state = one.init(network("LRU", depth=1))
    monkeypatch.setattr(_step.advance_one, "donating", interrupted)
    monkeypatch.setattr(_step.advance_one, "keeping", interrupted)
    if not donate:  # nothing is used up: the old state is good
        monkeypatch.setattr(_step.advance_one, "keeping", lambda *a: signal.raise_signal(2))
    with pytest.raises(KeyboardInterrupt) as caught:
        one.step(state, *DATA[0])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    state = getattr(caught.value, "state", state)
    assert int(state.step) == int(donate)
    state, _ = one.step(state, *DATA[0])
    assert int(state.step) == 1 + int(donate)


@pytest.mark.core
def test_what_never_ends_can_be_stopped_and_a_failure_stays_one():
    def endless():
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    with pytest.raises(KeyboardInterrupt):
        uninterrupted(endless)

    def fails():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("x: bad")

    with pytest.raises(KeyboardInterrupt) as caught:
        uninterrupted(fails)
    assert isinstance(caught.value.__context__, ValueError)
    assert not hasattr(caught.value, "state")


@pytest.mark.core
def test_a_programs_own_handler_and_other_threads_are_left_alone():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        mine = signal.getsignal(signal.SIGINT)
        uninterrupted(lambda: seen.append(signal.getsignal(signal.SIGINT) is mine))
        assert seen == [True]
    finally:
        signal.signal(signal.SIGINT, before)
    thread = threading.Thread(target=lambda: seen.append(uninterrupted(lambda: "called")))
    thread.start()
    thread.join()
    assert seen == [True, "called"]


# In a process of its own: real signals, at random moments ----------------------------------------


def by_step(one, state):
    for x, y in DATA[taken(state) :]:
        state, _ = one.step(state, x, y)
        yield state


def by_scan(one, state):
    while (n := taken(state)) < ITEMS:
        state, _ = one.scan(state, XS[n : n + 3], YS[n : n + 3])
        yield state


def by_stream(one, state):
    for state, _ in one.stream(state, DATA[taken(state) :], chunk=4):  # noqa: PLR1704
        yield state


def taken(state) -> int:
    return int(state.items if hasattr(state, "items") else state.step)


def survive(one, advance, state, signals):
    """Go through the data, interrupted at random; the final state and how often."""
    ready, random_times = threading.Event(), random.Random(0)

    def interrupt():
        for _ in range(signals):
            ready.wait()
            ready.clear()
            time.sleep(random_times.random() * 4e-3)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    interrupts = 0
    while True:
        try:
            ready.set()
            while taken(state) < ITEMS:
                state = next(advance(one, state))
            time.sleep(0.1)  # for a signal under way
            return state, interrupts
        except KeyboardInterrupt as error:
            interrupts += 1
            state = getattr(error, "state", state)


def main():
    jax.config.update("jax_platforms", "cpu")
    plain = learner()
    scaled = rtrl.Standardized(plain)
    model = network("LRU", depth=1)
    cases = [(plain, by_step), (plain, by_scan), (plain, by_stream), (scaled, by_step),
             (scaled, by_stream)]  # fmt: skip
    for one, advance in cases:
        state = one.init(model)
        for state in advance(one, state):  # noqa: B007
            pass
        undisturbed = state
        state, interrupts = survive(one, advance, one.init(model), 20)
        assert interrupts > 5, interrupts
        for a, b in zip(*(arrays(s) for s in (state, undisturbed)), strict=True):
            assert np.array_equal(a, b), advance.__name__
    _interrupt_off()
    try:
        survive(plain, by_step, plain.init(model), 20)
    except ValueError as error:
        assert "state: expected one that is still there" in str(error)
    else:
        raise AssertionError("without care no state was lost: the test can't tell")


def _interrupt_off():
    from rtrl.learners import _learner

    _learner.uninterrupted = lambda function, *arguments: function(*arguments)


def arrays(state):
    return [np.asarray(a) for a in jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))]


@pytest.mark.core
def test_no_item_is_lost_or_learned_twice_whenever_an_interrupt_comes():
    path = os.pathsep.join(filter(None, sys.path))
    run = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


if __name__ == "__main__":
    main()
