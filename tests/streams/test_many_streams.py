"""Many streams, one model, against an oracle that keeps every stream's memory in a dict."""

import dataclasses
import os
import re
import signal
import sys
from typing import Any

import jax
import numpy as np
import optax
import pytest
from cases import squared_error

import rtrl
from rtrl.streams import ManyStreams, Standardized
from rtrl.streams.many._parked import Parked

KEY = jax.random.key(0)
MODEL = rtrl.SequenceModel(
    2, 1, 4, 1, lambda size, key: rtrl.cells.LRU(size, 3, key=key), glu=None, key=KEY
)


#: One for all tests: what is compiled for it is compiled once.
LEARNER = rtrl.OnlineLearner(squared_error, optax.sgd(0.05), donate=False)


class Oracle:
    """The same from the outside: the memories of those who came, side by side, learn one step."""

    def __init__(self):
        self.state = LEARNER.init(MODEL, 1)
        self.memory = {}

    def step(self, names, xs, ys, weights, resets):
        begin = rtrl.init_carry(MODEL, LEARNER.rule, 1)
        rows = [self.memory.get(name, begin) for name in names]
        carry = jax.tree.map(lambda *a: np.concatenate(a), *rows)
        state = dataclasses.replace(self.state, carry=carry)
        self.state, out = LEARNER.step(state, xs, ys, weights, resets)
        for i, name in enumerate(names):
            self.memory[name] = jax.tree.map(lambda a, i=i: a[i : i + 1], self.state.carry)
        return np.asarray(out.prediction), float(out.loss)


def assert_same(many, oracle):
    for a, b in zip(
        jax.tree.leaves(many.state.model), jax.tree.leaves(oracle.state.model), strict=True
    ):
        if isinstance(a, jax.Array):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32, other batch sizes


def items_of(rng, count):
    xs = rng.normal(size=(count, 2)).astype(np.float32)
    ys = rng.normal(size=(count, 1)).astype(np.float32)
    ys[rng.uniform(size=count) < 0.2] = np.nan  # a missing target
    xs[rng.uniform(size=count) < 0.1, 0] = np.nan  # a missing sample
    return xs, ys, rng.uniform(size=count), rng.uniform(size=count) < 0.1


@pytest.mark.parametrize(("slots", "counts"), [(4, (2, 3)), (40, (3, 20))])
def test_streams_that_come_and_go_learn_as_if_each_had_its_own_memory(tmp_path, slots, counts):
    rng = np.random.default_rng(slots)
    many = ManyStreams(LEARNER, LEARNER.init(MODEL, slots), tmp_path / "folder")
    oracle = Oracle()
    parked = returned = 0
    for call in range(24):
        count = int(rng.choice(counts))
        names = rng.choice(4 * counts[0] if slots < 10 else 60, count, replace=False).tolist()
        names = [f"user {n}" if n % 2 else n for n in names]
        data = items_of(rng, count)
        out = many.step(names, *data)
        prediction, loss = oracle.step(names, *data)
        # float32, other batch sizes.
        np.testing.assert_allclose(out.prediction, prediction, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out.loss, [loss], rtol=1e-4)
        parked, returned = parked + out.parked, returned + out.returned
        if call % 5 == 4:
            many.end(names[:1])
            del oracle.memory[names[0]]
        assert len(many) == len(oracle.memory)
        if call == 12:
            many.save()
            again = LEARNER.init(MODEL, slots)
            many = ManyStreams.resume(LEARNER, again, tmp_path / "folder")
    assert_same(many, oracle)
    assert parked > 10 and returned > 5


