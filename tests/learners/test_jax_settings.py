"""What a user may switch on in JAX, and what donation and threads must not break."""

import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import data, network, squared_error

import rtrl

XS, YS, _, _ = data(6, None, 0)


def learner(**options):
    return rtrl.OnlineLearner(squared_error, optax.adam(1e-2), **options)


@pytest.mark.core
def test_device_arrays_alone_need_no_implicit_transfer():
    one = learner()
    for batch in (None, 2):
        xs, ys, _, _ = data(6, batch, 0)
        x, y, on_host = xs[0], ys[0], np.asarray(xs[0])
        state = one.init(network("LRU", depth=1), batch)
        with jax.transfer_guard("disallow"):
            for _ in range(2):
                state, _ = one.step(state, x, y)
            state, _ = one.step(state, x, reset=True)
            state, _ = one.scan(state, xs, ys, chunk=4)
            one.predict(state, x)
            state = one.reset(state)
            with pytest.raises(Exception, match="transfer"):  # the guard is on
                one.step(state, on_host, y)


@pytest.mark.core
def test_a_missing_loss_is_nan_also_where_jax_allows_none():
    one = learner()
    state = one.init(network("LRU", depth=1))
    bad = np.full(3, np.nan, np.float32)

    def compiled():
        return eqx.filter_jit(lambda state, x: one.step(state, x)[1].loss)

    assert np.isnan(compiled()(state, XS[0]))
    with jax.debug_nans(True):
        assert compiled()(state, XS[0]) == np.inf
        state, out = one.step(state, XS[0])
        assert np.isnan(out.loss)
        state, out = one.step(state, bad, YS[0])
        assert np.isnan(out.loss) and out.skipped == 1 and np.isfinite(out.prediction).all()
        state, out = one.step(state, XS[0], bad[:2])
        assert np.isnan(out.loss) and out.skipped == 1
        state, out = one.scan(state, XS)
        assert np.isnan(out.loss[1:]).all() and jax.tree.map(np.shape, out).loss == (6,)
        known = [(x, y if i % 2 else None) for i, (x, y) in enumerate(zip(XS, YS, strict=True))]
        for last, out in one.stream(state, known, chunk=6):  # noqa: B007
            pass
        assert np.isnan(out.loss).tolist() == [True, False] * 3
    _, out = one.step(rtrl.close_stream(one, last), XS[0])
    assert np.isnan(out.loss) and isinstance(out.loss, jax.Array)


@pytest.mark.core
@pytest.mark.parametrize("wrap", [lambda one: one, rtrl.Standardized], ids=["plain", "scaled"])
def test_a_state_that_was_used_up_is_named(wrap, tmp_path):
    one = wrap(learner())
    items = [(np.asarray(x), np.asarray(y)) for x, y in zip(XS, YS, strict=True)]
    used = one.init(network("LRU", depth=1))
    stream = rtrl.open_stream(used, chunk=2)
    one.step(used, *items[0])
    for call in [
        lambda: one.step(used, *items[0]),
        lambda: one.scan(used, XS, YS),
        lambda: one.predict(used, XS[0]),
        lambda: one.reset(used),
        lambda: rtrl.save(tmp_path / "state", used),
        lambda: list(one.stream(used, items)),
        lambda: list(one.stream(stream, items, chunk=2)),
        lambda: rtrl.save(tmp_path / "state", stream),
    ]:
        with pytest.raises(ValueError, match="state: .*used up.*donate=True.*donate=False"):
            call()
    (held, _), *_ = one.stream(one.init(network("LRU", depth=1)), items[:1], chunk=2)
    rtrl.close_stream(one, held)
    with pytest.raises(ValueError, match="state: .*used up"):
        rtrl.close_stream(one, held)
    assert not (tmp_path / "state").exists()


def test_data_that_were_deleted_are_not_blamed_on_the_state():
    one = learner()
    gone = jnp.array(XS[0])
    gone.delete()
    with pytest.raises(RuntimeError, match="deleted"):
        one.step(one.init(network("LRU", depth=1)), gone, YS[0])


@pytest.mark.core
def test_threads_with_states_of_their_own_do_not_disturb_each_other():
    one, model = learner(), network("LRU", depth=1)
    xs = [jax.random.normal(jax.random.key(i), (40, 3)) for i in range(2)]
    ys = [jax.random.normal(jax.random.key(9 + i), (40, 2)) for i in range(2)]
    starts = [one.init(model) for _ in range(4)]
    ends, failures, barrier = {}, [], threading.Barrier(2)

    def learn(i, state):
        for t in range(40):
            state, _ = one.step(state, xs[i % 2][t], ys[i % 2][t])
        ends[i], _ = one.scan(state, xs[i % 2], ys[i % 2], chunk=5)

    def together(i):
        try:
            barrier.wait()
            learn(i, starts[i])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=together, args=(i,)) for i in range(2)]
    for thread in threads:  # the first calls: both compile
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for i in (2, 3):
        learn(i, starts[i])
    for a, b in ((0, 2), (1, 3)):
        pair = (jax.tree.leaves(eqx.filter(ends[i], eqx.is_inexact_array)) for i in (a, b))
        assert all(np.array_equal(x, y) for x, y in zip(*pair, strict=True))
