"""Ctrl-C at any moment leaves a state to go on from."""

import os
import re
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import optax
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from cases import network, squared_error  # noqa: E402

import rtrl  # noqa: E402
from rtrl.learners import _call, _step, uninterrupted  # noqa: E402

ITEMS = 300
LIBRARY = Path(rtrl.__file__).parent
rng = np.random.default_rng(0)
DATA = [(rng.normal(size=3).astype("f"), rng.normal(size=2).astype("f")) for _ in range(ITEMS)]


@pytest.fixture(autouse=True)
def pythons_own_handler():
    """Also where the tests run in the background of a shell, which ignores SIGINT there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def learner(**options):
    return rtrl.OnlineLearner(squared_error, optax.adam(1e-3), **options)


@pytest.mark.core
@pytest.mark.parametrize("donate", [True, False])
def test_an_interrupt_in_the_middle_of_a_call_brings_the_new_state(donate, monkeypatch):
    def interrupted(learner, data, chunk, state):
        signal.raise_signal(signal.SIGINT)
        after = eqx.tree_at(lambda s: s.step, state, state.step + 1)
        nothing = np.zeros(())
        return after, rtrl.StepOutput(*[nothing] * 7)  # type: ignore

    for kind in ("donating", "keeping"):
        monkeypatch.setattr(_step.advance_one, kind, interrupted)
    one = learner(donate=donate)
    state = one.init(network("LRU", depth=1))
    with pytest.raises(KeyboardInterrupt) as caught:
        one.step(state, *DATA[0])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert hasattr(caught.value, "state") == donate  # nothing used up: the old state is good
    assert int(getattr(caught.value, "state", state).step) == int(donate)


@pytest.mark.core
def test_what_never_ends_can_be_stopped_and_a_failure_stays_one():
    presses = []

    def endless():
        for press in range(3):
            presses.append(press)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        uninterrupted(endless)
    assert presses == [0, 1]

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


def library_lines(call, interrupt_at=None):
    """Run ``call``, and Ctrl-C at one of the lines of the library that it comes by."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if not frame.f_code.co_filename.startswith(str(LIBRARY)):
            return None
        count += event == "line"
        if event == "line" and count == interrupt_at:
            signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("kind", ["step", "stream"])
def test_an_interrupt_at_any_line_leaves_a_state(kind):
    one = rtrl.Standardized(learner(), warmup=0)
    kept = types.SimpleNamespace(state=one.init(network("LRU", depth=1)))
    if kind == "stream":
        kept.state = rtrl.open_stream(kept.state, chunk=1)

    def call():
        if kind == "step":
            kept.state, _ = one.step(kept.state, *DATA[0])
        else:
            for kept.state, _ in one.stream(kept.state, DATA[:1], chunk=1):  # noqa: B020
                pass

    call()
    lines = library_lines(call)
    assert lines > 100
    late = range(max(lines - 150, 1), lines + 1)  # from here on something has been used up
    for line in (*range(1, late[0], 11), *late):
        before = int(kept.state.items)
        with pytest.raises(KeyboardInterrupt) as caught:
            library_lines(call, line)
        kept.state = getattr(caught.value, "state", kept.state)
        call()
        assert int(kept.state.items) - before in (1, 2)
        assert int(kept.state.items) == int(state_of(kept).step)


def state_of(kept):
    inner = kept.state.learner
    return inner.learner if isinstance(inner, rtrl.StreamState) else inner


# In a process of its own: real signals, at random moments ----------------------------------------


def by_step(one, kept):
    while (n := taken(kept.state)) < ITEMS:
        kept.state, _ = one.step(kept.state, *DATA[n])


def by_stream(one, kept):
    for kept.state, _ in one.stream(kept.state, DATA[taken(kept.state) :], chunk=4):  # noqa: B020
        pass


def taken(state) -> int:
    """Items taken so far."""
    return int(state.items if isinstance(state, rtrl.StreamState) else state.step)


def survive(one, advance, model):
    """Learn all items again and again while signals come from outside: losses and interrupts."""
    kept = types.SimpleNamespace(state=one.init(model))
    advance(one, kept)
    undisturbed = arrays(kept.state)
    kept.state = None
    lost = interrupts = 0
    with subprocess.Popen([sys.executable, "-c", SENDER, str(os.getpid())]) as sender:
        while True:
            try:
                try:
                    while sender.poll() is None:
                        kept.state = one.init(model) if kept.state is None else kept.state
                        advance(one, kept)
                        for a, b in zip(arrays(kept.state), undisturbed, strict=True):
                            assert np.array_equal(a, b), advance.__name__
                        kept.state = None
                    break
                except KeyboardInterrupt as error:
                    interrupts += 1
                    kept.state = getattr(error, "state", kept.state)
                except (ValueError, RuntimeError) as error:
                    if "KeyboardInterrupt" in str(error):  # met by JAX, comparing keys of a cache
                        interrupts += 1
                        continue
                    assert re.search("used up|deleted", str(error)), error
                    lost += 1
                    kept.state = None
            except KeyboardInterrupt:  # while another one was dealt with
                interrupts += 1
    return lost, interrupts


SENDER = """
import os, random, signal, sys, time
for _ in range(20):
    time.sleep(random.uniform(0.02, 0.06))
    os.kill(int(sys.argv[1]), signal.SIGINT)
time.sleep(0.1)
"""


def with_care():
    one, model = learner(), network("LRU", depth=1)
    for advance in (by_step, by_stream):
        lost, interrupts = survive(one, advance, model)
        # A call's return, before its result is assigned, takes a thousandth of the call.
        assert lost <= 1 and interrupts > 6, (advance.__name__, lost, interrupts)


def without_care():
    _call.uninterrupted = lambda function, *arguments: function(*arguments)
    one, model = learner(), network("LRU", depth=1)
    lost = 0
    for _ in range(5):  # about a third of the signals, but by chance
        lost += survive(one, by_step, model)[0]
        if lost > 5:
            return
    raise AssertionError("without care no state was lost: this can't tell")


def arrays(state):
    return [np.asarray(a) for a in jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))]


def in_a_process(function):
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.run(
        [sys.executable, __file__, function.__name__],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.core
def test_no_item_is_lost_or_learned_twice_when_real_signals_come():
    run = in_a_process(with_care)
    assert run.returncode == 0, run.stderr


@pytest.mark.core
def test_without_care_they_are():
    run = in_a_process(without_care)
    # Python's exception may also meet JAX where it ends the process.
    assert run.returncode in (0, -signal.SIGABRT), run.stderr


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    jax.config.update("jax_platforms", "cpu")
    {"with_care": with_care, "without_care": without_care}[sys.argv[1]]()
