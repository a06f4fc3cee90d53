"""Live streams: predictions at once, learning behind, no look-ahead, stop and resume."""

import functools
import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import IN, ONLINE_RULES, OUT, data, network, squared_error

import rtrl
from rtrl import evaluate
from rtrl.streams._moments import Moments
from rtrl.tasks import Stream

T = 23
ADAM = optax.adam(1e-2)


@functools.cache  # one learner, one program: what is compiled serves all tests
def learner(**options):
    return rtrl.OnlineLearner(squared_error, **{"optimizer": ADAM, **options})


def net(**options):
    return network("LRU", depth=1, **options)


def arrays(tree):
    return [np.asarray(a) for a in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


def same(a, b, tolerance=0.0):
    return all(np.allclose(x, y, rtol=0, atol=tolerance) for x, y in zip(a, b, strict=True))


def as_they_arrive(xs, ys, delay):
    """Items of a source: the target of an input comes ``delay`` items later."""
    return [(xs[t], ys[t - delay] if t >= delay else None) for t in range(len(xs))]


def follow(one, state, source, **options):
    """The states and outputs of a stream; the last state alone can be used if it donates."""
    pairs = list(one.stream(state, source, **options))
    return [state for state, _ in pairs], [out for _, out in pairs]


def predictions(outs):
    return np.stack([np.asarray(out.prediction) for out in outs])


def in_chunks(one, state, xs, ys, chunk, **columns):
    """The reference: scan, one call per chunk."""
    for start in range(0, len(xs), chunk):
        now = slice(start, start + chunk)
        more = {name: column[now] for name, column in columns.items()}
        state, _ = one.scan(
            state, xs[now], None if ys is None else ys[now], chunk=len(xs[now]), **more
        )
    return state


# What is learned ----------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("chunk, delay", [(1, 0), (1, 5), (4, 0), (4, 1), (4, 5)])
def test_it_learns_what_scan_learns_from_the_same_chunks(chunk, delay, batch):
    xs, ys, _, _ = data(T, batch, 0)
    one = learner()
    *_, (state, _) = one.stream(one.init(net(), batch), as_they_arrive(xs, ys, delay), chunk, delay)
    learned = (T - delay) // chunk * chunk
    assert int(state.learner.step) == learned and int(state.held) == T - learned
    reference = in_chunks(one, one.init(net(), batch), xs[:learned], ys[:learned], chunk)
    assert same(arrays(state.learner), arrays(reference))  # bit for bit: the same programs
    whole, _ = one.scan(one.init(net(), batch), xs[:learned], ys[:learned], chunk=chunk)
    assert same(arrays(state.model), arrays(whole.model), 1e-4)  # one program: other rounding


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 11])
def test_a_source_may_end_anywhere_and_closing_learns_what_is_known(length, delay):
    xs, ys, _, _ = data(length, None, 1)
    one = learner()
    states, outs = follow(one, one.init(net()), as_they_arrive(xs, ys, delay), chunk=4, delay=delay)
    assert len(outs) == length
    closed = rtrl.close_stream(one, states[-1])
    known = max(length - delay, 0)
    reference = in_chunks(one, one.init(net()), xs[:known], ys[:known], 4)
    reference = in_chunks(one, reference, xs[known:], None, 4)  # these only advance
    assert same(arrays(closed), arrays(reference))
    assert int(closed.step) == length


@pytest.mark.parametrize(
    "rule", [*ONLINE_RULES.values(), rtrl.BPTT(), rtrl.ExactRTRL()], ids=lambda rule: rule.label()
)
def test_every_rule_streams(rule):
    """BPTT too: one gradient per chunk, so it is TBPTT(chunk)."""
    xs, ys, _, _ = data(12, None, 2)
    one = learner(rule=rule)
    *_, (state, out) = one.stream(one.init(net()), zip(xs, ys, strict=True), chunk=4)
    reference = in_chunks(one, one.init(net()), xs, ys, 4)
    assert same(arrays(state.learner), arrays(reference))
    assert out.loss.shape == out.skipped.shape == (4,) and out.grad_norm.shape == (1,)
    assert rtrl.BPTT().label(4) == "TBPTT(4)"


def test_update_every_counts_the_chunks_of_the_stream():
    xs, ys, _, _ = data(16, None, 3)
    one = learner(update_every=2)
    *_, (state, _) = one.stream(one.init(net()), zip(xs, ys, strict=True), chunk=4)
    reference = in_chunks(one, one.init(net()), xs, ys, 4)
    assert same(arrays(state.learner), arrays(reference))