def test_bursts_are_taken_in_rounds_and_delay_nobody_by_more(tmp_path):
    """Items of one stream in their order; the k-th of every stream in round k, whoever sends."""
    rng = np.random.default_rng(1)
    many = ManyStreams(LEARNER, LEARNER.init(MODEL, 3), tmp_path)
    oracle = Oracle()
    many.step(["a", "b", "c"], *(early := items_of(rng, 3)))
    oracle.step(["a", "b", "c"], *early)
    names = ["b", "b", "d", "b", "a", "d", "e"]
    xs, ys, weights, resets = items_of(rng, 7)
    out = many.step(names, xs, ys, weights, resets)
    # Round 0 has b d a e: those with a slot, then as many others as there are slots.
    rounds = [[0, 4, 2], [6], [1, 5], [3]]
    assert len(out.loss) == len(rounds)
    for items in rounds:
        part = [a[items] for a in (xs, ys, weights, resets)]
        prediction, _ = oracle.step([names[i] for i in items], *part)
        # float32, other batch sizes.
        np.testing.assert_allclose(out.prediction[items], prediction, rtol=1e-4, atol=1e-5)
    assert_same(many, oracle)


def test_the_memory_of_a_silent_stream_returns_from_disk_bit_for_bit(tmp_path):
    rng = np.random.default_rng(2)
    many = ManyStreams(LEARNER, LEARNER.init(MODEL, 2), tmp_path)

    def memory(name):
        return many._take([many._slots.of[name]])

    many.step(["a", "b"], *items_of(rng, 2)[:2])
    before = memory("a")
    assert any(np.abs(a).max() > 0 for a in before)
    many.step(["b"], *items_of(rng, 1)[:2])
    out = many.step(["c"], *items_of(rng, 1)[:2])  # a has been silent for longest
    assert out.parked == 1 and "a" in many and "a" not in many._slots.of
    many._admit(["a"], np.array([0]), np.zeros(1, bool))
    for was, now in zip(before, memory("a"), strict=True):
        np.testing.assert_array_equal(was, now)


def test_a_save_finds_what_it_left_whatever_came_after(tmp_path):
    """Killed at any time after a save: `resume` goes on from it, and from there as without."""
    rng = np.random.default_rng(3)
    many = ManyStreams(LEARNER, LEARNER.init(MODEL, 2), tmp_path)
    script = [(list(rng.choice(7, 2, replace=False)), items_of(rng, 2)) for _ in range(30)]
    script = [([int(n) for n in names], data) for names, data in script]
    for names, data in script[:10]:
        many.step(names, *data)
    many.save()
    want = [many.step(names, *data).prediction for names, data in script[10:]]
    # Nothing was saved since, so the records of that save must all be as they were.
    again = ManyStreams.resume(LEARNER, LEARNER.init(MODEL, 2), tmp_path)
    for (names, data), prediction in zip(script[10:], want, strict=True):
        np.testing.assert_array_equal(again.step(names, *data).prediction, prediction)
    again.save()
    files = sorted(f.name for f in tmp_path.iterdir())
    assert files == ["parked", "state-2", "streams.json"]


def all_of(many):
    """Everything there is, as numbers: the state, and what is on disk of every stream."""
    parked = {n: many._parked._file[i].tobytes() for n, i in many._parked.records.items()}
    kept = many.state.model, many.state.carry, many.state.opt_state, many.state.step
    state = [np.asarray(a).tobytes() for a in jax.tree.leaves(kept) if hasattr(a, "dtype")]
    return many._rounds, list(many._slots.names), sorted(many._fresh), parked, state


