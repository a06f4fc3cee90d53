"""Exported C keeps traces and moments as narrow as JAX does, and rounds them by the same bits."""

from typing import Any

import cases
import equinox as eqx
import jax
import numpy as np
import optax
import pytest
from c_learner import CLearner, arrays, distance
from test_device import STEP, steps_of

import rtrl
from rtrl.device._source import source

KEY = jax.random.key(3)


def build(cell, optimizer, dtype):
    rule = rtrl.SnAp1() if cell in cases.DENSE else rtrl.RTRL()
    learner = rtrl.OnlineLearner(
        cases.squared_error, optimizer, rule=rule, trace_dtype=dtype, donate=False
    )
    return learner, learner.init(cases.network(cell, depth=1, norm=None, glu=None))


def apart(learner, state, c, steps):
    """Every step from the state that JAX has reached: how many narrow numbers are another one, of
    how many, and how far they are at most; and the largest difference of all else."""
    states = []
    for s in steps:
        c.load(rtrl.device.pack(state))
        c.step(s)
        c.dump()
        y, weight = (np.zeros(c.y), 0.0) if s.y is None else (s.y, s.weight)
        state, out = learner.step(state, s.x, y, weight, np.bool_(s.reset))
        states.append((state, out))
    answers = c.do()
    other = total = 0
    farthest, worst = 0.0, (0.0, "")
    for i, (after, out) in enumerate(states):
        loaded, (skipped, prediction), saved = answers[3 * i : 3 * i + 3]
        assert loaded == 0 and skipped == int(np.sum(out.skipped))
        np.testing.assert_allclose(prediction, out.prediction, rtol=STEP, atol=1e-5)
        ours, theirs = rtrl.device.unpack(saved, like=after), after
        found, wanted = arrays(ours), arrays(theirs)
        for path, value in wanted.items():
            if value.dtype.name in ("int8", "bfloat16"):
                a, b = (v.astype(float) for v in (found[path], value))
                # What is left of larger numbers may be more than a unit of its own away.
                rounding = 1e-6 * np.abs(b).max(initial=0) + 1e-30
                unit = 1.0 if value.dtype == np.int8 else 2.0**-7 * np.abs(b) + rounding
                other, total = other + int((a != b).sum()), total + a.size
                farthest = max(farthest, float((np.abs(a - b) / unit).max(initial=0)))
        wide = eqx.filter((ours, theirs), lambda a: getattr(a, "dtype", None) == np.float32)
        worst = max(worst, distance(*wide))
    return other, total, farthest, worst


CASES: dict[str, Any] = {
    "LRU, bfloat16": ("LRU", "bfloat16", optax.sgd(1e-3, momentum=0.9)),
    "LRU, int8": ("LRU", "int8", optax.adam(1e-3)),
    "AdaptiveLIF, int8": ("AdaptiveLIF", "int8", optax.sgd(1e-2)),
    "MinGRU, bfloat16": ("MinGRU", "bfloat16", optax.adam(1e-3)),
    "GRU, int8": ("GRU", "int8", optax.lion(1e-3)),
}