def test_missing_targets_teach_nothing_and_have_no_loss():
    xs, ys, _, _ = data(T, None, 4)
    missing = np.arange(T) % 3 == 1
    items = [(x, None if gone else y) for x, y, gone in zip(xs, ys, missing, strict=True)]
    one = learner()
    *pairs, (state, out) = one.stream(one.init(net()), items, chunk=1)
    losses = np.concatenate([out.loss for _, out in [*pairs, (state, out)]])
    assert np.array_equal(np.isnan(losses), missing)
    weights = 1.0 - missing
    reference = in_chunks(one, one.init(net()), xs, ys, 1, weights=weights)
    assert same(arrays(state.model), arrays(reference.model), 1e-6)
    none, _ = follow(one, one.init(net()), [(x, None) for x in xs], chunk=4)
    assert same(arrays(none[-1].model), arrays(net()))
    assert int(none[-1].learner.step) == 20  # but time goes on


def test_weights_and_resets_come_with_the_items():
    xs, ys, weights, resets = (np.asarray(a) for a in data(T, 2, 5))
    one = learner()
    delay, chunk = 2, 3
    known = (T - delay) // chunk * chunk
    items = [
        (xs[t], ys[t - delay] if t >= delay else None, weights[t - delay], resets[t])
        for t in range(T)
    ]
    *_, (state, _) = one.stream(one.init(net(), 2), items, chunk, delay)
    reference, _ = one.scan(
        one.init(net(), 2), xs[:known], ys[:known], chunk=chunk,
        weights=weights[:known], resets=resets[:known],
    )  # fmt: skip
    assert same(arrays(state.model), arrays(reference.model), 1e-5)


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_bad_input_or_target_is_skipped_and_counted(chunk):
    xs, ys, _, _ = (np.array(a) for a in data(T, None, 6))
    xs[5, 1], xs[9], ys[12] = np.nan, np.inf, np.nan
    one = learner()
    states, outs = follow(one, one.init(net()), zip(xs, ys, strict=True), chunk=chunk)
    skipped = np.concatenate([out.skipped for out in outs])
    assert set(np.flatnonzero(skipped)) == {5, 9, 12}
    assert all(np.isfinite(a).all() for a in arrays((states[-1].learner, states[-1].carry)))
    assert np.isfinite(predictions(outs)).all()


# What is predicted --------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("chunk, delay", [(1, 0), (1, 4), (4, 0), (3, 5)])
def test_no_prediction_depends_on_what_had_not_arrived(chunk, delay, batch):
    """Alter all that comes later, this item's own target included: bit for bit the same."""
    xs, ys, _, _ = (np.asarray(a) for a in data(T, batch, 7))
    one = learner()

    def run(xs, ys):
        state = one.init(net(), batch)
        return predictions(follow(one, state, zip(xs, ys, strict=True), chunk=chunk,
                                  delay=delay)[1])  # fmt: skip

    base = run(xs, ys)
    for t in range(0, T, 4):
        later_x, later_y = xs.copy(), ys.copy()
        later_x[t + 1 :] += 1.0
        later_y[t:] -= 2.0
        changed = run(later_x, later_y)
        assert np.array_equal(changed[: t + 1], base[: t + 1])
        if t + chunk + delay + 1 < T:  # the control: later ones do change
            assert not np.array_equal(changed[t + 1 :], base[t + 1 :])


@pytest.mark.core
@pytest.mark.parametrize("chunk", [1, 4])
def test_without_a_delay_predictions_are_those_of_scan(chunk):
    xs, ys, _, resets = data(T, None, 8)
    one = learner()
    items = [(x, y, 1.0, r) for x, y, r in zip(xs, ys, np.asarray(resets), strict=True)]
    _, outs = follow(one, one.init(net()), items, chunk=chunk)
    _, reference = one.scan(one.init(net()), xs, ys, chunk=chunk, resets=resets)
    # The networks drift apart by rounding as they learn (adam divides by small numbers).
    assert np.allclose(predictions(outs), reference.prediction, atol=1e-3)