def interrupted_at(count, function):
    """Call a function, with a Ctrl-C before the ``count``-th line of what writes a save."""
    files = "many/_many_streams.py", "many/_parked.py"
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        code = frame.f_code
        if not (code.co_filename.endswith(files) or code.co_name == "_sync_folder"):
            return None
        if event == "line":
            lines += 1
            if lines == count:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_a_save_that_is_stopped_anywhere_leaves_it_or_the_one_before(tmp_path):
    """At every line, as by a second Ctrl-C; what is on disk is whole, however things go on."""
    rng = np.random.default_rng(5)
    many = ManyStreams(LEARNER, LEARNER.init(MODEL, 2), tmp_path)
    like = LEARNER.init(MODEL, 2)
    data = items_of(rng, 2)

    def go_on():  # everyone is moved out and back
        for names in (["a", "b"], ["c", "d"], ["a", "c"]):
            many.step(names, *data)

    found, stopped = [], True
    while stopped and len(found) < 100:
        go_on()
        many.save()
        old = all_of(many)
        go_on()
        new = all_of(many)
        stopped = interrupted_at(len(found) + 1, many.save)
        go_on()  # writes over what is free
        on_disk = all_of(ManyStreams.resume(LEARNER, like, tmp_path))
        assert on_disk in (old, new), len(found)
        found.append(on_disk == new)
    assert not stopped
    # From a certain line on it is the new one; the last was not stopped.
    assert found == sorted(found) and 5 < sum(found) < len(found) - 5
    many.save()
    files = sorted(f.name for f in tmp_path.iterdir() if not f.name.startswith("."))
    assert files == ["parked", f"state-{many._saves}", "streams.json"]
    assert many._parked is not None
    assert len(many._parked._file) == 64  # what was held for saves that failed is free again


def test_ctrl_c_waits_until_a_save_is_whole(tmp_path, monkeypatch, pythons_own_handler):
    rng = np.random.default_rng(6)
    many = ManyStreams(LEARNER, LEARNER.init(MODEL, 2), tmp_path)
    for names in (["a", "b"], ["c"]):
        many.step(names, *items_of(rng, len(names)))
    want, sync = all_of(many), os.fsync

    def interrupt(descriptor):
        monkeypatch.setattr(os, "fsync", sync)
        signal.raise_signal(signal.SIGINT)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", interrupt)  # that of the state, the first file
    with pytest.raises(KeyboardInterrupt):
        many.save()
    assert sync is os.fsync
    assert all_of(ManyStreams.resume(LEARNER, LEARNER.init(MODEL, 2), tmp_path)) == want


def test_records_are_used_again_only_after_a_save_and_damage_is_seen(tmp_path):
    rows = [np.arange(3, dtype=np.float32), np.zeros((), np.complex64)]
    parked = Parked(str(tmp_path / "p"), rows, {})
    block = [np.ones((100, 3), np.float32), np.full(100, 1j, np.complex64)]
    parked.put(range(100), block)  # more than the file began with
    parked.saved()
    place = parked.records[7]
    parked.take([7])
    parked.put(range(200, 220), [a[:20] for a in block])
    assert place not in parked.records.values()
    parked.saved()
    parked.put(range(300, 400), block)
    assert place in parked.records.values()
    parked._file[parked.records[8]]["0"][1] += 1
    with pytest.raises(ValueError, match="stream 8 had remembered is damaged"):
        parked.take([8])


def test_a_record_of_another_stream_is_refused(tmp_path):
    parked = Parked(str(tmp_path / "p"), [np.zeros(3, np.float32)], {})
    parked.put(["1", 1], [np.ones((2, 3), np.float32)])
    parked.records = {"1": parked.records[1], 1: parked.records["1"]}
    for name in (1, "1"):
        with pytest.raises(ValueError, match=f"stream {name!r} had remembered is damaged"):
            parked.take([name])


