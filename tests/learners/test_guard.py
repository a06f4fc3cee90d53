"""A learner that never dies: what has overflowed begins anew, and a guard keeps it from that."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import ALL_CELLS, DENSE_RULES, EVERY_CELL, IN, OUT, data, network, squared_error

import rtrl


def leaves(tree):
    return [np.asarray(a) for a in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


def finite(tree):
    return all(np.isfinite(a).all() for a in leaves(tree))


def identical(a, b):
    return all(np.array_equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


def learner(optimizer=None, **options):
    options = {"donate": False, **options}
    return rtrl.OnlineLearner(squared_error, optimizer or optax.adam(1e-2), **options)


# What has overflowed begins anew ---------------------------------------------------------------


def wild(length, batch, sample):
    """Data with one input of the largest number, in one sample of the batch."""
    xs, ys, _, _ = data(length, batch, 0)
    at = (3,) if batch is None else (3, sample)
    return xs.at[at].set(jnp.finfo(xs.dtype).max), ys


@pytest.mark.parametrize("cell", EVERY_CELL)
@pytest.mark.parametrize("chunk", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_nothing_carried_is_ever_not_finite(cell, chunk):
    """Two layers without a norm; a rate at which sgd would leave nothing finite by itself."""
    one = learner(optax.sgd(1.0))
    model = network(cell, norm=None)
    xs, ys = wild(8, 2, 0)
    state, out = one.scan(one.init(model, 2), xs, ys, chunk=chunk)
    assert finite(state)
    assert out.restarted.shape == (8,)
    state, out = one.scan(state, *wild(8, 2, 1), chunk=chunk)
    assert finite(state)


@pytest.mark.parametrize("rule", DENSE_RULES.values(), ids=DENSE_RULES.keys())
def test_nor_what_rules_for_dense_cells_carry(rule):
    one = learner(optax.sgd(1.0), rule=rule)
    cell = "VanillaRNN" if isinstance(rule, rtrl.KFRTRL) else "LinearRNN"
    xs, ys = wild(6, None, 0)
    chunk = 3 if isinstance(rule, rtrl.TBPTT) else 1
    state, _ = one.scan(one.init(network(cell, depth=1, norm=None)), xs, ys, chunk=chunk)
    assert finite(state)


def spoiled(state, sample, value):
    """The trace of the second layer of one sample holds one wild number."""

    def spoil(trace):
        number = jax.tree.leaves(trace)[0]
        index = (sample,) + (0,) * (number.ndim - 1) if sample is not None else (0,) * number.ndim
        return jax.tree.map(lambda a: a.at[index].set(value) if a is number else a, trace)

    return eqx.tree_at(lambda s: s.carry[1].trace, state, spoil(state.carry[1].trace))


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -1e25])
def test_only_the_sample_and_the_cell_that_overflowed_lose_their_memory(value):
    one = learner()
    state, _ = one.scan(one.init(network("LRU"), 3), *data(6, 3, 0)[:2], chunk=6)
    xs = data(1, 3, 1)[0][0]
    healthy, out = one.step(state, xs)  # no target: the parameters stay
    assert out.restarted == 0
    after, out = one.step(spoiled(state, 1, value), xs)
    assert out.restarted == 1 and out.skipped == 0
    assert identical(after.carry[0], healthy.carry[0])
    for got, want in zip(leaves(after.carry[1]), leaves(healthy.carry[1]), strict=True):
        assert np.array_equal(got[[0, 2]], want[[0, 2]])
    fresh = one.init(network("LRU"), 3).carry[1]
    for got, want in zip(leaves(after.carry[1]), leaves(fresh), strict=True):
        assert np.array_equal(got[1], want[1])


def test_large_numbers_whose_squares_are_finite_stay():
    one = learner()
    state = spoiled(one.init(network("LRU")), None, 1e18)
    after, out = one.step(state, jnp.ones(IN))
    assert out.restarted == 0
    assert np.abs(leaves(after.carry[1].trace)[0]).max() > 1e17


def test_without_a_batch_and_in_looking_ahead():
    one = learner()
    state = spoiled(one.init(network("LRU")), None, jnp.nan)
    after, out = one.step(state, jnp.ones(IN))
    assert out.restarted == 1 and finite(after)
    hidden = jax.tree.map(lambda a: a * jnp.inf, state.carry)
    _, carry = one.predict(state, jnp.ones(IN), hidden)
    assert finite(carry)


def kept(state) -> Any:
    return state.guard


# A guard ---------------------------------------------------------------------------------------


def follow(bound, memory, values):
    """Clipped values and scales by the equations, in a plain loop."""
    scale, clipped, scales = 0.0, [], []
    for v in values:
        limit = bound * max(1.0, scale)
        c = min(max(v, -limit), limit)
        scale = max(np.exp(-1 / memory) * scale, min(abs(c), 2 * max(1.0, scale)))
        clipped.append(c)
        scales.append(scale)
    return np.array(clipped), np.array(scales)


def test_data_are_bounded_by_the_equations(float64):
    """Every feature by itself, the targets together; states are those of the bounded inputs."""
    one = learner(optax.sgd(0.0), guard=rtrl.Guard(bound=4.0, memory=20))
    rng = np.random.default_rng(0)
    xs = rng.standard_cauchy((300, IN)) * [1.0, 30.0, 0.1]
    ys = rng.standard_cauchy((300, OUT))
    model = network("LRU", depth=1)
    state, out = one.scan(one.init(model), xs, ys, chunk=1)
    clipped, scales = zip(*(follow(4.0, 20, x) for x in xs.T), strict=True)
    bounded = np.stack(clipped, 1)
    touched = (bounded != xs).any(1)
    assert np.allclose(kept(state).inputs, [s[-1] for s in scales], rtol=1e-12)
    plain, _ = learner().scan(learner().init(model), bounded, None, chunk=1)
    for got, want in zip(leaves(state.carry), leaves(plain.carry), strict=True):
        assert np.allclose(got, want, rtol=1e-9, atol=1e-12)
    scale = 0.0
    for t, y in enumerate(ys):
        limit = 4.0 * max(1.0, scale)
        touched[t] |= (np.abs(y) > limit).any()
        loss = ((out.prediction[t] - np.clip(y, -limit, limit)) ** 2).sum()
        assert np.isclose(out.loss[t], loss, rtol=1e-9)
        peak = np.abs(np.clip(y, -limit, limit)).max()
        scale = max(np.exp(-1 / 20) * scale, min(peak, 2 * max(1.0, scale)))
    assert np.isclose(float(kept(state).targets), scale, rtol=1e-12)
    gradients = np.asarray(out.bounded) - touched
    assert 10 < touched.sum() < 200 and set(gradients) == {0, 1}


def test_gradients_are_bounded_by_the_equations(float64):
    """With sgd the parameters move by the bounded gradient."""
    one = learner(optax.sgd(1e-3), guard=rtrl.Guard(bound=2.0, memory=50))
    rng = np.random.default_rng(0)
    xs, ys = rng.normal(size=(60, IN)), rng.normal(size=(60, OUT))
    ys[30:33] *= 10
    ys[5] = np.nan  # counts for nothing
    state, scale, seen, bounded = one.init(network("LRU", depth=1)), 0.0, 0, 0
    for t in range(60):
        before = leaves(state.model)
        state, out = one.step(state, xs[t], ys[t])
        moved = sum(((a - b) ** 2).sum() for a, b in zip(leaves(state.model), before, strict=True))
        norm, limit = float(out.grad_norm), 2.0 * scale
        over = seen >= 20 and norm > limit
        assert np.isclose(np.sqrt(moved), 1e-3 * (limit if over else norm), rtol=1e-9)
        bounded += over
        if t != 5:
            scale = max(np.exp(-10 / 50) * scale, norm if seen < 20 else min(norm, 2 * scale))
            seen += 1
        assert np.isclose(float(kept(state).gradient), scale, rtol=1e-9)
    assert 1 <= bounded < 20


@pytest.mark.parametrize(("cell", "chunk", "batch"), [("LRU", 1, None), ("MinGRU", 4, 2)])
def test_a_guard_that_does_not_fire_changes_no_bit(cell, chunk, batch):
    xs, ys, weights, resets = data(40, batch, 0)
    results = []
    for guard in (None, rtrl.Guard()):
        one = learner(guard=guard)
        state, out = one.scan(
            one.init(network(cell), batch), xs, ys, chunk=chunk, weights=weights, resets=resets
        )
        results.append((state.model, state.carry, state.opt_state, out.loss, out.prediction))
        assert not out.bounded.any() and not out.reverted.any()
    assert identical(*results)


SINE = np.sin(0.3 * np.arange(2301))[:, None].astype(np.float32)


def recovery(cell, size, **options):
    """Mean loss before one wild sample, and over timesteps 500 to 800 after it."""
    model = rtrl.SequenceModel(1, 1, 8, 2, ALL_CELLS[cell], key=jax.random.key(1), norm=None)
    xs = SINE.copy()
    xs[1500] = size
    one = learner(**options)
    state, out = one.scan(one.init(model), xs[:-1], xs[1:], chunk=1)
    assert finite(state)
    loss = np.asarray(out.loss)
    return np.nanmean(loss[1200:1499]), np.nanmean(loss[2000:2300])


@pytest.mark.parametrize("cell", EVERY_CELL)
def test_learning_goes_on_after_a_wild_sample(cell):
    before, after = recovery(cell, 3e38, guard=rtrl.Guard())
    assert after <= 10 * before + 1e-3


def test_without_a_guard_it_does_not():
    before, after = recovery("LRU", 1e6)
    assert not after <= 10 * before + 1e-3


def test_integers_and_missing_values_are_left_alone():
    one = rtrl.OnlineLearner(
        lambda p, y: optax.softmax_cross_entropy_with_integer_labels(p, y), optax.sgd(0.1),
        guard=rtrl.Guard(), donate=False,
    )  # fmt: skip
    state = one.init(network("LRU", depth=1))
    state, out = one.step(state, jnp.full(IN, 5.0), np.int32(1))
    assert out.bounded == 0 and kept(state).targets == 0 and (kept(state).inputs == 2.0).all()
    one = learner(guard=rtrl.Guard())
    state = one.init(network("LRU", depth=1))
    state, out = one.step(state, jnp.full(IN, jnp.nan), jnp.ones(OUT))
    assert out.skipped == 1 and (kept(state).inputs == 0).all()
    state, out = one.step(state, jnp.ones(IN), jnp.full(OUT, jnp.nan))
    assert out.skipped == 1 and out.bounded == 0 and kept(state).targets == 0


def test_predictions_see_bounded_inputs_as_learning_does():
    one = learner(guard=rtrl.Guard())
    state, _ = one.scan(one.init(network("LRU")), *data(10, None, 0)[:2])
    x = jnp.array([1e6, 0.0, -3e38])
    ahead, _ = one.predict(state, x)
    _, out = one.step(state, x)
    assert np.allclose(ahead, out.prediction, rtol=1e-5)
    ((_, out),) = one.stream(state, [(x, jnp.zeros(OUT))], chunk=2)
    assert np.allclose(ahead, out.prediction, rtol=1e-5)


def test_a_guard_travels_with_the_state(tmp_path):
    one = learner(guard=rtrl.Guard(divergence=100.0))
    state, _ = one.scan(one.init(network("LRU", depth=1)), *data(30, None, 0)[:2])
    rtrl.save(tmp_path / "s", state)
    again = rtrl.load(tmp_path / "s", one.init(network("LRU", depth=1)))
    assert identical(state, again)


# Divergence ------------------------------------------------------------------------------------


def sine(length):
    xs = np.sin(0.3 * np.arange(length + 1))[:, None].astype(np.float32)
    return xs[:-1], xs[1:]


def single(guard, rate):
    model = rtrl.SequenceModel(1, 1, 8, 1, ALL_CELLS["LRU"], key=jax.random.key(1), norm=None)
    one = learner(optax.adam(rate), guard=guard)
    return one, one.init(model)


def test_garbage_for_a_while_is_survived():
    """A target that turns into noise a thousand times as large, and back."""
    xs, ys = sine(5000)
    ys = ys.copy()
    rng = np.random.default_rng(0)
    ys[2500:3500] = 1000 * rng.normal(size=(1000, 1))
    losses = {}
    for name, guard in (("none", None), ("guard", rtrl.Guard(divergence=100.0, patience=30))):
        one, state = single(guard, 1e-2)
        state, out = one.scan(state, xs, ys, chunk=1)
        losses[name] = np.asarray(out.loss)
        assert finite(state)
        if guard is not None:
            back = np.flatnonzero(out.reverted)
            assert 1 <= len(back) and ((back > 2500) & (back < 3800)).all()
    before = losses["guard"][2000:2500].mean()
    assert losses["guard"][4000:4300].mean() < 10 * before
    assert losses["none"][4000:4300].mean() > 10 * before


def test_parameters_that_have_run_away_are_taken_back():
    one, state = single(rtrl.Guard(divergence=100.0, patience=50), 1e-2)
    xs, ys = sine(3000)
    state, out = one.scan(state, xs[:2000], ys[:2000], chunk=1)
    assert not out.reverted.any()
    ruined = eqx.tree_at(lambda s: s.model.decoder.weight, state, state.model.decoder.weight + 1e4)
    after, out = one.scan(ruined, xs[2000:], ys[2000:], chunk=1)
    assert int(out.reverted.sum()) == 1
    t = int(np.argmax(out.reverted))
    assert 5 < t < 100
    assert np.asarray(out.loss)[t + 1 : t + 20].mean() < 0.1
    assert np.asarray(out.loss)[t - 5 : t].mean() > 1e3


def test_a_rate_far_too_high_is_lowered():
    """Without a guard the first timesteps leave nothing to learn with."""
    xs, ys = sine(2000)
    model = rtrl.SequenceModel(1, 1, 8, 1, ALL_CELLS["LRU"], key=jax.random.key(1), norm=None)
    medians, finite_losses = {}, {}
    for name, guard in (("none", None), ("guard", rtrl.Guard(divergence=100.0))):
        one = learner(optax.sgd(1.0), guard=guard)
        _, out = one.scan(one.init(model), xs, ys, chunk=1)
        late = np.asarray(out.loss)[-1000:]
        finite_losses[name] = np.isfinite(late).mean()
        medians[name] = np.median(np.nan_to_num(late, nan=np.inf))
    assert medians["guard"] < 0.02 and finite_losses["guard"] > 0.95
    assert not medians["none"] < 1


def test_predictions_that_are_not_finite_are_no_end():
    """Losses that are not finite teach nothing: without a way back that is the end."""
    one, state = single(rtrl.Guard(divergence=100.0), 1e-2)
    xs, ys = sine(1500)
    state, _ = one.scan(state, xs[:1000], ys[:1000], chunk=1)
    ruined = eqx.tree_at(
        lambda s: s.model.decoder.weight, state, jnp.full_like(state.model.decoder.weight, 1e38)
    )
    after, out = one.scan(ruined, xs[1000:], ys[1000:], chunk=1)
    assert int(out.reverted.sum()) == 1
    assert np.isfinite(np.asarray(out.loss)[-100:]).all()


def test_missing_targets_are_no_divergence():
    one, state = single(rtrl.Guard(divergence=2.0, patience=5), 1e-3)
    xs, ys = sine(400)
    ys = np.where(np.arange(400)[:, None] > 200, np.nan, ys)
    _, out = one.scan(state, xs, ys, chunk=1)
    assert not out.reverted[201:].any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bound": 1.0}, "bound"),
        ({"memory": 0}, "memory"),
        ({"divergence": 0.5}, "divergence"),
        ({"patience": 0}, "patience"),
    ],
)
def test_arguments_out_of_range(options, words):
    with pytest.raises(ValueError, match=words):
        rtrl.Guard(**options)


def test_a_guard_must_be_one():
    with pytest.raises(ValueError, match="guard"):
        learner(guard=10.0)