@pytest.mark.parametrize("chunk, delay", [(1, 3), (4, 2)])
def test_predictions_are_made_by_the_newest_parameters_from_the_learners_hidden_state(chunk, delay):
    """Recomputed: the learner's hidden state, run over all that is held, then the new input."""
    xs, ys, _, _ = data(T, None, 9)
    one = learner(donate=False)
    state = one.init(net())
    before = rtrl.open_stream(state, chunk=chunk, delay=delay)
    pairs = one.stream(state, as_they_arrive(xs, ys, delay), chunk, delay)
    for t, (after, out) in enumerate(pairs):
        carry = None
        for x in before.xs[: int(before.held)]:
            _, carry = one.predict(before.learner, x, carry)
        expected, _ = one.predict(before.learner, xs[t], carry)
        assert np.allclose(out.prediction, expected, atol=1e-6)
        ahead, _ = one.predict(before, xs[t])  # the state of a stream looks ahead by itself  # type: ignore[arg-type]
        assert np.allclose(ahead, expected, atol=1e-6)
        before = after


# Stop and resume ----------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("chunk, delay", [(1, 0), (4, 3)])
def test_stopping_anywhere_and_resuming_from_a_file_changes_no_bit(chunk, delay, batch, tmp_path):
    xs, ys, _, _ = data(T, batch, 10)
    items = as_they_arrive(xs, ys, delay)
    one = learner()

    def fresh():
        return one.init(net(dropout=0.2), batch, key=jax.random.key(3))

    states, outs = follow(one, fresh(), items, chunk=chunk, delay=delay)
    whole = predictions(outs)
    for stop in np.random.default_rng(0).permutation(np.arange(1, T))[:4]:
        pairs = one.stream(fresh(), iter(items), chunk, delay)
        stopped = [next(pairs) for _ in range(stop)]
        state, first = stopped[-1][0], [out for _, out in stopped]
        rtrl.save(tmp_path / "stream.rtrl", state)
        like = rtrl.open_stream(fresh(), chunk=chunk, delay=delay)
        state = rtrl.load(tmp_path / "stream.rtrl", like=like)
        assert int(state.items) == stop  # where to go on in the source
        after, rest = follow(one, state, items[stop:], chunk=chunk, delay=delay)
        assert np.array_equal(predictions(first + rest), whole)
        assert same(arrays(after[-1]), arrays(states[-1]))
        assert int(after[-1].items) == T


def test_targets_of_any_kind_resume_with_an_example():
    """Classes as integers: an example of a target makes `like`."""
    xs = np.random.default_rng(0).normal(size=(T, IN))
    labels = np.arange(T) % OUT
    one = rtrl.OnlineLearner(
        optax.losses.softmax_cross_entropy_with_integer_labels, optax.adam(1e-2)
    )
    items = [(x, None if t < 7 else int(y)) for t, (x, y) in enumerate(zip(xs, labels))]  # noqa: B905
    state = one.init(net())
    for opened in (state, rtrl.open_stream(one.init(net()), y=np.int32(0), chunk=4)):
        *_, (state, out) = one.stream(opened, items, chunk=4)
        assert state.ys.shape == (4,) and state.ys.dtype == np.int32
        assert np.isfinite(out.loss).all() or out.loss.size == 0
        like = rtrl.open_stream(one.init(net()), y=0, chunk=4)
        assert jax.tree.structure(like) == jax.tree.structure(state)


@pytest.mark.parametrize("kind", ["float32", "float64", "list", "one buffer", "float16"])
def test_items_of_any_kind_are_taken_as_they_were_when_they_came(kind):
    xs, ys, _, _ = data(11, None, 6)
    one = learner()
    _, expected = follow(one, one.init(net()), zip(xs, ys, strict=True), chunk=4, delay=0)

    def source():
        buffers = np.zeros(IN), np.zeros(OUT)
        for pair in zip(xs, ys, strict=True):
            if kind == "one buffer":
                for buffer, a in zip(buffers, pair, strict=True):
                    buffer[:] = a
                yield buffers
                for buffer in buffers:
                    buffer[:] = np.nan
            elif kind == "list":
                yield tuple(np.asarray(a).tolist() for a in pair)
            else:
                yield tuple(np.asarray(a, kind) for a in pair)

    states, outs = follow(one, one.init(net()), source(), chunk=4)
    loose = 1e-2 if kind == "float16" else 0  # as exact as the items were
    assert same(predictions(outs), predictions(expected), loose)
    assert states[-1].xs.dtype == np.float32