def test_a_call_that_fails_leaves_no_stream_with_the_memory_of_another(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    many = ManyStreams(LEARNER, LEARNER.init(MODEL, 2), tmp_path)
    oracle = Oracle()
    data = items_of(rng, 2)
    many.step(["a", "b"], *data)
    oracle.step(["a", "b"], *data)
    with monkeypatch.context() as broken:
        broken.setattr(many, "_round", lambda *data: 1 / 0)  # as if memory had run out
        with pytest.raises(ZeroDivisionError):
            many.step(["c"], np.zeros((1, 2), np.float32))
    assert "c" in many._fresh
    data = np.ones((1, 2), np.float32), np.ones((1, 1), np.float32), np.ones(1), np.zeros(1, bool)
    for name in ("c", "a", "b"):
        prediction, _ = oracle.step([name], *data)
        got = many.step([name], *data).prediction
        np.testing.assert_allclose(got, prediction, rtol=1e-4, atol=1e-5)  # float32


def picky(prediction, target):
    return squared_error(prediction, target.reshape(1))


X = np.zeros((1, 2), np.float32)
REFUSED = {
    "a feature too many": ((np.zeros((1, 3)),), "xs: expected 1 items, one a name, so (1, 2)"),
    "features that are missing": ((np.zeros(1),), "xs: expected 1 items"),
    "an axis too many": ((np.zeros((1, 2, 1)),), "xs: expected 1 items"),
    "no inputs": ((None,), "xs: expected numbers, got 'an array of dtype object'"),
    "words": ((np.array([["a", "b"]]),), "xs: expected numbers"),
    "targets of others": ((X, np.zeros((2, 1))), "ys: expected 1 items"),
    "targets that are words": ((X, np.array(["a"])), "ys: expected numbers"),
    "targets of another shape": ((X, np.zeros((1, 3))), "reshape"),
    "targets of another structure": ((X, {"no": np.zeros(1)}), "reshape"),
    "weights with an axis too many": ((X, None, np.ones((1, 2))), "weights: expected 1 items"),
    "one weight": ((X, None, 1.0), "weights: expected 1 items"),
    "complex weights": ((X, None, np.ones(1, complex)), "weights: expected real numbers"),
    "resets with an axis too many": ((X, None, None, [[True]]), "resets: expected 1 items"),
    "resets that are numbers": ((X, None, None, np.ones(1)), "resets: expected booleans"),
}


@pytest.mark.parametrize("folder", [True, False])
def test_a_refused_call_has_changed_nothing(tmp_path, folder):
    learner = rtrl.OnlineLearner(picky, optax.sgd(0.05), donate=False)
    many = ManyStreams(learner, learner.init(MODEL, 2), tmp_path if folder else None)
    state, names = many.state, [None, None]
    if folder:
        many.step(["a", "b"], np.ones((2, 2), np.float32))
        state, names = many.state, ["a", "b"]
    for case, (data, message) in REFUSED.items():
        with pytest.raises((ValueError, TypeError, AttributeError), match=re.escape(message)):
            many.step([case], *data)
        assert many.state is state and many._slots.names == names, case
        assert case not in many and len(many) == (2 if folder else 0)
    assert many.step(["c"], X, [3.0], np.array([1]), np.array([False])).begun == 1


def test_what_does_not_fit_is_refused_by_name(tmp_path):
    many = ManyStreams(LEARNER, LEARNER.init(MODEL, 2))
    x = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="names: expected no more streams than the 2 slots"):
        many.step(["a", "b", "c"], x)
    with pytest.raises(ValueError, match="xs: expected 2 items"):
        many.step(["a", "b"], x)
    with pytest.raises(ValueError, match="names: expected integers or strings"):
        many.step([(1,)], x[:1])
    with pytest.raises(ValueError, match="names: expected streams that there are"):
        many.end(["z"])
    with pytest.raises(ValueError, match="folder: expected one to save to"):
        many.save()
    with pytest.raises(ValueError, match="batch axis"):
        ManyStreams(LEARNER, LEARNER.init(MODEL))
    standardized: Any = Standardized(LEARNER)
    with pytest.raises(ValueError, match="learner: expected an OnlineLearner, got 'Standardized'"):
        ManyStreams(standardized, standardized.init(MODEL, 2))
    kept = ManyStreams(LEARNER, LEARNER.init(MODEL, 2), tmp_path)
    kept.step(["a"], x[:1])
    kept.save()
    with pytest.raises(ValueError, match="folder: expected one without streams"):
        ManyStreams(LEARNER, LEARNER.init(MODEL, 2), tmp_path)
