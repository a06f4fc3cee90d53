"""Traces and moments in fewer bits: computed in float32, rounded at the end of a chunk, resumed."""

import dataclasses
import itertools
from typing import Any

import cases
import equinox as eqx
import jax
import jax.numpy as jnp
import narrow_oracle
import numpy as np
import optax
import pytest

import rtrl
from rtrl.engine import is_carry, widened
from rtrl.learners import _step, _update

NARROW = ("bfloat16", "int8")


class Halving(rtrl.Cell):
    """Halves its state: with inputs that are multiples of 1/8 its traces are exact for a while."""

    weight: jax.Array
    decay: jax.Array

    def project(self):
        return self.weight

    def update(self, h, u):
        return self.decay * h + u


def half_squared(prediction, target):
    return 0.5 * ((prediction - target) ** 2).sum()


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("dtype", NARROW)
def test_a_plain_loop_in_numpy_gives_the_same_bits(dtype, chunk):
    """Predict, advance the widened trace, read the gradient off it, then round it."""
    rng = np.random.default_rng(1)
    weight = (rng.integers(-8, 8, (3, 4)) / 8).astype("f4")
    xs = (rng.integers(-8, 8, (12, 4)) / 8).astype("f4")
    ys = rng.normal(size=(12, 3)).astype("f4")
    cell = Halving(jnp.asarray(weight), jnp.full(3, 0.5))
    rate = 2.0**-30  # so small that the trace is that of the weights above
    learner = rtrl.OnlineLearner(half_squared, optax.sgd(rate), trace_dtype=dtype)
    state, outs = learner.scan(learner.init(rtrl.Sequential(4, [cell])), xs, ys, chunk=chunk)

    h, s, d = np.zeros(3, "f4"), np.zeros((3, 4), "f4"), np.zeros(3, "f4")
    norms = []
    for begin in range(0, 12, chunk):
        gradient = 0.0
        for t in range(begin, begin + chunk):
            d, s = h + np.float32(0.5) * d, np.float32(0.5) * s + xs[t]
            h = np.float32(0.5) * h + weight @ xs[t]
            delta = h - ys[t]
            gradient = gradient + np.concatenate([(delta[:, None] * s).ravel(), delta * d])
        norms.append(np.linalg.norm(gradient))
        s, _ = narrow_oracle.rounded(s, dtype, begin, 0)
        if dtype == "bfloat16":
            d, _ = narrow_oracle.rounded(d, dtype, begin, 1)
    trace = widened(state.carry)[0].trace
    np.testing.assert_array_equal(trace.projections[0][0], s)
    np.testing.assert_array_equal(trace.modules["decay"][0], d)
    np.testing.assert_allclose(outs.grad_norm, norms, rtol=1e-5)  # sums of twenty numbers


def traces(state):
    return [c.trace for c in jax.tree.leaves(widened(state.carry), is_leaf=is_carry)]


PLAIN: dict[str, Any] = {"depth": 1, "norm": None, "glu": None}
CASES = {
    "LRU, two layers": ("LRU", PLAIN | {"depth": 2}, {}, {"chunk": 2}),
    "MinGRU": ("MinGRU", PLAIN, {"on_nonfinite": "ignore"}, {"chunk": 1}),
    "overlap": ("LRU", PLAIN, {"overlap": 3}, {"chunk": 2}),
    "AdaptiveLIF, two numbers a module": ("AdaptiveLIF", PLAIN, {}, {"chunk": 3}),
    "SnAp-1": ("VanillaRNN", PLAIN, {"rule": rtrl.SnAp1()}, {"chunk": 1}),
}
OFTEN = {("LRU, two layers", "int8"), ("overlap", "int8"), ("SnAp-1", "bfloat16")}
EVERY = [
    pytest.param(*pair, marks=() if pair in OFTEN else pytest.mark.slow)
    for pair in itertools.product(CASES, NARROW)
]