def test_what_is_changed_in_a_model_counts_from_the_next_item_on():
    class Gained(eqx.Module):
        inner: Any
        gains: list
        in_size: int = IN

        def __call__(self, xs, carry, **options):
            predictions, carry = self.inner(xs, carry, **options)
            return predictions * self.gains[0], carry

    one, xs = learner(), np.ones((5, IN))
    state = one.init(Gained(net(), [jnp.ones(())]))
    seen = []
    for now, out in one.stream(state, ((x, None) for x in xs), chunk=16):
        seen.append(np.abs(out.prediction).sum() > 0)
        now.model.gains[0] = jnp.zeros(())
    assert seen == [True, False, False, False, False]


def test_states_that_were_yielded_stay_as_they_are():
    xs, ys, _, _ = data(T, None, 11)
    one = learner(donate=False)
    pairs, copies = [], []
    for state, _ in one.stream(one.init(net()), zip(xs, ys, strict=True), chunk=4):
        pairs.append(state)
        copies.append(jax.tree.map(np.array, (state.xs, state.ys, state.weights, state.held)))
    for state, copy in zip(pairs, copies, strict=True):
        now = (state.xs, state.ys, state.weights, state.held)
        assert all(np.array_equal(a, b) for a, b in zip(now, copy, strict=True))


