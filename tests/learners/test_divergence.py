"""A loss that has left its level brings the last good parameters back."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from learning import finite, learner, one_layer, sine

import rtrl
from rtrl.learners._divergence import GROWTH, SMALLEST, Divergence, watch


def single(guard, rate):
    one = learner(optax.adam(rate), guard=guard)
    return one, one.init(one_layer())


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
    model = one_layer()
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


def losses_of(state, guard, *runs):
    """The state and whether it went back, after runs of ``(loss, timesteps)``."""
    went = []
    for loss, timesteps in runs:
        for _ in range(timesteps):
            params = {"a": jnp.float32(len(went))}
            state, back = watch(guard, state, params, jnp.full(1, loss), jnp.ones(1, bool))
            went.append(bool(back))
    return state, np.array(went)


def test_the_rate_is_halved_and_grows_again_within_its_limits():
    """The parameters, here the number of the timestep, go back two stages at most."""
    guard = rtrl.Guard(divergence=10.0, patience=5, memory=50)
    first = Divergence.begin({"a": jnp.float32(-1)}, jnp.float32)
    state, went = losses_of(first, guard, (1.0, 30))
    assert not went.any() and float(state.rate) == 1  # never more than one
    assert 18 <= float(state.good["a"]) < 25
    state, went = losses_of(state, guard, (1e3, 2))
    assert went.tolist() == [False, True] and float(state.rate) == 0.5
    again, went = losses_of(state, guard, (1e3, 20))
    assert went.any() and float(again.rate) == 0.5  # bad from the first timestep: it is the data
    state, went = losses_of(state, guard, (1.0, 5))
    assert not went.any() and np.isclose(float(state.rate), 0.5 * GROWTH)
    state, _ = losses_of(state, guard, (1.0, 5 * 8))
    assert float(state.rate) == 1
    small = eqx.tree_at(lambda s: s.rate, state, jnp.float32(SMALLEST))
    small, went = losses_of(small, guard, (1e3, 2))
    assert went.sum() == 1 and float(small.rate) == SMALLEST
