"""The learner: what its calls mean, what they leave alone, what they refuse."""

import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import EVERY_CELL, IN, ONLINE_RULES, OUT, RULES, data, network, squared_error

import rtrl
from rtrl import cells
from rtrl.engine import _trace
from rtrl.learners import _inputs, _step

T = 12
KEY = jax.random.key(0)


def leaves(tree):
    return [np.asarray(a) for a in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


def same(a, b, tolerance=0.0):
    return all(np.allclose(x, y, rtol=0, atol=tolerance) for x, y in zip(a, b, strict=True))


def learner(**options):
    options = {"optimizer": optax.adam(1e-2), "donate": False, **options}
    return rtrl.OnlineLearner(squared_error, **options)


# What a step learns -------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_call_applies_the_gradient_of_its_chunk(rule, float64):
    """With SGD of rate one the parameters move by the gradient that sequence_gradient gives."""
    model = network("LRU")
    xs, ys, weights, resets = data(T, 3, 0)
    one = learner(optimizer=optax.sgd(1.0), rule=rule, update_every=3)
    state, out = one.scan(
        one.init(model, 3), xs, ys, chunk=5, weights=weights, resets=resets
    )  # chunks of 5, 5 and 2: one window
    value, grads = rtrl.sequence_gradient(
        model, squared_error, xs, ys, rule=rule, chunk=5, weights=weights, resets=resets
    )
    moved = [a - b for a, b in zip(leaves(model), leaves(state.model), strict=True)]
    assert same(moved, leaves(grads), 1e-12)
    assert out.prediction.shape == ys.shape
    assert out.loss.shape == out.skipped.shape == (T,)
    assert out.grad_norm.shape == (3,)
    assert int(state.step) == T
    losses = ((out.prediction - ys) ** 2).sum(-1)  # one model for all chunks: nothing moved yet
    assert np.allclose(out.loss, losses.mean(1))
    assert np.allclose((weights * losses).sum() / 3, value)


@pytest.mark.core
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("cell", EVERY_CELL)
def test_steps_are_a_scan_in_chunks_of_one(cell, batch):
    model = network(cell)
    xs, ys, weights, resets = data(T, batch, 1)
    one = learner()
    scanned, outs = one.scan(one.init(model, batch), xs, ys, weights=weights, resets=resets)
    state = one.init(model, batch)
    for t in range(T):
        state, out = one.step(state, xs[t], ys[t], weights[t], resets[t])
        # Two programs, the same sums in another order.
        assert np.allclose(out.prediction, outs.prediction[t], atol=1e-4)
        assert np.allclose(out.loss, outs.loss[t], atol=1e-3)
    assert same(leaves(state.model), leaves(scanned.model), 1e-4)


def test_learning_lowers_the_loss_of_a_task_that_needs_memory():
    """y_t = x_{t-3}: without a trace the past can't be kept on purpose."""
    xs = jax.random.normal(jax.random.key(0), (3000, 8, 1))
    ys = jnp.roll(xs, 3, axis=0)
    final = {}
    for rule in (rtrl.RTRL(), rtrl.Spatial()):
        model = rtrl.SequenceModel(
            1, 1, 16, 1, lambda size, key: rtrl.cells.LRU(size, 8, r_max=0.9, key=key),
            key=jax.random.key(1),
        )  # fmt: skip
        one = learner(optimizer=optax.adam(3e-3), rule=rule)
        _, outs = one.scan(one.init(model, 8), xs, ys)
        final[rule.label()] = float(outs.loss[-500:].mean())
    assert final["RTRL, chunk errors"] < 0.35 < 0.45 < final["Spatial"]  # the variance of y is 1


def test_a_window_without_weight_skips_the_optimizer_momentum_included():
    xs, ys, _, _ = data(4, None, 2)
    one = learner(update_every=2)
    state, _ = one.scan(one.init(network("LRU")), xs, ys)
    silent, out = one.scan(state, xs, ys, weights=0.0)
    assert same(leaves(silent.model), leaves(state.model))
    assert same(leaves(silent.opt_state), leaves(state.opt_state))
    assert not same(leaves(silent.carry), leaves(state.carry))  # but time went on
    assert np.isfinite(out.loss).all()
    unknown, out = one.scan(state, xs)
    assert same(leaves(unknown.model), leaves(state.model))
    assert np.isnan(out.loss).all() and not out.skipped.any()


@pytest.mark.parametrize("rule", ONLINE_RULES.values(), ids=ONLINE_RULES.keys())
def test_weight_zero_is_no_target(rule):
    """A timestep of weight zero teaches nothing, whatever its target."""
    xs, ys, weights, _ = data(T, 2, 3)
    weights = weights.at[::2].set(0)
    one = learner(rule=rule)
    a, _ = one.scan(one.init(network("LRU"), 2), xs, ys, weights=weights, chunk=4)
    b, _ = one.scan(one.init(network("LRU"), 2), xs, ys.at[::2].add(7.0), weights=weights, chunk=4)
    assert same(leaves(a), leaves(b))


# Sequence boundaries ------------------------------------------------------------------------


@pytest.mark.core
def test_reset_begins_a_sequence_for_the_samples_named():
    xs, ys, _, _ = data(T, 3, 4)
    one = learner(update_every=100)
    state, _ = one.scan(one.init(network("LRU"), 3), xs, ys)
    again = one.reset(state, np.array([True, False, True]))
    fresh = one.init(network("LRU"), 3)
    for old, new, zero in zip(*(leaves(s.carry) for s in (state, again, fresh)), strict=True):
        assert np.array_equal(new[[0, 2]], zero[[0, 2]])
        assert np.array_equal(new[1], old[1])
    assert same(leaves(again.window), leaves(state.window))  # gradients summed so far are kept
    assert same(leaves(one.reset(state).carry), leaves(fresh.carry))
    by_step, _ = one.step(state, xs[0], ys[0], reset=np.array([True, False, True]))
    by_reset, _ = one.step(again, xs[0], ys[0])
    assert same(leaves(by_step.carry), leaves(by_reset.carry), 1e-6)


# Prediction ---------------------------------------------------------------------------------


def test_predict_is_what_the_learner_would_say_and_touches_nothing():
    xs, ys, _, _ = data(T, 2, 5)
    one = learner(donate=True)
    state, _ = one.scan(one.init(network("LRU"), 2), xs, ys)
    before = leaves(state)
    ahead, carry = one.predict(state, xs[0])
    two_ahead, _ = one.predict(state, xs[1], carry)
    assert same(leaves(state), before)
    assert jax.tree.leaves(carry[0].trace) == []
    _, outs = one.scan(state, xs[:2], chunk=2)
    assert np.allclose(ahead, outs.prediction[0], atol=1e-5)
    assert np.allclose(two_ahead, outs.prediction[1], atol=1e-5)


def test_dropout_uses_the_key_of_the_state_and_never_predict():
    model = network("LRU", dropout=0.5)
    xs, ys, _, _ = data(T, None, 6)
    one = learner()
    runs = [
        one.scan(one.init(model, key=jax.random.key(seed)), xs, ys)[1].prediction
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(runs[0], runs[1]) and not np.allclose(runs[0], runs[2])
    state = one.init(model)
    assert np.array_equal(one.predict(state, xs[0])[0], one.predict(state, xs[0])[0])
    plain = rtrl.sequence_gradient(model, squared_error, xs, ys, rule=rtrl.RTRL())[0]
    keyed = rtrl.sequence_gradient(
        model, squared_error, xs, ys, rule=rtrl.RTRL(), key=jax.random.key(0)
    )[0]
    assert plain != keyed


def test_every_step_drops_others():
    """One input again and again, each time the start of a sequence, parameters that never move."""

    def predictions(dropout):
        one, model = learner(optimizer=optax.sgd(0.0)), network("LRU", dropout=dropout)
        xs, ys = jnp.ones((6, IN)), jnp.ones((6, OUT))
        state, outs = one.scan(one.init(model), xs, ys, chunk=1, resets=jnp.ones(6, bool))
        _, out = one.step(state, xs[0], ys[0], reset=True)
        return np.concatenate([outs.prediction, out.prediction[None]])

    assert len(np.unique(predictions(0.5), axis=0)) == 7
    assert np.ptp(predictions(0.0), axis=0).max() < 1e-6  # a scan and a step are two programs


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_the_number_of_timesteps_stays_at_the_largest(chunk):
    largest = 2**32 - 1
    xs, ys, _, _ = data(chunk, None, 0)
    one = learner()
    state = one.init(network("LeakyIntegrator"))
    for before in (largest - 6, largest - 5, largest - 2, largest - 1, largest):
        state = eqx.tree_at(lambda s: s.step, state, jnp.uint32(before))
        for _ in range(3):
            after, _ = one.scan(state, xs, ys, chunk=chunk)
            assert int(after.step) == min(int(state.step) + chunk, largest)
            state = after


# Compilation and memory ---------------------------------------------------------------------


@pytest.mark.core
def test_nothing_compiles_twice():
    traces = []

    def loss(prediction, target):
        traces.append(1)
        return ((prediction - target) ** 2).sum()

    xs, ys, _, _ = (np.asarray(a) for a in data(T, None, 7))
    one = rtrl.OnlineLearner(loss, optax.adam(1e-3))
    state = one.init(network("LRU"))
    counts = []
    for t in range(4):
        state, _ = one.step(state, xs[t].astype(np.float64), list(map(float, ys[t])))
        counts.append(len(traces))
    for _ in range(3):
        state, _ = one.scan(state, xs, ys, chunk=4)
        counts.append(len(traces))
    state = one.reset(state)
    state, _ = one.step(state, xs[0], ys[0], weight=0.5)
    assert counts[0] == counts[3] < counts[4] == counts[6] == len(traces)


@pytest.mark.core
def test_donation_consumes_the_old_state_but_never_the_callers_arrays():
    model = network("LRU")
    xs, ys, _, _ = data(T, None, 8)
    one = learner(donate=True)
    old = one.init(model)
    new, _ = one.scan(old, xs, ys)
    new, _ = one.step(new, xs[0], ys[0])
    assert old.carry[0].trace.projections[0].is_deleted()
    assert not any(a.is_deleted() for a in (*jax.tree.leaves(model), xs, ys))
    keeping = learner(donate=False)
    state = keeping.init(model)
    keeping.step(state, xs[0], ys[0])
    assert not any(a.is_deleted() for a in jax.tree.leaves(eqx.filter(state, eqx.is_array)))


def scan_program(make, chunk):
    """The optimized HLO of a scan, and how many arrays its state holds.

    Of traces of more than 256 numbers: vectors of less may be copied (`one_kernel`).
    """
    model = rtrl.SequenceModel(IN, OUT, 16, 2, lambda size, key: make(size, 17, key=key), key=KEY)
    one = rtrl.OnlineLearner(squared_error, optax.adam(1e-3))
    state = one.init(model)
    xs, ys, _, _ = data(3 * chunk, None, 1)
    chunks = _inputs.prepare(model, xs, ys, None, None, None)
    jax.clear_caches()
    program = _step._Advance(_step.advance_many.donating.function).donating
    text = program.lower(one, chunks, chunk, state).compile().as_text()
    assert text is not None
    return text, len(jax.tree.leaves(eqx.filter(state, eqx.is_array)))


@pytest.mark.parametrize("batch", [None, 2])
def test_an_overflowed_trace_without_a_target_is_no_gradient(batch):
    one, lead = learner(), () if batch is None else (batch,)
    state = one.init(network("LRU"), batch)
    overflow = jax.tree.map(lambda a: jnp.full_like(a, jnp.inf), state.carry[0].trace)
    state = eqx.tree_at(lambda s: s.carry[0].trace, state, overflow)
    after, out = one.step(state, jnp.ones((*lead, IN)))
    assert out.skipped == 0 and out.grad_norm == 0
    assert same(leaves(after.model), leaves(state.model))
    _, out = one.step(state, jnp.ones((*lead, IN)), jnp.ones((*lead, OUT)))
    assert out.skipped == 1


@pytest.mark.core
@pytest.mark.parametrize("chunk", [1, 4])
def test_the_state_is_updated_in_the_memory_it_came_in(chunk):
    text, arrays = scan_program(cells.LRU, chunk)
    assert text.split("\n", 1)[0].count("-alias)") >= arrays - 1  # not the key, which stays


@pytest.mark.core
@pytest.mark.parametrize(("make", "kind"), [(cells.LRU, "c64"), (cells.MinGRU, "f32")])
def test_no_trace_is_copied_at_a_timestep(make, kind, monkeypatch):
    copy = re.compile(rf"= {kind}\[(?:1,)+17,16\]\S* copy\(")  # (17, 16) alone may be a gradient
    assert not copy.findall(scan_program(make, 1)[0])
    monkeypatch.setattr(_trace, "in_place", lambda change, *arguments: change(*arguments))
    assert copy.findall(scan_program(make, 1)[0])


def test_weights_that_are_not_given_are_ones(monkeypatch):
    """Of few timesteps they are kept for the next call, of many they are made anew."""
    xs, ys, _, _ = data(T, 2, 4)
    one, found = learner(), []
    for few, kept in ((2 * T, 1), (2 * T - 1, 0)):
        monkeypatch.setattr(_inputs, "FEW", few)
        _inputs._ones.cache_clear()
        for weights in (None, np.ones((T, 2))):
            state, out = one.scan(one.init(network("LRU"), 2), xs, ys, weights=weights)
            found.append(leaves((state.model, out)))
        assert _inputs._ones.cache_info().currsize == kept
    assert all(same(found[0], other) for other in found[1:])


def test_a_step_can_be_part_of_the_users_own_program():
    xs, ys, _, _ = data(T, None, 9)
    one = learner(donate=True)
    arrays, static = eqx.partition(one.init(network("LRU")), eqx.is_array)

    @jax.jit
    def run(arrays, xs, ys):
        def body(arrays, xy):
            state, out = one.step(eqx.combine(arrays, static), *xy)
            return eqx.filter(state, eqx.is_array), out.loss

        return jax.lax.scan(body, arrays, (xs, ys))

    _, losses = run(arrays, xs, ys)
    _, outs = one.scan(one.init(network("LRU")), xs, ys)
    assert np.allclose(losses, outs.loss, rtol=1e-4)


def test_a_step_can_be_exported_to_a_device():
    """No callback into Python: the compiled step runs without this library."""
    xs, ys, _, _ = data(2, None, 14)
    one = learner()
    state = one.init(network("LRU"))
    leaves_in, treedef = jax.tree.flatten(eqx.filter(eqx.tree_at(lambda s: s.key, state, None),
                                                     eqx.is_array))  # fmt: skip

    def step(leaves, x, y):
        arrays = eqx.tree_at(
            lambda s: s.key, jax.tree.unflatten(treedef, leaves), state.key,
            is_leaf=lambda n: n is None,
        )  # fmt: skip
        after, out = one.step(eqx.combine(arrays, state), x, y)
        after = eqx.filter(eqx.tree_at(lambda s: s.key, after, None), eqx.is_array)
        return jax.tree.leaves(after), out.prediction

    device = jax.export.export(jax.jit(step))(leaves_in, xs[0], ys[0])
    assert "callback" not in device.mlir_module()
    after, _ = device.call(leaves_in, xs[0], ys[0])
    after, prediction = device.call(after, xs[1], ys[1])
    state, _ = one.step(state, xs[0], ys[0])
    _, out = one.step(state, xs[1], ys[1])
    assert np.allclose(prediction, out.prediction, atol=1e-6)


@pytest.mark.core
def test_resuming_from_a_file_is_bit_exact(tmp_path):
    xs, ys, _, _ = data(T, 2, 15)
    one = learner(update_every=2)
    state, _ = one.scan(one.init(network("LRU", dropout=0.2), 2, key=jax.random.key(3)), xs, ys)
    rtrl.save(tmp_path / "state", state)
    loaded = rtrl.load(tmp_path / "state", like=one.init(network("LRU", dropout=0.2, seed=1), 2))
    (a, out_a), (b, out_b) = (one.scan(s, xs, ys, chunk=5) for s in (state, loaded))
    assert np.array_equal(jax.random.key_data(a.key), jax.random.key_data(b.key))
    for x, y in zip(leaves((a, out_a)), leaves((b, out_b)), strict=True):
        assert x.dtype == y.dtype and np.array_equal(x, y, equal_nan=True)
    with pytest.raises(ValueError, match="carry"):
        rtrl.load(tmp_path / "state", like=one.init(network("LRU"), 3))


# Data that are not finite ---------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("cell", EVERY_CELL)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_bad_input_is_as_if_the_timestep_had_not_happened(cell, bad, chunk):
    xs, ys, _, _ = (np.array(a) for a in data(T, 2, 10))
    one = learner(optimizer=optax.sgd(1e-2), update_every=100)
    clean, _ = one.scan(
        one.init(network(cell), 2), np.delete(xs, 5, 0), np.delete(ys, 5, 0), chunk=chunk
    )
    xs[5] = bad
    state, out = one.scan(one.init(network(cell), 2), xs, ys, chunk=chunk)
    # Chunks fall elsewhere without the timestep: with errors of several layers only K = 1 agrees.
    if chunk == 1:
        assert same(leaves(state.window), leaves(clean.window), 1e-4)
    assert same(leaves(state.carry), leaves(clean.carry), 1e-5)
    assert out.skipped.tolist() == [0] * 5 + [2] + [0] * 6
    assert np.isnan(out.loss[5]) and np.isfinite(np.delete(out.loss, 5)).all()


@pytest.mark.core
def test_a_bad_sample_leaves_the_others_alone():
    xs, ys, _, _ = (np.array(a) for a in data(T, 2, 11))
    one = learner(optimizer=optax.sgd(1e-2), update_every=100)
    model = network("LRU")
    weights = np.ones((T, 2), np.float32)
    weights[3:5, 1] = 0
    clean, _ = one.scan(one.init(model, 2), xs, ys, weights=weights)
    ys[3, 1], ys[4, 1, 0] = np.nan, np.inf
    state, out = one.scan(one.init(model, 2), xs, ys)
    assert same(leaves(state.window), leaves(clean.window), 1e-5)
    assert same(leaves(state.carry), leaves(clean.carry), 1e-6)
    assert out.skipped.sum() == 2
    xs[7, 0, 1] = np.nan
    state, out = one.scan(one.init(model, 2), xs, ys)
    assert all(np.isfinite(a).all() for a in leaves(state))
    assert out.skipped.sum() == 3


def test_a_loss_or_gradient_that_is_not_finite_is_skipped():
    def loss(prediction, target):  # infinite slope at zero, infinite value for negative targets
        return jnp.where(target[0] < 0, jnp.inf, 1.0) * jnp.sqrt(jnp.abs(prediction - target)).sum()

    xs, ys, _, _ = (np.array(a) for a in data(T, None, 12))
    ys[:, 0] = 1.0
    ys[6, 0] = -1.0
    one = rtrl.OnlineLearner(loss, optax.adam(1e-3), donate=False)
    state, out = one.scan(one.init(network("LRU")), xs, ys)
    assert all(np.isfinite(a).all() for a in leaves(state))
    assert out.skipped.tolist() == [0] * 6 + [1] + [0] * 5

    huge = rtrl.OnlineLearner(
        lambda p, y: 1e30 * ((p - y) ** 2).sum(), optax.adam(1e-3), donate=False
    )
    begin = huge.init(network("LRU"))
    state, out = huge.step(begin, xs[0], ys[0])
    assert int(out.skipped) == 1  # the loss is finite, its gradient is not: the update alone
    assert same(leaves(state.model), leaves(begin.model))
    assert not same(leaves(state.carry), leaves(begin.carry))


@pytest.mark.core
@pytest.mark.parametrize(
    ("breaks", "update_every", "batch"), [("parameters", 1, None), ("state", 2, 2)]
)
def test_an_update_that_would_not_be_finite_is_left_out_whole(breaks, update_every, batch):
    """The gradient is finite: what the optimizer makes of it is not, at its third update."""

    def update(grads, state, params=None):
        count, moment = state
        bad = jnp.where(count == 2, jnp.inf, 0.0)
        moment = jax.tree.map(lambda m, g: m + g, moment, grads)
        if breaks == "state":
            moment = eqx.tree_at(lambda m: m.decoder.bias, moment, moment.decoder.bias + bad)
            bad = 0.0
        updates = jax.tree.map(lambda g: -1e-3 * g, grads)
        weight = updates.layers[0].cell.B_re
        updates = eqx.tree_at(lambda u: u.layers[0].cell.B_re, updates, weight.at[3, 2].add(-bad))
        return updates, (count + 1, moment)

    def init(params):
        return jnp.int32(0), jax.tree.map(jnp.zeros_like, params)

    optimizer = optax.GradientTransformation(init, update)  # type: ignore[arg-type]
    xs, ys, _, _ = data(4 * update_every, batch, 16)
    one = learner(optimizer=optimizer, update_every=update_every)
    state = one.init(network("LRU", depth=1), batch)
    before, _ = one.scan(state, xs[: 2 * update_every], ys[: 2 * update_every])
    after, out = one.scan(state, xs, ys)
    assert out.skipped.tolist() == [0] * (3 * update_every - 1) + [1] + [0] * (update_every - 1) + [
        1
    ]  # and again: nothing was stored, not even the count
    assert np.isfinite(out.grad_norm).all()
    assert same(leaves(after.model), leaves(before.model))
    assert same(leaves(after.opt_state), leaves(before.opt_state))
    assert int(after.opt_state[0]) == 2
    strict = learner(optimizer=optimizer, update_every=update_every, on_nonfinite="raise")
    with pytest.raises(rtrl.NonFiniteError, match=f"timestep {3 * update_every - 1}"):
        strict.scan(strict.init(network("LRU", depth=1), batch), xs, ys)


def test_half_precision_and_a_huge_rate_leave_the_parameters_finite():
    model = jax.tree.map(
        lambda a: a.astype(jnp.float16) if eqx.is_inexact_array(a) else a,
        network("LeakyIntegrator"),
    )
    xs, ys, _, _ = data(T, None, 17)
    for optimizer, begin in ((optax.adam(1e-3), model), (optax.sgd(1e38), network("LRU"))):
        one = learner(optimizer=optimizer)
        state, out = one.scan(one.init(begin), xs, ys)
        assert out.skipped.sum() > 0
        assert all(np.isfinite(a).all() for a in leaves((state.model, state.opt_state)))


@pytest.mark.core
def test_a_target_of_weight_zero_does_not_count_in_a_sequence_gradient():
    xs, ys, weights, _ = data(T, 2, 18)
    weights = weights.at[3, 1].set(0)
    call: dict[str, Any] = dict(rule=rtrl.RTRL(), chunk=4)
    clean = rtrl.sequence_gradient(
        network("LRU"), squared_error, xs, ys, weights=weights, **call
    )  # fmt: skip
    ys = ys.at[3, 1].set(jnp.nan)
    bad = rtrl.sequence_gradient(network("LRU"), squared_error, xs, ys, weights=weights, **call)
    assert same(leaves(bad), leaves(clean))
    value, grads = rtrl.sequence_gradient(network("LRU"), squared_error, xs, ys, **call)
    assert np.isnan(value) and np.isnan(leaves(grads)[0]).all()


def test_raise_gives_back_the_untouched_state():
    xs, ys, _, _ = (np.array(a) for a in data(T, None, 13))
    xs[4] = np.nan
    one = learner(on_nonfinite="raise", donate=True)
    state = one.init(network("LRU"))
    before = leaves(state)
    with pytest.raises(rtrl.NonFiniteError, match="timestep 4") as caught:
        one.scan(state, xs, ys)
    assert same(leaves(caught.value.state), before)
    state, _ = one.scan(caught.value.state, xs[:4], ys[:4])
    assert int(state.step) == 4


# Mistakes -----------------------------------------------------------------------------------


X, Y = np.zeros((T, IN), np.float32), np.zeros((T, OUT), np.float32)
XB, YB = np.zeros((T, 2, IN), np.float32), np.zeros((T, 2, OUT), np.float32)
MISTAKES = {
    "feature size": (None, lambda k, s: k.scan(s, X[:, :2], Y), r"xs: expected \(time, 3\), got"),
    "time axis": (None, lambda k, s: k.scan(s, X[0], Y[0]), r"xs: .*time axis missing"),
    "batch missing": (2, lambda k, s: k.scan(s, X, Y), r"xs: expected \(time, 2, 3\)"),
    "batch changed": (2, lambda k, s: k.scan(s, XB[:, :1], YB[:, :1]), "xs: .*batch size"),
    "step batch": (2, lambda k, s: k.step(s, X[0], Y[0]), r"x: expected \(2, 3\), got \(3,\)"),
    "empty": (None, lambda k, s: k.scan(s, X[:0], Y[:0]), "xs: expected at least one timestep"),
    "target length": (None, lambda k, s: k.scan(s, X, Y[:3]), r"ys: expected leading axes \(12,"),
    "target shape": (None, lambda k, s: k.scan(s, X, np.zeros((T, 7))), r"ys: the loss can't take"),
    "text": (None, lambda k, s: k.step(s, ["a", "b", "c"], Y[0]), "x: expected numbers"),
    "integers": (None, lambda k, s: k.scan(s, X.astype(int), Y), "xs: expected floating-point"),
    "weights": (None, lambda k, s: k.scan(s, X, Y, weights=np.ones(3)), r"weights: expected .*12"),
    "resets": (None, lambda k, s: k.scan(s, X, Y, resets=np.ones(T)), "resets: expected booleans"),
    "chunk": (None, lambda k, s: k.scan(s, X, Y, chunk=0), "chunk: expected an integer"),
    "mask": (None, lambda k, s: k.reset(s, [True]), "mask: expected None"),
}  # fmt: skip


@pytest.mark.core
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_and_nothing_is_lost(mistake):
    batch, call, message = MISTAKES[mistake]
    one = learner(donate=True)
    state = one.init(network("LeakyIntegrator"), batch)
    before = leaves(state)
    with pytest.raises(ValueError, match=message):
        call(one, state)
    assert same(leaves(state), before)


@pytest.mark.core
def test_unknown_options_are_refused():
    for options, message in [
        ({"rule": "rtrl"}, "rule: expected a rule such as"),
        ({"rule": rtrl.RTRL}, "rule: expected a rule such as"),
        ({"update_every": 0}, "update_every: expected an integer"),
        ({"on_nonfinite": "stop"}, "on_nonfinite: expected 'skip', 'raise' or 'ignore'"),
        ({"on_nonfinite": "ignore", "guard": rtrl.Guard()}, "guard: expected None where on_non"),
        ({"optimizer": 1e-3}, "optimizer: expected an optax"),
    ]:
        with pytest.raises(ValueError, match=message):
            learner(**options)
    with pytest.raises(ValueError, match="errors: expected 'chunk' or 'timestep'"):
        rtrl.RTRL("both")  # type: ignore
    with pytest.raises(ValueError, match="rule: expected one that learns from single timesteps"):
        one = learner(rule=rtrl.BPTT())
        one.step(one.init(network("LRU")), X[0], Y[0])
    with pytest.raises(ValueError, match="loss: expected a real scalar"):
        one = rtrl.OnlineLearner(lambda p, y: p - y, optax.sgd(1.0))
        one.step(one.init(network("LRU")), X[0], Y[0])
    with pytest.raises(ValueError, match="on_nonfinite: 'raise' can't work inside jit"):
        one = learner(on_nonfinite="raise")
        eqx.filter_jit(one.step)(one.init(network("LRU")), X[0], Y[0])