@pytest.mark.slow
def test_sigterm_at_a_random_row_and_resuming_gives_one_run(tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys
        import jax, numpy as np, optax, rtrl
        jax.config.update("jax_platforms", "cpu")
        path, rows = sys.argv[1], int(sys.argv[2])
        stop = []
        signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
        key = jax.random.key(0)
        cell = lambda size, key: rtrl.cells.LRU(size, 5, key=key)
        model = rtrl.SequenceModel(1, 1, 6, 1, cell, key=key)
        one = rtrl.OnlineLearner(lambda p, y: ((p - y) ** 2).sum(), optax.adam(1e-2))
        state = rtrl.open_stream(one.init(model), chunk=4, delay=3)
        if os.path.exists(path):
            state = rtrl.load(path, like=state)
        first = int(state.items)
        z = np.sin(0.3 * np.arange(rows))[:, None]
        for state, out in one.stream(state, ((v, v) for v in z[first:]), chunk=4, delay=3):
            print(np.asarray(out.prediction).tobytes().hex(), flush=True)
            if stop:
                break
        rtrl.save(path, state)
    """)
    rows = 3000

    def start(name):
        command = [sys.executable, "-c", script, str(tmp_path / name), str(rows)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)

    whole = start("whole").communicate()[0].split()
    assert len(whole) == rows
    lines = []
    for after in (7, 150):
        process = start("parts")
        for _ in range(after):
            assert process.stdout
            lines.append(process.stdout.readline().strip())
        process.send_signal(signal.SIGTERM)
        lines += process.communicate()[0].split()
        assert process.returncode == 0
    lines += start("parts").communicate()[0].split()
    assert lines == whole


# Cost ---------------------------------------------------------------------------------------


def test_nothing_compiles_after_the_first_chunks():
    xs, ys, _, _ = data(60, None, 12)
    one = learner()
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    counts = []
    for _ in one.stream(one.init(net()), as_they_arrive(xs, ys, 3), 4, 3):
        counts.append(len(compiled))
    assert counts[0] > 0  # the control: the listener hears
    assert counts[12] == counts[-1]


def test_the_state_does_not_grow():
    xs, ys, _, _ = data(60, None, 13)
    one = learner()
    sizes = set()
    for state, _ in one.stream(one.init(net()), as_they_arrive(xs, ys, 3), 4, 3):
        sizes.add(sum(a.nbytes for a in jax.tree.leaves(eqx.filter(state, eqx.is_array_like))))
    assert len(sizes) == 1


# Mistakes -----------------------------------------------------------------------------------

MISTAKES = {
    "not a pair": (7.0, "source: expected a pair"),
    "one value": ((np.zeros(IN),), "source: expected a pair .* got 1 values"),
    "features": ((np.zeros(IN + 1), np.zeros(OUT)), r"x: expected \(3,\), got \(4,\)"),
    "text": ((np.array(["a", "b", "c"]), None), "x: expected numbers"),
    "target": ((np.zeros(IN), np.zeros(OUT + 1)), "y: expected float32 of shape"),
    "structure": ((np.zeros(IN), (np.zeros(OUT), 1.0)), "y: expected .* like the targets before"),
    "weight": ((np.zeros(IN), np.zeros(OUT), np.ones(3)), "weight: expected"),
    "reset": ((np.zeros(IN), np.zeros(OUT), 1.0, 0.5), "reset: expected booleans"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_bad_item_is_named_by_its_number_and_nothing_is_lost(mistake):
    item, words = MISTAKES[mistake]
    xs, ys, _, _ = data(12, None, 14)
    items = list(zip(xs, ys, strict=True))
    one = learner()
    _, whole = follow(one, one.init(net()), items, chunk=4)
    state: Any = one.init(net())
    outs = []
    with pytest.raises(ValueError, match=f"item 7 of the stream: {words}"):
        for pair in one.stream(state, [*items[:7], item], chunk=4):
            state, out = pair
            outs.append(out)
    assert int(state.items) == 7
    _, rest = follow(one, state, items[7:], chunk=4)
    assert np.array_equal(predictions(outs + rest), predictions(whole))


def test_bad_arguments_are_named_before_anything_is_read():
    one = learner()
    state = one.init(net())
    for options, words in [
        ({"chunk": 0}, "chunk: expected an integer of at least 1"),
        ({"chunk": 1.5}, "chunk: expected an integer"),
        ({"delay": -1}, "delay: expected an integer of at least 0"),
        ({"delay": None}, "delay: expected an integer"),
    ]:
        with pytest.raises(ValueError, match=words):
            one.stream(state, iter([]), **options)
    open_ = rtrl.open_stream(state, chunk=4, delay=2)
    with pytest.raises(ValueError, match="delay: expected the 2 of the stream in state"):
        one.stream(open_, [], chunk=4)
    with pytest.raises(ValueError, match="chunk: expected the 4 of the stream in state"):
        one.stream(open_, [], chunk=5, delay=2)
    with pytest.raises(ValueError, match="state: expected a LearnerState"):
        one.stream(net(), [])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="state: expected a state from stream"):
        rtrl.close_stream(one, state)
    with pytest.raises(ValueError, match="y: expected leading axes"):
        rtrl.open_stream(one.init(net(), 3), y=np.zeros(OUT))


def test_a_loss_that_cannot_take_the_target_is_said_with_the_item():
    one = learner()
    with pytest.raises(ValueError, match="item 1 of the stream: ys: the loss can't take"):
        list(one.stream(one.init(net()), [(np.zeros(IN), np.zeros(5))] * 3, chunk=2))


def test_raise_stops_at_the_bad_item_and_gives_the_state_back():
    xs, ys, _, _ = (np.array(a) for a in data(12, None, 15))
    one = learner(on_nonfinite="raise")
    _, whole = follow(one, one.init(net()), zip(xs, ys, strict=True), chunk=4)
    bad = xs.copy()
    bad[6, 0] = np.nan
    with pytest.raises(rtrl.NonFiniteError, match="item 6 of the stream: x is not finite") as error:
        list(one.stream(one.init(net()), zip(bad, ys, strict=True), chunk=4))
    rest = zip(xs[6:], ys[6:], strict=True)
    _, outs = follow(one, error.value.state, rest, chunk=4)
    assert np.array_equal(predictions(outs), predictions(whole)[6:])


def test_a_stream_state_is_not_mistaken_for_a_learner_state():
    xs, ys, _, _ = data(3, None, 16)
    one = learner()
    *_, (state, _) = one.stream(one.init(net()), zip(xs, ys, strict=True))
    with pytest.raises((ValueError, AttributeError)):
        one.step(state, xs[0], ys[0])  # type: ignore[arg-type]
    assert jnp.isfinite(one.predict(state, xs[0])[0]).all()  # type: ignore[arg-type]


# Standardisation ----------------------------------------------------------------------------


def raw_data(length, batch=None):
    """Columns of very different scales, one of them constant; targets likewise."""
    xs, ys, _, _ = data(length, batch, 17)
    xs, ys = np.asarray(xs, np.float64), np.asarray(ys, np.float64)
    xs = xs * [1e6, 1e-6, 0.0] + [1e9, 0.0, 0.1]
    return xs, ys * [1e4, 1e-3] + [-1e6, 5.0]


def standardized(**options):
    return rtrl.Standardized(learner(), **{"warmup": 3, **options})


@pytest.mark.parametrize("batch", [None, 4])
def test_moments_are_those_of_all_that_was_seen(batch):
    xs, _ = raw_data(40, batch)
    xs[5:9, ..., 1] = np.nan  # missing values move nothing
    moments = Moments.empty((IN,))
    for x in xs:
        moments = moments.update(x)
    seen = xs.reshape(-1, IN)
    assert np.allclose(moments.mean, np.nanmean(seen, 0), rtol=1e-12)
    assert np.allclose(moments.deviation[:2], np.nanstd(seen, 0)[:2], rtol=1e-9)
    assert moments.deviation[2] == 1.0
    assert np.array_equal(moments.count, np.isfinite(seen).sum(0))
    scaled = moments.standardise(xs)
    assert np.abs(scaled[..., 2]).max() < 1e-12
    assert np.allclose(moments.restore(scaled), xs, rtol=1e-12, equal_nan=True)


def test_a_standardised_stream_is_the_stream_of_the_standardised():
    """The reference does it by hand with the moments of the past."""
    xs, ys = raw_data(T)
    one, delay = standardized(), 2
    states, outs = follow(one, one.init(net()), as_they_arrive(xs, ys, delay), chunk=4,
                          delay=delay)  # fmt: skip
    mx, my, items, back = Moments.empty((IN,)), Moments.empty((OUT,)), [], []
    for t in range(T):
        mx = mx.update(xs[t])
        back.append(my)
        y = None
        if t >= delay:
            my = my.update(ys[t - delay])
            y = my.standardise(ys[t - delay])
        items.append((mx.standardise(xs[t]), y, float(t >= 3)))
    inner = learner()
    after, plain = follow(inner, inner.init(net()), items, chunk=4, delay=delay)
    expected = [m.restore(p) for m, p in zip(back, predictions(plain), strict=True)]
    assert np.allclose(predictions(outs), expected, rtol=1e-9)
    assert same(arrays(states[-1].model), arrays(after[-1].model))


def test_standardised_steps_scans_and_streams_agree():
    xs, ys = raw_data(T)
    one = standardized()
    state, by_step = one.init(net()), []
    for x, y in zip(xs, ys, strict=True):
        state, out = one.step(state, x, y)
        by_step.append(out.prediction)
    scanned, outs = one.scan(one.init(net()), xs, ys)
    *pairs, (streamed, out) = one.stream(one.init(net()), zip(xs, ys, strict=True), chunk=1)
    live = [out.prediction for _, out in [*pairs, (streamed, out)]]
    scale = ys.std(0)
    assert np.abs((np.stack(by_step) - outs.prediction) / scale).max() < 1e-2
    assert np.abs((np.stack(live) - outs.prediction) / scale).max() < 1e-2
    for other in (scanned, streamed):
        assert state.targets and state.inputs and other.targets and other.inputs
        assert np.array_equal(other.targets.mean, state.targets.mean)
        assert np.array_equal(other.inputs.m2, state.inputs.m2)
    ahead, _ = one.predict(scanned, xs[0])
    assert np.allclose(ahead, one.predict(streamed, xs[0])[0], rtol=1e-3)


def test_a_standardised_stream_sees_no_future_and_resumes_bit_for_bit(tmp_path):
    xs, ys = raw_data(T)
    one = standardized(freeze=15)
    _, outs = follow(one, one.init(net()), zip(xs, ys, strict=True), chunk=4, delay=1)
    whole = predictions(outs)
    for stop in (2, 9, 18):
        later_x, later_y = xs.copy(), ys.copy()
        later_x[stop:] *= 3
        later_y[stop - 1 :] *= -2
        items = zip(later_x, later_y, strict=True)
        _, outs = follow(one, one.init(net()), items, chunk=4, delay=1)
        assert np.array_equal(predictions(outs)[:stop], whole[:stop])
        items = list(zip(xs, ys, strict=True))
        states, first = follow(one, one.init(net()), items[:stop], chunk=4, delay=1)
        rtrl.save(tmp_path / "s.rtrl", states[-1])
        like = rtrl.open_stream(one.init(net()), chunk=4, delay=1)
        state = rtrl.load(tmp_path / "s.rtrl", like=like)
        after, rest = follow(one, state, items[stop:], chunk=4, delay=1)
        assert np.array_equal(predictions(first + rest), whole)
    closed = rtrl.close_stream(one, after[-1])
    assert int(closed.learner.step) == T


def test_standardised_mistakes_are_named():
    xs, ys = raw_data(6)
    one = standardized()
    with pytest.raises(ValueError, match=r"item 4 of the stream: x: expected \(3,\), got \(2,\)"):
        list(one.stream(one.init(net()), [*zip(xs[:4], ys[:4], strict=True), (xs[4, :2], None)]))
    with pytest.raises(ValueError, match=r"y: expected \(2,\) like a prediction, got \(3,\)"):
        one.step(one.init(net()), xs[0], np.zeros(3))
    with pytest.raises(ValueError, match="warmup: expected an integer of at least 0"):
        standardized(warmup=-1)
    *_, (state, _) = one.stream(one.init(net()), zip(xs, ys, strict=True))
    with pytest.raises(ValueError, match="state: expected one that is not in the middle"):
        one.step(state, xs[0], ys[0])


# Evaluation ---------------------------------------------------------------------------------


def test_prequential_figures_are_those_of_the_predictions():
    xs, ys = raw_data(40)
    one, delay = standardized(), 3
    task = Stream(xs, ys)  # type: ignore[arg-type]
    reports = list(
        evaluate.prequential(one, one.init(net()), task, chunk=4, delay=delay, window=10, every=7)
    )
    assert [r.items for r in reports] == [7, 14, 21, 28, 35, 40]
    p = np.concatenate([r.predictions for r in reports])
    _, outs = follow(one, one.init(net()), as_they_arrive(xs, ys, delay), chunk=4, delay=delay)
    assert np.array_equal(p, predictions(outs))

    def nrmse(part):
        error = ((p[part] - ys[part]) ** 2).mean(0)
        return np.sqrt((error / ys[part].var(0)).mean())

    for r in reports:
        scored = r.scored
        assert scored == (r.items - delay if r.items < 40 else 40)  # the rest is revealed at last
        assert np.isclose(r.overall["nrmse"], nrmse(slice(0, scored)))
        recent = slice(max(scored - 10, 0), scored)
        assert np.isclose(r.window["nrmse"], nrmse(recent))
        assert np.isclose(r.window["mae"], np.abs(p[recent] - ys[recent]).mean())
    assert reports[-1].skipped == 0


@pytest.mark.parametrize("batch", [None, 3])
def test_prequential_classes_missing_targets_and_weights(batch):
    rng = np.random.default_rng(0)
    lead = (T,) if batch is None else (T, batch)
    xs = rng.normal(size=(*lead, IN))
    labels = rng.integers(0, OUT, lead)
    weights = rng.integers(0, 2, lead).astype(float)
    one = rtrl.OnlineLearner(optax.losses.softmax_cross_entropy_with_integer_labels, ADAM)
    items = [(xs[t], labels[t] if t % 4 else None, weights[t]) for t in range(T)]
    *_, last = evaluate.prequential(one, one.init(net(), batch), items, chunk=4)
    _, outs = follow(one, one.init(net(), batch), items, chunk=4)
    counts = (weights != 0) & (np.arange(T) % 4 != 0).reshape(T, *[1] * (len(lead) - 1))
    logits = predictions(outs)
    assert np.isclose(last.overall["accuracy"], (logits.argmax(-1) == labels)[counts].mean())
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    assert np.isclose(last.overall["cross_entropy"], losses[counts].mean(), rtol=1e-5)


def test_metrics_hold_where_numbers_are_large_and_where_there_is_nothing():
    y = 1e9 + np.random.default_rng(0).normal(size=(1000, 1))
    metric = evaluate.NRMSE()
    parts = [metric.summary(y[i : i + 100] + 0.5, y[i : i + 100]) for i in range(0, 1000, 100)]
    assert np.isclose(metric.value(functools.reduce(metric.merge, parts)), 0.5 / y.std(), rtol=1e-6)
    constant = np.zeros((5, 1))
    assert np.isnan(metric.value(metric.summary(constant, constant)))
    one = learner()
    *_, last = evaluate.prequential(one, one.init(net()), [(np.zeros(IN), None)] * 3)
    assert last.scored == 0 and last.window == {}
    with pytest.raises(ValueError, match="task: expected targets of the predictions' shape"):
        evaluate.NRMSE().summary(np.zeros((4, 2)), np.zeros((4,)))
    with pytest.raises(ValueError, match="every: expected an integer of at least 1"):
        evaluate.prequential(one, one.init(net()), [], every=0)
