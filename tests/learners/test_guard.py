"""A guard bounds how far one sample may move a learner, and touches nothing within its bounds."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import EVERY_CELL, IN, OUT, data, network
from learning import finite, identical, learner, leaves, one_layer, sine

import rtrl


def kept(state) -> Any:
    return state.guard


def followed(memory, scale, peak, over, before, bound):
    """A scale after one timestep, by the equations."""
    if over:  # moves it only if the timestep before was so, too
        peak = bound * max(1.0, scale) if before else 0.0
    return max(np.exp(-1 / memory) * scale, min(peak, 2 * max(1.0, scale)))


def follow(bound, memory, values):
    """Clipped values and scales by the equations, in a plain loop."""
    scale, before, clipped, scales = 0.0, False, [], []
    for v in values:
        limit = bound * max(1.0, scale)
        over = abs(v) > limit
        clipped.append(min(max(v, -limit), limit))
        scale = followed(memory, scale, abs(v), over, before, bound)
        before = over
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
    scale, before = 0.0, False
    for t, y in enumerate(ys):
        limit = 4.0 * max(1.0, scale)
        over = np.abs(y) > limit
        touched[t] |= over.any()
        loss = ((out.prediction[t] - np.clip(y, -limit, limit)) ** 2).sum()
        assert np.isclose(out.loss[t], loss, rtol=1e-9)
        within = np.abs(y)[~over].max(initial=0)
        scale = max(followed(20, scale, within, False, before, 4.0),
                    followed(20, scale, within, over.any(), before, 4.0))  # fmt: skip
        before = over.any()
    assert np.isclose(float(kept(state).targets), scale, rtol=1e-12)
    gradients = np.asarray(out.bounded) - touched
    assert 10 < touched.sum() < 200 and set(gradients) == {0, 1}


def test_gradients_are_bounded_by_the_equations(float64):
    """With sgd the parameters move by it: strictly bounded after an alarm, else loosely."""
    one = learner(optax.sgd(1e-3), guard=rtrl.Guard(bound=2.0, memory=20))
    rng = np.random.default_rng(0)
    xs, ys = rng.normal(size=(70, IN)), 0.03 * rng.normal(size=(70, OUT))
    xs = np.clip(xs, -1.9, 1.9)
    ys[[30, 31, 32]] = 30.0  # beyond the bounds
    ys[[33, 60]] = 1.9  # within them: one after an alarm, one a while later
    ys[5] = np.nan  # counts for nothing
    model = network("LRU", depth=1)  # predictions near zero: errors are as large as targets
    model = eqx.tree_at(lambda m: m.decoder, model, replace_fn=lambda d: jax.tree.map(
        lambda a: 0.01 * a if eqx.is_inexact_array(a) else a, d))  # fmt: skip
    state, seen, quiet = one.init(model), 0, 20
    slow, fast, data_scale, strictly, loosely, before_over = 0.0, 0.0, 0.0, 0, 0, False
    for t in range(70):
        before = leaves(state.model)
        state, out = one.step(state, xs[t], ys[t])
        moved = sum(((a - b) ** 2).sum() for a, b in zip(leaves(state.model), before, strict=True))
        norm = float(out.grad_norm)
        sizes = np.nan_to_num(np.abs(ys[t]))
        alarm = sizes.max() > 2.0 * max(1.0, data_scale)
        data_scale = followed(20, data_scale, sizes.max(), alarm, before_over, 2.0)
        before_over = alarm
        quiet = 0 if alarm else min(quiet + 1, 20)
        limit = 2.0 * fast if quiet < 2 else 4.0 * slow
        over = seen >= 20 and norm > limit
        strictly += over and quiet < 2
        loosely += over and quiet >= 2
        assert np.isclose(np.sqrt(moved), 1e-3 * (limit if over else norm), rtol=1e-9)
        assert int(out.bounded) == int(alarm) + int(over)
        if t != 5:
            slow, fast = (
                max(np.exp(-n / 20) * r, norm if seen < 20 else min(norm, (2 - (quiet < 2)) * r))
                for n, r in ((1, slow), (10, fast))
            )
            seen += 1
        assert np.allclose(kept(state).gradient, [slow, fast], rtol=1e-9)
    assert strictly >= 2 and loosely >= 1, (strictly, loosely)


@pytest.mark.parametrize("chunk", [1, 5])
def test_what_lasts_is_let_in_and_what_does_not_is_not(chunk):
    """In chunks a level that has shifted doubles its scale as often as it has timesteps."""
    one = learner(optax.sgd(0.0), guard=rtrl.Guard())
    xs, ys = (np.zeros((100, n), np.float32) for n in (IN, OUT))
    single = xs.copy()
    single[::5, 0] = 1e6  # a fifth of all values
    state = one.init(network("LRU", depth=1))
    after, out = one.scan(state, single, ys, chunk=chunk)
    assert kept(after).inputs[0] == 0 and int(out.bounded.sum()) == 20
    lasting = xs.copy()
    lasting[50:, 0], lasting_y = 1e6, ys.copy()
    lasting_y[50:] = 1e6
    after, out = one.scan(state, lasting, lasting_y, chunk=chunk)
    assert 15 <= int(out.bounded.sum()) < 30
    assert np.isclose(kept(after).inputs[0], 1e6) and np.isclose(kept(after).targets, 1e6)


def test_what_is_rare_but_real_is_learned():
    """A gradient a hundred times the usual, once in a hundred timesteps, is never bounded."""
    one = learner(guard=rtrl.Guard(memory=100))
    xs = np.zeros((600, IN), np.float32)
    xs[::100] = 1.0
    _, out = one.scan(one.init(network("LRU", depth=1)), xs, xs[:, :OUT], chunk=1)
    norms = np.asarray(out.grad_norm)
    assert not out.bounded.any()
    assert norms[300:][::100].min() > 10 * np.median(norms[300:])


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


SINE = sine(2300)[0]


def recovery(cell, size, **options):
    """Mean loss before one wild sample, and over timesteps 500 to 800 after it."""
    model = one_layer(2, cell)
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