@pytest.mark.parametrize(("name", "dtype"), EVERY)
def test_it_is_learning_in_float32_with_traces_rounded_between_chunks(name, dtype):
    """With a batch, resets, missing inputs. Rounded by the oracle; to the bit but for numbers that
    two programs have computed differently, which then may be a unit apart."""
    cell, network, options, call = CASES[name]
    plain = rtrl.OnlineLearner(cases.squared_error, optax.sgd(1e-2), donate=False, **options)
    learner = dataclasses.replace(plain, trace_dtype=dtype)
    model = cases.network(cell, **network)
    state = learner.init(model, 2)
    xs, ys, weights, resets = (np.asarray(a).copy() for a in cases.data(12, 2, 0))
    if plain.on_nonfinite == "skip":
        xs[5, 1, 0] = np.nan
    total = apart = 0
    for begin in range(0, 12, call["chunk"]):
        part = slice(begin, begin + call["chunk"])
        data = {"weights": weights[part], "resets": resets[part]}
        wide = dataclasses.replace(state, carry=widened(state.carry))
        wide, expected = plain.scan(wide, xs[part], ys[part], **data, **call)
        state, outs = learner.scan(state, xs[part], ys[part], **data, **call)
        np.testing.assert_allclose(outs.prediction, expected.prediction, rtol=1e-5, atol=1e-6)
        for a, b in zip(jax.tree.leaves(state.model), jax.tree.leaves(wide.model), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        kept, whole = jax.tree.leaves(traces(state)), jax.tree.leaves(traces(wide))
        for number, (a, b) in enumerate(zip(kept, whole, strict=True)):
            if dtype == "int8" and a.ndim == 3:  # of module parameters
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
                continue
            rounded, unit = narrow_oracle.rounded(b, dtype, begin, number)
            apart += (np.abs(a - rounded) > 1e-4 * unit).sum()
            total += a.size
            for part_of in (np.real, np.imag):
                assert (np.abs(part_of(a - rounded)) <= 1.01 * unit).all()
    # A number of float32 that differs in its last bits is rounded otherwise once in 2^16 / few.
    assert total > 300 and apart <= 0.005 * total, (apart, total)


@pytest.mark.parametrize("dtype", ["int8", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_a_run_that_is_saved_and_resumed_is_the_uninterrupted_one_to_the_bit(dtype, tmp_path):
    optimizer = rtrl.narrow_moments(optax.adam(1e-2), dtype)
    learner = rtrl.OnlineLearner(cases.squared_error, optimizer, trace_dtype=dtype, donate=False)
    xs, ys, _, _ = cases.data(20, None, 0)
    begin = learner.init(cases.network("LRU", **PLAIN))
    whole, _ = learner.scan(begin, xs, ys)
    half, _ = learner.scan(begin, xs[:10], ys[:10])
    rtrl.save(tmp_path / "half", half)
    again, _ = learner.scan(rtrl.load(tmp_path / "half", like=begin), xs[10:], ys[10:])
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(whole), strict=True):
        assert a.dtype == b.dtype
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(a, b)
    kept = {a.dtype.name for a in jax.tree.leaves((whole.carry, whole.opt_state))}
    assert dtype in kept


def test_float32_is_the_very_program_without_all_this(monkeypatch):
    learner = rtrl.OnlineLearner(cases.squared_error, optax.adam(1e-2), donate=False)
    state = learner.init(cases.network("LRU", **PLAIN), 2)
    data = cases.data(4, 2, 0)

    def program(learner):
        def scan(state, xs, ys, weights, resets):
            return learner.scan(state, xs, ys, weights=weights, resets=resets, chunk=2)

        return str(jax.make_jaxpr(scan)(state, *data))

    with_it = program(learner)
    assert "uint16" not in with_it and "i8[" not in with_it
    monkeypatch.setattr(_step, "widened", lambda tree: tree)
    monkeypatch.setattr(_update, "widen", lambda tree: tree)
    monkeypatch.setattr(_step, "narrowed", lambda carry, *_: carry)
    jax.clear_caches()
    assert program(learner) == with_it
    monkeypatch.undo()
    narrow = dataclasses.replace(learner, trace_dtype="int8")
    state = narrow.init(cases.network("LRU", **PLAIN), 2)
    assert "i8[" in program(narrow)


@pytest.mark.parametrize("dtype", NARROW)
def test_a_trace_that_overflows_begins_anew_and_a_reset_is_zero(dtype):
    learner = rtrl.OnlineLearner(
        cases.squared_error, optax.sgd(1e-2), trace_dtype=dtype, donate=False
    )
    state = learner.init(cases.network("LRU", **PLAIN), 2)
    xs, ys, _, _ = cases.data(3, 2, 0)
    state, _ = learner.scan(state, xs, ys)
    assert all(np.abs(a).max() > 0 for a in jax.tree.leaves(traces(state)))
    again = learner.reset(state, jnp.array([True, False]))
    for a, b in zip(jax.tree.leaves(traces(again)), jax.tree.leaves(traces(state)), strict=True):
        assert np.abs(a[0]).max() == 0 and (a[1] == b[1]).all()

    def wild(path, a):
        name = jax.tree_util.keystr(path)
        hit = ".scale" in name if dtype == "int8" else "projections[0].real" in name
        # Of int8 such that the scale's square is finite, and the trace's is not.
        return a.at[1].set(np.inf if dtype == "bfloat16" else 1e19) if hit else a

    broken = dataclasses.replace(state, carry=jax.tree_util.tree_map_with_path(wild, state.carry))
    after, out = learner.step(broken, xs[0], ys[0])
    assert int(out.restarted) == 1
    trace = jax.tree.leaves(traces(after))[0]
    assert np.isfinite(trace).all() and np.abs(trace[1]).max() == 0 and np.abs(trace[0]).max() > 0


def test_bytes_are_counted_as_they_are_kept():
    model = cases.network("LRU", **PLAIN)
    parameters = sum(a.size for a in jax.tree.leaves(model) if eqx.is_inexact_array(a))
    modules, weights = 3 * cases.MODULES, cases.MODULES * cases.WIDTH
    small = rtrl.narrow_moments(optax.adam(1e-3), "bfloat16")
    found = rtrl.memory_report(model, rtrl.RTRL(), 2, optimizer=small, trace_dtype="int8")
    assert found.traces == 2 * (2 * weights + 4 * cases.MODULES + 8 * modules)
    assert found.optimizer == 2 * 2 * parameters + 8  # counters: Adam's, and of roundings
    half = rtrl.OnlineLearner(cases.squared_error, small, trace_dtype="bfloat16").init(model, 2)
    assert sum(a.nbytes for a in jax.tree.leaves(half.carry[0].trace)) == 8 * (weights + modules)
    # One input: a scale would take more than it saves.
    cell = Halving(jnp.ones((3, 1)), jnp.ones(3))
    thin = rtrl.OnlineLearner(half_squared, small, trace_dtype="int8")
    kept = thin.init(rtrl.Sequential(1, [cell])).carry[0].trace
    assert {a.dtype.name for a in jax.tree.leaves(kept)} == {"float32"}


def test_second_moments_move_in_bfloat16_and_are_no_int8():
    """A mean of squares that forgets a thousandth a step: rounded to nearest it would stay 0.25."""
    optimizer = rtrl.narrow_moments(optax.scale_by_rms(0.999), "int8")
    params = {"w": jnp.zeros((40, 50))}
    state: Any = optimizer.init(params)
    assert state.inner.nu["w"].real.dtype == jnp.bfloat16
    momentum: Any = rtrl.narrow_moments(optax.trace(0.9), "int8").init(params)
    assert momentum.inner.trace["w"].real.dtype == jnp.int8

    def body(state, _):
        return optimizer.update({"w": jnp.ones((40, 50))}, state)[1], None

    state = jax.lax.scan(body, state, None, length=2000)[0]
    mean = np.asarray(state.inner.nu["w"].real.astype("f4")).mean()
    # 1 - 0.999^2000 = 0.865; unit 2^-8, its errors a sum over 1000 steps in each of 2000 numbers.
    assert abs(mean - (1 - 0.999**2000)) < 5 * 2**-9 * (1000 / 2000) ** 0.5


def test_what_does_not_go_together_is_refused_by_name():
    loss, optimizer = cases.squared_error, optax.sgd(1e-2)

    def refused(match, function, *arguments, **options):
        with pytest.raises(ValueError, match=match):
            function(*arguments, **options)

    refused("^trace_dtype: expected 'float32', 'bf", rtrl.OnlineLearner, loss, optimizer,
            trace_dtype="float16")  # fmt: skip
    for rule in (rtrl.BPTT(), rtrl.UORO(), rtrl.Truncated()):
        refused("^trace_dtype: expected 'float32' with", rtrl.OnlineLearner, loss, optimizer,
                rule=rule, trace_dtype="int8")  # fmt: skip
    learner = rtrl.OnlineLearner(loss, optimizer, trace_dtype="bfloat16")
    model = cases.network("LRU", **PLAIN)
    other = rtrl.OnlineLearner(loss, optimizer).init(model)
    refused("^state: expected one with traces in bfloat16", learner.step, other, np.zeros(cases.IN))
    refused(
        "^optimizer: expected an optax .* no filter", rtrl.narrow_moments, rtrl.kalman(), "int8"
    )
    refused("^dtype: expected 'bfloat16' or 'int8'", rtrl.narrow_moments, optimizer, "float32")
    with jax.enable_x64(True):
        refused(
            "^trace_dtype: .*not in single precision", learner.init, cases.network("LRU", **PLAIN)
        )
        moments = rtrl.narrow_moments(optax.adam(1e-2), "bfloat16")
        refused("^optimizer: expected moments in float32", moments.init, {"w": jnp.zeros((2, 2))})
    mesh = jax.make_mesh((1,), ("b",))
    small = rtrl.OnlineLearner(loss, rtrl.narrow_moments(optax.adam(1e-2), "int8"))
    refused("^state: expected moments in float32", rtrl.shard, small.init(model, 2), mesh, "b")


def test_int8_is_for_averages_of_gradients_alone():
    """Whatever the parameters are called: here as optax calls its first moment."""
    params = {"w": jnp.ones((2, 3)), "mu": jnp.ones((2, 3))}

    def kept(optimizer):
        state: Any = rtrl.narrow_moments(optimizer, "int8").init(params)
        found = jax.tree.leaves(
            state.inner, is_leaf=lambda n: hasattr(n, "real") and hasattr(n, "scale")
        )
        return [str(a.real.dtype) for a in found if a.real.ndim]

    assert kept(optax.sgd(1e-2, momentum=0.9)) == ["int8"] * 2
    assert kept(optax.adam(1e-2)) == ["int8"] * 2 + ["bfloat16"] * 2
    assert kept(optax.adadelta(1e-2)) == ["bfloat16"] * 4
    assert kept(optax.ema(0.9)) == ["float32"] * 2  # of another name
