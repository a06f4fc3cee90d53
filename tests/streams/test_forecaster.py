"""A forecaster against plain numpy, and against itself: cut, stopped, shifted, scaled."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rtrl
from rtrl.streams import Forecaster, experts
from rtrl.streams._mixture import SETTINGS, WILD, Weights
from rtrl.streams._pair import join, minus, plus, split
from rtrl.streams._scale import Scale

f32 = functools.partial(np.array, dtype=np.float32)
PLAIN = (experts.Plain(), experts.Lags(), experts.Seasonal())


@functools.cache  # one forecaster, one program
def forecaster(columns=1, targets=1, delay=1, own=(0,), **options):
    return Forecaster(columns, targets, delay=delay, own=own, **{"experts": PLAIN, **options})


def sine(rows, seed=0, columns=1):
    rng = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * np.arange(rows) / 24)[:, None] + 0.1 * rng.normal(
        size=(rows, columns)
    )
    return wave


def nrmse(prediction, y, ahead=1):
    error = prediction[:-ahead, 0] - y[ahead:, 0]
    return np.sqrt(np.mean(error**2)) / y.std()


def bits(tree):
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array_like))
    typed = (
        jnp.issubdtype(np.result_type(a) if np.isscalar(a) else a.dtype, jax.dtypes.prng_key)
        for a in leaves
    )
    return [
        np.asarray(jax.random.key_data(a) if k else a) for a, k in zip(leaves, typed, strict=True)
    ]


def same(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(bits(a), bits(b), strict=True))


def run(one, xs, ys=None, cuts=(), **options):
    """One pass in blocks that end at ``cuts``."""
    ys = xs[:, : one.out_size] if ys is None else ys
    state, parts = one.init(), []
    for now in np.split(np.arange(len(xs)), cuts):
        columns = {k: v[now] for k, v in options.items()}
        state, out = one.scan(state, xs[now], ys[now], **columns)
        parts.append(out)
    return state, jax.tree.map(lambda *p: np.concatenate(p), *parts)


# The parts against plain numpy ---------------------------------------------------------------


def test_pairs_hold_what_float32_loses():
    values = np.array([1e9 + 0.125, -3.7e-14, np.pi, 1e19, np.nan])
    pairs = split(values)
    assert np.allclose(join(pairs)[:3], values[:3], rtol=2**-47, atol=0)
    assert np.isnan(pairs[3:]).all()  # too large, or missing
    moved = plus(jnp.asarray(pairs[:3]), jnp.asarray([0.25, 1e-15, 1e-9], jnp.float32))
    moved = np.asarray(join(np.asarray(moved))) - values[:3]
    # float32 alone would lose each of these moves whole.
    assert np.allclose(moved, [0.25, 1e-15, 1e-9], rtol=1e-4)
    assert float(minus(jnp.asarray(split(values[0] + 1)), jnp.asarray(pairs[0]))) == 1


def test_least_squares_is_the_closed_form_in_float64():
    rng = np.random.default_rng(0)
    n, d, forgetting, prior = 200, 5, 0.97, 0.5
    x, y = rng.normal(size=(n, d)), rng.normal(size=n)
    weight = rng.integers(0, 2, n) * rng.uniform(0.5, 2, n)
    uses = np.array([[True] * d, [True] * 3 + [False] * 2])
    both = f32([forgetting] * 2), f32([prior] * 2)
    rls = experts.RLS.empty(both[1], uses)
    learn = jax.jit(lambda rls, x, y, a: rls.learn(x, y, a, *both))
    for now in zip(x, y, weight, strict=True):
        rls = learn(rls, *(jnp.float32(part) for part in now))
    age = np.cumsum((weight > 0)[::-1])[::-1] - (weight > 0)  # only rows that count make it older
    total = (weight > 0).sum()
    for member, use in enumerate(uses):
        a = weight * forgetting**age
        gram = (x[:, use] * a[:, None]).T @ x[:, use] + forgetting**total * prior * np.eye(
            use.sum()
        )
        exact = np.linalg.solve(gram, (x[:, use] * a[:, None]).T @ y)
        found = np.asarray(rls.weights[member])
        # 200 updates in float32, of a problem of condition about 10.
        assert np.allclose(found[use], exact, atol=2e-5), member
        assert not found[~use].any()


def test_least_squares_stays_bounded_where_nothing_excites_it():
    rls = experts.RLS.empty(f32([1.0]), np.ones((1, 3), bool))
    learn = jax.jit(lambda rls, x: rls.learn(x, 1.0, 1.0, f32([0.9]), f32([1.0])))
    for _ in range(1000):  # 0.9**-1000 is 1e46
        rls = learn(rls, f32([1, 0, 0]))
    diagonal = np.diag(np.asarray(rls.covariance[0]))
    assert diagonal.max() <= 1001 and np.isfinite(diagonal).all()
    # What is excited goes on forgetting: its P is 1 - f in the limit, one over a sum of powers.
    assert np.isclose(diagonal[0], 0.1, rtol=1e-3)


def test_weights_are_those_of_a_plain_loop():
    rng = np.random.default_rng(1)
    prior = np.array([0.5, 0.3, 0.2])
    p, y = rng.normal(size=(60, 3)), rng.normal(size=60)
    p[:, 1] = y + 0.3 * rng.normal(size=60)  # the one that is right
    weight = np.where(np.arange(60) % 7 == 3, 0.0, 1.0)
    found = Weights.empty(prior, len(SETTINGS))
    learn = jax.jit(lambda w, *now: w.learn(*now, SETTINGS))
    for now in zip(p, y, weight, strict=True):
        found = learn(found, *(jnp.float32(part) for part in now))
    for number, (temper, share, memory) in enumerate(SETTINGS):
        w, s2, count = prior.copy(), None, 0
        for t in np.flatnonzero(weight):
            e2 = (p[t] - y[t]) ** 2
            if s2 is not None:
                e2 = np.minimum(e2, WILD * s2)
                w = w * (s2**-0.5 * np.exp(-0.5 * e2 / s2)) ** temper
                w = (1 - share) * w / w.sum() + share * prior
            count += 1
            s2 = e2 if s2 is None else s2 + max(1 / count, 1 / memory) * (e2 - s2)
        assert np.allclose(found.weights[number], w, rtol=1e-3, atol=1e-6)
        assert w.argmax() == 1


def test_scales_are_moments_and_forget():
    rng = np.random.default_rng(2)
    values = 1e9 + rng.normal(size=3000)
    update = jax.jit(lambda scale, v: scale.update(v, 500.0))
    scale, mean, variance = Scale.empty(), 0.0, 0.0
    for count, (value, pair) in enumerate(zip(values, split(values), strict=True), 1):
        scale = update(scale, jnp.asarray(pair))
        rate = max(1 / count, 1 / 500)
        step = value - mean if count > 1 else 0.0
        mean, variance = (value, 0.0) if count == 1 else (
            mean + rate * step, (1 - rate) * (variance + rate * step**2)
        )  # fmt: skip
    assert abs(join(np.asarray(scale.mean)) - mean) < 1e-5  # float32 steps 64 at 1e9
    assert np.isclose(scale.variance, variance, rtol=1e-4)
    wild = update(scale, jnp.asarray(split(np.array(2e9))))
    assert same(wild.mean, scale.mean)  # one is no news
    for _ in range(8):
        wild = update(wild, jnp.asarray(split(np.array(2e9))))
    assert join(np.asarray(wild.mean)) == 2e9  # eight are


# The whole -----------------------------------------------------------------------------------


CASES = {
    "one": {},
    "ahead": {"delay": 5},
    "now": {"delay": 0, "own": None},
    "two targets": {"columns": 3, "targets": 2, "own": (0, 2)},
    "network": {"columns": 2, "experts": None},
}


@pytest.mark.parametrize("case", CASES)
def test_how_rows_are_cut_changes_no_bit(case, tmp_path):
    one = forecaster(**CASES[case])
    rows = 300 if case != "network" else 120
    xs = sine(rows, columns=one.in_size)
    xs[40:44, 0] = np.nan
    ys = xs[:, : one.out_size].copy()
    options = {"weights": np.arange(rows) % 3 + 0.5, "resets": np.arange(rows) == 70}
    state, whole = run(one, xs, ys, **options)
    after, parts = run(one, xs, ys, (1, 2, 3, 50, 51, 90, rows - 1), **options)
    assert same(whole, parts) and same(state, after)
    assert np.isfinite(whole.prediction).all()
    # Stopped, saved, loaded in the middle.
    half = {k: v[: rows // 2] for k, v in options.items()}
    middle, _ = run(one, xs[: rows // 2], ys[: rows // 2], **half)
    rtrl.save(tmp_path / "state", middle)
    loaded = rtrl.load(tmp_path / "state", like=one.init())
    rest = {k: v[rows // 2 :] for k, v in options.items()}
    state, out = one.scan(loaded, xs[rows // 2 :], ys[rows // 2 :], **rest)
    assert same(out.prediction, whole.prediction[rows // 2 :]) and same(state, after)


@pytest.mark.parametrize("delay", [0, 1, 4])
def test_no_forecast_knows_what_has_not_come(delay):
    one = forecaster(delay=delay, own=None)
    xs, ys = sine(80), sine(80, 1)
    _, before = run(one, xs, ys)
    changed = ys.copy()
    changed[60:] += 3  # with a delay, y[60] is there when the forecast of row 60 is made
    _, after = run(one, xs, changed)
    first = 61 if delay == 0 else 60
    assert same(before.prediction[:first], after.prediction[:first])
    assert not np.array_equal(before.prediction[first], after.prediction[first])


@pytest.mark.parametrize("offset, scale", [(1e9, 1.0), (0.0, 1e-14), (-3e7, 1e-2), (0.0, 1e15)])
def test_units_do_not_matter(offset, scale):
    one, y = forecaster(), sine(400)
    _, plain = run(one, y)
    moved = offset + scale * y
    _, out = run(one, moved)
    # What float64 itself keeps of the numbers that go in, and float32's rounding of their changes.
    rounding = np.spacing(np.abs(moved).max()) / scale
    assert np.allclose((out.prediction - offset) / scale, plain.prediction,
                       atol=2e-3 + 1e3 * rounding)  # fmt: skip


def test_the_first_forecast_is_the_last_value_and_learning_beats_it():
    y = 100 + sine(1000)
    _, out = run(forecaster(), y)
    assert out.prediction[0, 0] == y[0, 0]
    early = np.abs(out.prediction[:10] - y[1:11]).max()
    assert early < 2  # and not 100
    assert nrmse(out.prediction[500:], y[500:]) < 0.6 * nrmse(y[500:], y[500:])
    assert np.allclose(out.weights.sum(-1), 1, atol=1e-5)
    # Nobody goes further from the last value than half as far again as it went so far.
    moves = np.maximum.accumulate(np.abs(np.diff(y[:, 0], prepend=y[0, 0])))
    assert (np.abs(out.experts[:, 0] - y) <= 1.5001 * moves[:, None] + 1e-4).all()
    season = forecaster().names.index("mean season")
    left = out.experts[500:-1, 0, season] - y[501:, 0]
    assert np.sqrt(np.mean(left**2)) < 0.13  # 24 rows were found: the noise is 0.1


def test_it_recovers_from_a_change_of_level_and_from_one_wild_value():
    y = sine(4000)
    shifted = y + 1e6 * (np.arange(4000) >= 2000)[:, None]
    _, out = run(forecaster(), shifted)
    assert nrmse(out.prediction[3500:], shifted[3500:]) < 0.25  # noise alone is .14
    y[2000] = 1e6
    _, out = run(forecaster(), y)
    assert nrmse(out.prediction[2100:], y[2100:]) < 0.2


def test_a_missing_target_stops_no_other():
    one = forecaster(columns=2, targets=2, own=(0, 1))
    y = sine(300, columns=2)
    gone = y.copy()
    gone[100:200, 1] = np.nan
    (_, whole), (_, out) = run(one, y), run(one, gone)
    assert np.isfinite(out.prediction).all()
    only = forecaster(columns=1)
    _, alone = run(only, y[:, :1])
    assert nrmse(out.prediction[200:], y[200:]) < 1.1 * nrmse(whole.prediction[200:], y[200:])
    assert np.allclose(out.prediction[:, 0], alone.prediction[:, 0], atol=1e-4)
    assert out.skipped.sum() == 100
    # What can't be taken is as what is not there, and is counted too.
    _, wild = run(one, np.where(np.isnan(gone), 1e38, gone))
    assert np.array_equal(wild.prediction, out.prediction)
    assert wild.skipped.sum() == 100 and (wild.held == np.isnan(gone).sum(1)).all()


def test_forecasts_look_ahead_without_learning_and_resets_forget_lags():
    one, y = forecaster(), sine(100)
    state, _ = run(one, y[:50])
    looked = one.predict(state, y[50])
    again = one.predict(state, y[50])
    assert same(looked, again)
    _, straight = one.step(run(one, y[:50])[0], y[50], y[50])
    _, stepped = one.step(one.reset(state), y[50], y[50])
    assert not same(straight.prediction, stepped.prediction)
    with pytest.raises(ValueError, match="state"):
        one.step(state, y[50], y[50])
    _, out = one.step(run(one, y[:50])[0], y[50], y[50], 1.0, True)
    assert same(out.prediction, stepped.prediction)


def test_streams_are_steps_and_are_scored():
    one, y = forecaster(delay=3, own=None), sine(60)
    _, whole = run(one, y)
    pairs = list(one.stream(one.init(), ((row, row) for row in y), chunk=16, delay=3))
    assert same(np.stack([out.prediction for _, out in pairs]), whole.prediction)
    assert int(pairs[-1][0].items) == 60
    *_, report = rtrl.evaluate.prequential(one, one.init(), zip(y, y, strict=True), delay=3)
    assert report.scored == 57 and report.overall["nrmse"] < 1.5
    with pytest.raises(ValueError, match="delay"):
        one.stream(one.init(), [], delay=1)
    with pytest.raises(ValueError, match="item 0"):
        next(one.stream(one.init(), [(np.zeros(2), None)]))


@pytest.mark.parametrize("bad", [
    {"in_size": -1}, {"out_size": 0}, {"delay": -1}, {"own": (1,)}, {"own": (0, 0)}, {"season": 1},
    {"delay": 0, "own": (0,)}, {"memory": 1}, {"experts": ()}, {"longest": 1},
])  # fmt: skip
def test_bad_arguments_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(reversed(bad)))):
        Forecaster(**{"in_size": 1, **bad})


def test_the_network_is_a_learner_without_its_safeguards():
    """Rows of weights put together are to the filter what they were apart."""
    rng = np.random.default_rng(0)
    y = np.cumsum(rng.normal(size=(90, 1)), 0)
    y[50] = np.nan
    learner = rtrl.OnlineLearner(experts.half_square, rtrl.kalman(prior=10.0))
    both = [experts.Plain(), experts.Network(), experts.Learned(learner)]
    one = Forecaster(1, own=(0,), experts=both)
    state = one.init()
    # The same first parameters for both: their keys are other ones.
    network, learned = state.inside.targets.experts[1:]
    model = jax.tree.map(lambda a: a[0] if eqx.is_array(a) else a, network[0])
    fresh = learner.init(model)
    fresh = jax.tree.map(
        lambda new, old: jnp.asarray(new)[None] if eqx.is_array(old) else old, fresh, learned[0]
    )
    state = eqx.tree_at(lambda s: s.inside.targets.experts[2][0], state, fresh)
    resets = np.arange(90) == 60
    told = one.scan(state, y, y, resets=resets)[1].experts[:, 0, -2:]
    moved = np.abs(told[:, 0] - np.where(np.isfinite(y[:, 0]), y[:, 0], told[:, 0]))
    assert moved[30:].max() > 0.1  # it has learned something to say
    # As far apart as float32 puts another order of sums, which grows with every step of learning.
    np.testing.assert_allclose(told[:, 0], told[:, 1], atol=2e-3)