@pytest.mark.parametrize(
    "name", [n if n[:3] == "LRU" else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_narrow_numbers_are_those_of_jax(name, tmp_path):
    cell, dtype, optimizer = CASES[name]
    narrow = rtrl.narrow_moments(optimizer, dtype)
    learner, state = build(cell, narrow, dtype)
    c = CLearner(learner, state, tmp_path)
    other, total, farthest, worst = apart(learner, state, c, steps_of(20))
    # Numbers of float32 that differ in their last bits, 1e-7 to 1e-6 of them (1e-4 of a unit), are
    # rounded otherwise as often; Adam's step is compared as loosely as in test_device.py.
    assert total > 1000 and other <= 0.002 * total + 1 and farthest <= 1.01, (other, total)
    assert worst[0] < STEP, worst


def test_another_hash_is_seen(tmp_path):
    """The comparison can tell: one constant changed in the C, and many numbers are others."""
    learner, state = build("LeakyIntegrator", optax.sgd(1e-2), "bfloat16")
    c = CLearner(learner, state, tmp_path)
    assert c.source.count("2221713035u") > 1
    (tmp_path / "learner.c").write_text(c.source.replace("2221713035u", "2221713037u"))
    c.compile()
    other, total, farthest, _ = apart(learner, state, c, steps_of(8))
    assert other > 0.1 * total and farthest <= 1.01


def test_odd_numbers_of_bytes_travel_both_ways(tmp_path):
    """15 numbers of 2 bytes and 15 of 1: the state is filled up to a multiple of 4."""
    cell = rtrl.cells.LeakyIntegrator(3, 5, key=KEY)
    model = rtrl.Sequential(3, [cell, eqx.nn.Linear(5, 3, key=KEY)])
    optimizer = rtrl.narrow_moments(optax.adam(1e-3), "int8")
    learner = rtrl.OnlineLearner(cases.squared_error, optimizer, trace_dtype="int8", donate=False)
    state = learner.init(model)
    c = CLearner(learner, state, tmp_path)
    fresh = rtrl.device.pack(state)
    for s in steps_of(5):
        state, _ = learner.step(state, s.x, np.zeros(3), s.weight)
    kept = [a for a in jax.tree.leaves(state) if a.dtype.name in ("int8", "bfloat16")]
    assert sum(a.nbytes for a in kept) % 4 and all(np.asarray(a).any() for a in kept)
    data = rtrl.device.pack(state)
    assert len(data) % 4 == 0
    back = arrays(rtrl.device.unpack(data, like=state))
    for path, value in arrays(state).items():
        np.testing.assert_array_equal(back[path], value)
    c.dump()
    c.load(data)
    c.dump()
    c.keep()
    c.init()
    c.recall()
    c.dump()
    first, loaded, second, kept, recalled, third = c.do()
    assert first == fresh and second == third == data
    assert loaded == kept == recalled == 0


@pytest.mark.parametrize("on_nonfinite", ["skip", "ignore"])
def test_memory_falls_with_the_bits(on_nonfinite):
    """State and scratch together: nothing narrow is kept wide beside itself."""
    model = rtrl.SequenceModel(
        1, 1, 16, 1, lambda n, k: rtrl.cells.LRU(n, 16, key=k), key=KEY, norm=None
    )
    total = {}
    for dtype in ("float32", "bfloat16", "int8"):
        learner = rtrl.OnlineLearner(
            cases.squared_error, optax.sgd(1e-3), trace_dtype=dtype, on_nonfinite=on_nonfinite
        )
        c = source(learner, learner.init(model), "learner")
        total[dtype] = c.state_bytes + c.scratch_bytes
    weights = 8 * 16 * 16  # of the trace in float32; a few rows are read more than once
    assert total["bfloat16"] <= total["float32"] - weights / 2 + 6 * 4 * 16
    assert total["int8"] <= total["float32"] - weights * 3 / 4 + 8 * 4 * 16


def test_computing_with_narrow_numbers_is_refused_by_name(tmp_path):
    def rounded(prediction, target):
        return ((prediction - target).astype("bfloat16").sum() ** 2).astype("float32")

    def signs(prediction, target):
        kind = (target > 0).astype("int8")
        return (prediction * (kind * kind).astype("float32")).sum()

    model = cases.network("LRU", depth=1, norm=None, glu=None)
    for loss, words in (
        (rounded, "primitive convert_element_type from float32 to bfloat16"),
        (signs, "primitive mul of numbers of fewer than 32 bits"),
    ):
        learner = rtrl.OnlineLearner(loss, optax.sgd(1e-2))
        with pytest.raises(ValueError, match=words):
            rtrl.device.export(learner, learner.init(model), tmp_path)
