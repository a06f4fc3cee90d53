"""Overlapping chunks: against a loop with dense Jacobians, and what a learner keeps of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import windows
from cases import IN, OUT, data, network, squared_error
from oracles import relative_errors

import rtrl
from rtrl.engine import Chunk, Past, chunk_gradient, init_carry, kept_behind, observe
from rtrl.learners._overlap import nothing_past, window_keys

# Sums over tens of timesteps in float64, taken in another order.
EXACT = 1e-10
RATE = 0.01
# One of each: a program is compiled anew for every other function that an optimizer is made of.
SGD, STILL = optax.sgd(RATE), optax.sgd(0.0)

T = 14
CREDIT = {"own": rtrl.RTRL(), "none": rtrl.BPTT(), "all": rtrl.ExactRTRL()}


def arrays(tree):
    return [np.asarray(a) for a in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


def identical(a, b):
    return all(np.array_equal(x, y) for x, y in zip(arrays(a), arrays(b), strict=True))


def worst(a, b):
    return max(relative_errors(*(eqx.filter(t, eqx.is_inexact_array) for t in (a, b))).values())


def held(state) -> Past:
    """The overlap that a state holds."""
    assert state.past is not None
    return state.past


def happened(state):
    return np.asarray(held(state).mask).tolist()


def learner(overlap, **options):
    options = {"optimizer": SGD, "donate": False, **options}
    return rtrl.OnlineLearner(squared_error, overlap=overlap, **options)


def spoiled(seed=3):
    """A stream with resets, weights, an input and a target that are missing."""
    xs, ys, weights, _ = data(T, None, seed)
    weights = jnp.abs(weights)  # losses that are pushed up would make any rounding grow
    xs, ys = xs.at[9].set(jnp.nan), ys.at[12, 0].set(jnp.nan)
    return xs, ys, weights.at[T - 1].set(0.7), jnp.arange(T) == 4


# Exactness ----------------------------------------------------------------------------------


# With T = 14 chunks of 3 and 4 leave a ragged tail.
@pytest.mark.parametrize(
    ("cell", "credit", "chunk", "overlap"),
    [("LRU", "own", 1, 2), ("LRU", "own", 3, 5), ("LRU", "none", 4, 1),
     pytest.param("LeakyIntegrator", "all", 3, 2, marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_learner_does_what_a_loop_over_windows_does(cell, credit, chunk, overlap, float64):
    model, stream = network(cell), spoiled()
    want, predictions = windows.learn(
        model, squared_error, *stream, chunk=chunk, overlap=overlap, rate=RATE, credit=credit
    )
    one = learner(overlap, rule=CREDIT[credit])
    xs, ys, weights, resets = stream
    state, out = one.scan(one.init(model), xs, ys, chunk=chunk, weights=weights, resets=resets)
    assert worst(state.model, want) < EXACT
    np.testing.assert_allclose(out.prediction, predictions, rtol=0, atol=EXACT)
    assert out.skipped.tolist() == [int(t in (9, 12)) for t in range(T)]
    if (cell, credit, chunk) != ("LRU", "own", 3):
        return
    # The controls: no credit from before a window, and errors cut where a chunk begins.
    for other in (learner(overlap, rule=rtrl.BPTT()), learner(0)):
        begin = other.init(model)
        cut, _ = other.scan(begin, xs, ys, chunk=chunk, weights=weights, resets=resets)
        assert worst(cut.model, want) > 1e-4


@pytest.mark.parametrize(("cell", "batch"), [("LRU", None), ("ElementwiseLSTM", 2)])
def test_the_last_layer_is_exact_and_a_window_of_everything_is_bptt(cell, batch, float64):
    model = network(cell)
    xs, ys, weights, resets = data(12, batch, 1)

    def gradient(rule, **options):
        return rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rule, weights=weights,
            resets=None if batch is None else resets, **options,
        )  # fmt: skip

    loss, exact = gradient(rtrl.BPTT())
    for chunk, overlap in ((1, 11), (4, 8)):
        total, grads = gradient(rtrl.RTRL(), chunk=chunk, overlap=overlap)
        assert worst(grads, exact) < EXACT and abs(total - loss) < EXACT
    for chunk, overlap in ((1, 1), (5, 3)):
        _, grads = gradient(rtrl.RTRL(), chunk=chunk, overlap=overlap)
        assert worst(grads.layers[-1].cell, exact.layers[-1].cell) < EXACT
        assert worst(grads.layers[0].cell, exact.layers[0].cell) > 1e-4


@pytest.mark.parametrize(
    ("cell", "rule"),
    [("GRU", rtrl.SnAp1()), ("VanillaRNN", rtrl.EProp()), ("LinearRNN", rtrl.ExactRTRL()),
     ("S6", rtrl.RTRL())],
    ids=str,
)  # fmt: skip
def test_a_window_of_everything_is_a_chunk_of_everything(cell, rule, float64):
    model = network(cell)
    xs, ys, weights, resets = data(8, 2, 5)

    def gradient(**options):
        return rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rule, weights=weights, resets=resets, **options
        )[1]

    assert worst(gradient(chunk=2, overlap=6), gradient(chunk=8)) < EXACT


@pytest.mark.slow
def test_a_batch_is_the_mean_of_its_samples(float64):
    model = network("LRU")
    xs, ys, weights, resets = data(T, 3, 2)

    def gradient(*data):
        xs, ys, weights, resets = data
        return rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rtrl.RTRL(), chunk=2, overlap=3, weights=weights,
            resets=resets,
        )[1]  # fmt: skip

    singles = [gradient(*(a[:, i] for a in (xs, ys, weights, resets))) for i in range(3)]
    mean = jax.tree.map(lambda *g: sum(g) / 3, *singles)
    assert worst(gradient(xs, ys, weights, resets), mean) < EXACT


# What a learner keeps ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "batch"), [pytest.param(1, None, marks=pytest.mark.slow), (5, 2)]
)
def test_calls_may_be_cut_anywhere_and_a_saved_state_goes_on_to_the_bit(overlap, batch, tmp_path):
    xs, ys, weights, resets = data(12, batch, 4)
    xs = xs.at[3].set(jnp.nan)
    one = learner(overlap, optimizer=optax.adam(1e-2), update_every=2, donate=True)
    model = network("LRU", dropout=0.3)

    def run(*cuts, chunk):
        state, outs = one.init(model, batch), []
        for begin, end in zip((0, *cuts), (*cuts, 12), strict=True):
            part = slice(begin, end)
            state, out = one.scan(state, xs[part], ys[part], chunk=chunk, weights=weights[part],
                                  resets=resets[part])  # fmt: skip
            rtrl.save(tmp_path / "state", state)
            state = rtrl.load(tmp_path / "state", like=one.init(model, batch))
            outs.append(out)
        return state, jnp.concatenate([out.prediction for out in outs])

    (whole, seen), (parts, again) = run(chunk=3), run(6, chunk=3)
    assert identical(whole, parts) and np.array_equal(seen, again)
    _, seen = run(chunk=1)
    state, predictions = one.init(model, batch), []
    for t in range(12):
        state, out = one.step(state, xs[t], ys[t], weights[t], resets[t])
        predictions.append(out.prediction)
    # The programs of a step and of a scan are compiled apart.
    np.testing.assert_allclose(jnp.stack(predictions), seen, rtol=0, atol=1e-5)


def test_a_timestep_has_the_same_dropout_in_every_window(float64):
    model = network("LRU", dropout=0.5)
    xs, ys, _, _ = data(9, 2, 6)
    one = learner(9, optimizer=STILL)
    key = jax.random.key(7)
    state, out = one.scan(one.init(model, 2, key=key), xs, ys, chunk=2)
    keys = window_keys(key, jnp.uint32(0), 0, 9)
    carry = rtrl.init_carry(model, rtrl.BPTT(), 2)
    run = eqx.filter_jit(lambda keys: model(xs, carry, rule=rtrl.BPTT(), key=keys)[0])
    once = run(keys)
    np.testing.assert_allclose(out.prediction, once, rtol=0, atol=1e-12)
    _, gradient = rtrl.sequence_gradient(
        model, squared_error, xs, ys, rule=rtrl.RTRL(), chunk=3, overlap=6, key=key
    )

    def objective(model):
        predictions, _ = model(xs, carry, rule=rtrl.BPTT(), key=keys)
        return ((predictions - ys) ** 2).sum() / 2

    assert worst(gradient, eqx.filter_jit(eqx.filter_grad(objective))(model)) < EXACT
    other = run(window_keys(key, jnp.uint32(1), 0, 9))
    assert jnp.abs(other - once).max() > 0.1


def test_nothing_passes_a_reset():
    """After it a learner whose parameters stay is one that has never seen anything."""
    xs, ys, _, _ = data(12, 2, 8)
    xs = xs.at[:5].set(1e3)
    resets = jnp.broadcast_to(jnp.arange(12)[:, None] == 6, (12, 2))
    one = learner(4, optimizer=STILL)
    begin = one.init(network("LRU"), 2)
    fresh, _ = one.scan(begin, xs[6:], ys[6:], chunk=3)
    before, _ = one.scan(begin, xs[:6], ys[:6], chunk=3)
    by_call, _ = one.scan(one.reset(before), xs[6:], ys[6:], chunk=3)
    by_flag, _ = one.scan(before, xs[6:], ys[6:], chunk=3, resets=resets[6:])
    inside, _ = one.scan(begin, xs[4:10], ys[4:10], chunk=3, resets=resets[4:10])
    inside, _ = one.scan(inside, xs[10:], ys[10:], chunk=2)
    passed, _ = one.scan(before, xs[6:], ys[6:], chunk=3)
    for state, alike in ((by_call, True), (by_flag, True), (inside, True), (passed, False)):
        assert identical(held(state).xs, held(fresh).xs)
        pairs = zip(arrays(state.carry), arrays(fresh.carry), strict=True)
        assert all(np.allclose(a, b, rtol=0, atol=1e-6) for a, b in pairs) == alike
    half = one.reset(passed, jnp.array([True, False]))
    assert happened(half) == [[False, True]] * 4
    assert not held(half).xs[:, 0].any() and held(half).xs[:, 1].all()
    assert all(not a[0].any() and a[1].any() for a in arrays(half.carry[0].trace))


def test_what_overflows_begins_anew_at_once():
    """One timestep is lost, not as many as the overlap has."""
    xs, ys, _, _ = data(12, 2, 9)
    one = learner(4, optimizer=STILL)
    state = one.init(network("LRU"), 2)
    state, out = one.scan(state, xs[:6].at[5, 1].set(3e38), ys[:6], chunk=3)
    assert out.restarted.tolist() == [0, 0, 0, 0, 0, 1]
    assert happened(state) == [[True, False]] * 4
    assert all(np.isfinite(a).all() for a in arrays(state.carry))
    state, out = one.scan(state, xs[6:], ys[6:], chunk=3)
    fresh, again = one.scan(one.init(network("LRU"), 2), xs[6:], ys[6:], chunk=3)
    assert not out.restarted.any() and not out.skipped.any()
    np.testing.assert_allclose(out.prediction[:, 1], again.prediction[:, 1], rtol=0, atol=1e-5)
    assert jnp.abs(out.prediction[:, 0] - again.prediction[:, 0]).max() > 1e-3


def test_predictions_ahead_go_on_from_the_newest_timestep(float64):
    xs, ys, _, _ = data(10, None, 10)
    model, one = network("LRU"), learner(4, optimizer=STILL)
    plain = learner(0, optimizer=STILL)
    state, _ = one.scan(one.init(model), xs[:7], ys[:7], chunk=3)
    other, _ = plain.scan(plain.init(model), xs[:7], ys[:7], chunk=3)
    got, carry = one.predict(state, xs[7])
    want, _ = plain.predict(other, xs[7])
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    assert carry[0].trace is None and carry[0].newest is None


def test_a_stream_learns_as_a_scan_does():
    xs, ys, _, _ = data(12, None, 11)
    one, model = learner(5), network("LRU")
    states = list(one.stream(one.init(model), zip(xs, ys, strict=True), chunk=3))
    scanned, _ = one.scan(one.init(model), xs, ys, chunk=3)
    assert identical(states[-1][0].learner, scanned)
    assert identical(rtrl.close_stream(one, states[-1][0]), scanned)


def test_bptt_takes_single_timesteps_with_an_overlap_and_no_others():
    xs, ys, _, _ = data(T, None, 12)
    one = learner(4, rule=rtrl.BPTT())
    state = one.init(network("GRU"))
    for x, y in zip(xs, ys, strict=True):
        state, out = one.step(state, x, y)
    assert jnp.isfinite(out.loss) and state.carry[0].trace is None
    with pytest.raises(ValueError, match="rule: .*overlap"):
        learner(0, rule=rtrl.BPTT()).step(state, xs[0])


def test_a_filter_sees_the_derivatives_of_the_window(float64):
    def half(prediction, target):
        return 0.5 * ((prediction - target) ** 2).sum()

    model, rule = network("LRU"), rtrl.RTRL()
    xs, ys, _, _ = data(8, None, 13)
    carry, past = kept_behind(init_carry(model, rule)), nothing_past(model, 3, None)
    chunk = Chunk(xs[:2], ys[:2], jnp.ones(2))
    options = {"rule": rule, "key": None, "past": past}
    want = eqx.filter_jit(lambda m: chunk_gradient(m, half, carry, chunk, **options))(model)
    got, seen = eqx.filter_jit(lambda m: observe(m, carry, chunk, **options))(model)
    assert worst(got.grads, want.grads) < EXACT
    assert worst(got.carry, want.carry) < EXACT and seen.errors.shape == (2, 1, OUT)
    one = rtrl.OnlineLearner(half, rtrl.kalman(), overlap=3)
    state, out = one.scan(one.init(model), xs, ys, chunk=1)
    assert jnp.isfinite(out.loss).all() and len(held(state).xs) == 3


def test_tokens_are_held_as_they_come():
    embedding = eqx.nn.Embedding(7, 6, key=jax.random.key(0))
    model = rtrl.SequenceModel(
        None, OUT, 6, 1, lambda size, key: rtrl.cells.LRU(size, 4, key=key), encoder=embedding,
        key=jax.random.key(1),
    )  # fmt: skip
    tokens = np.arange(9, dtype=np.uint8) % 7
    one = learner(3)
    state, _ = one.scan(one.init(model), tokens, np.zeros((9, OUT), np.float32), chunk=2)
    assert held(state).xs.tolist() == [6, 0, 1] and held(state).xs.dtype == np.uint8
    with pytest.raises(ValueError, match="xs: expected uint8 .* got .float32"):
        one.scan(state, np.zeros(4, np.float32))


def test_memory_is_that_of_the_overlap_and_its_window():
    model = network("LRU")
    reports = {
        (o, k): rtrl.memory_report(model, rtrl.RTRL(), 2, k, overlap=o)
        for o, k in ((0, 4), (4, 4), (16, 4))
    }
    data_of = {o: report.data for (o, _), report in reports.items()}
    # An input and whether it happened, for two samples: bytes of one timestep of the overlap.
    assert data_of[16] - data_of[4] == 12 * 2 * (4 * IN + 1)
    assert len({report.traces for report in reports.values()}) == 1
    assert reports[4, 4].states == 2 * reports[0, 4].states == reports[16, 4].states


@pytest.mark.parametrize(
    ("rule", "name"),
    [(rtrl.RTRL("timestep"), "RTRL"), (rtrl.UORO(), "UORO"), (rtrl.Truncated(), "Truncated"),
     (rtrl.Spatial(), "Spatial"), (rtrl.SnApN(2), "SnApN"), (rtrl.TBPTT(3), "TBPTT")],
)  # fmt: skip
def test_rules_without_errors_back_in_time_are_refused(rule, name):
    with pytest.raises(ValueError, match=f"overlap: expected 0 with {name}.* got 2"):
        learner(2, rule=rule)
    xs, ys, _, _ = data(4, None, 0)
    with pytest.raises(ValueError, match=f"overlap: .*{name}"):
        rtrl.sequence_gradient(network("LRU"), squared_error, xs, ys, rule=rule, overlap=2)
    learner(0, rule=rule)


def test_mistakes_are_named():
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match="overlap: expected"):
            learner(wrong)
    state, (xs, ys, _, _) = learner(3).init(network("LRU")), data(4, None, 0)
    for other in (learner(0), learner(2)):
        with pytest.raises(ValueError, match="overlap: expected the 3 timesteps that the state"):
            other.scan(state, xs, ys)
    with pytest.raises(ValueError, match="learner: expected one whose chunks do not overlap"):
        rtrl.device.export(learner(3), state, "nowhere")
    with pytest.raises(ValueError, match="overlap: expected the 0 timesteps"):
        learner(3).step(learner(0).init(network("LRU")), xs[0])
