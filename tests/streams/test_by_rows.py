"""What forecasters and classifiers have in common: arguments, interrupts, states that are kept."""

import copy
import pickle
import re
import signal

import jax
import numpy as np
import pytest

import rtrl
from rtrl.engine import _one_kernel
from rtrl.streams import _by_rows, _classifier, _forecaster, _rows, classes, experts

ROWS = 300  # more than a block
XS = np.random.default_rng(0).normal(size=(ROWS, 1))


@pytest.fixture(scope="module", params=["classifier", "forecaster"])
def one(request):
    if request.param == "forecaster":
        return rtrl.Forecaster(1, own=(0,), experts=[experts.Plain(), experts.Lags()])
    return rtrl.Classifier(1, 3, experts=[classes.Chain(), classes.Logistic()])


@pytest.fixture
def ctrl_c(monkeypatch):
    """Python's own handler, also in the background of a shell; lets a function be met by SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def meet(module, name):
        function = getattr(module, name)

        def met(*arguments):
            monkeypatch.setattr(module, name, function)  # once
            signal.raise_signal(signal.SIGINT)
            return function(*arguments)

        monkeypatch.setattr(module, name, met)

    yield meet
    signal.signal(signal.SIGINT, before)


def targets(one):
    return XS if isinstance(one, rtrl.Forecaster) else np.floor(3 * (XS[:, 0] % 1))


def telling(one):
    """Where results are waited for."""
    if isinstance(one, rtrl.Forecaster):
        return _forecaster, "forecast_of"
    return _classifier, "classification_of"


def same(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in leaves)


BAD = [np.nan, np.inf, 1e300, -1.0, "a", None, [1.0, 2.0], [[1.0], [1.0, 2.0]]]


@pytest.mark.parametrize("weight", BAD)
def test_a_weight_that_is_none_is_named_and_changes_nothing(one, weight):
    ys, rows = targets(one), 4
    state, expected = one.init(), one.scan(one.init(), XS[:rows], ys[:rows])[1]
    with pytest.raises(ValueError, match="^weight: expected"):
        one.step(state, XS[0], ys[0], weight)
    given = weight if isinstance(weight, list) else [1.0, 1.0, 1.0, weight]
    for call in (one.scan, one.begin):
        with pytest.raises(ValueError, match="^weights: expected"):
            call(state, XS[:rows], ys[:rows], weights=given)
    with pytest.raises(ValueError, match="^item 0 of the stream: weight: expected"):
        next(one.stream(state, [(XS[0], ys[0], weight)]))
    found = one.scan(state, XS[:rows], ys[:rows])[1]  # not used up either
    assert same(found, expected)


@pytest.mark.parametrize("reset", [np.nan, 2, "a", [True, False], [[True]]])
def test_a_reset_that_is_none_is_named(one, reset):
    state = one.init()
    with pytest.raises(ValueError, match="^reset: expected"):
        one.step(state, XS[0], None, 1.0, reset)
    for call in (one.scan, one.begin):
        with pytest.raises(ValueError, match="^resets: expected"):
            call(state, XS[:3], resets=reset if isinstance(reset, list) else [False, False, reset])


def test_weights_and_resets_may_be_of_any_kind_that_means_them(one):
    ys = targets(one)
    plain = one.scan(one.init(), XS[:9], ys[:9], weights=np.full(9, 2.0), resets=np.arange(9) == 4)
    weights, resets = np.full(9, 2), [0, 0, 0, 0, 1, 0, 0, 0, 0]
    for kinds in ((2.0, resets), (weights, np.array(resets, float)), (np.float32(2), resets)):
        assert same(one.scan(one.init(), XS[:9], ys[:9], weights=kinds[0], resets=kinds[1]), plain)
    assert not same(one.scan(one.init(), XS[:9], ys[:9])[1], plain[1])


def test_the_largest_weight_leaves_numbers(one):
    weights = np.where(np.arange(60) % 20 == 5, 1e18, 1.0)
    told = one.scan(one.init(), XS[:60], targets(one)[:60], weights=weights)[1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(told))


@pytest.mark.parametrize("call", ["step", "scan"])
def test_an_interrupt_while_results_are_waited_for_brings_the_new_state(one, call, ctrl_c):
    ys = targets(one)
    rows = (XS[0], ys[0]) if call == "step" else (XS, ys)
    state, _ = getattr(one, call)(one.init(), *rows)
    used = one.init()
    ctrl_c(*telling(one))
    with pytest.raises(KeyboardInterrupt) as caught:
        getattr(one, call)(used, *rows)
    with pytest.raises(ValueError, match="state"):  # it is the new one, or none
        one.step(used, XS[0])
    kept = caught.value.state  # type: ignore
    assert same(kept, state)
    assert same(one.step(kept, XS[1])[1], one.step(state, XS[1])[1])


@pytest.mark.parametrize("call", ["scan", "begin"])
def test_an_interrupt_in_a_block_comes_after_all_of_them(one, call, ctrl_c):
    ys = targets(one)
    state, _ = one.scan(one.init(), XS, ys)
    assert one.block < ROWS
    ctrl_c(_by_rows, "packed")
    with pytest.raises(KeyboardInterrupt) as caught:
        getattr(one, call)(one.init(), XS, ys)
    kept = caught.value.state  # type: ignore
    assert kept.items == ROWS and same(kept, state)


def test_the_loop_over_rows_is_one_kernel(one):
    """With all that experts have at hand: an array without numbers, where there is one column."""
    ys, _ = one._targets(None, 1, "ys")
    rows = _rows.packed(np.zeros((1, 1)), ys, np.ones(1), np.zeros(1), one.block)
    state = one.init(key=jax.random.key(0))
    text = _rows.run.compile(one, rows, state.inside).as_text() or ""
    *_, entry = text.split("ENTRY ")
    asked = _one_kernel.JAXLIB in _one_kernel.TESTED
    assert len(re.findall(r' call\(.*inlineable="false"', entry)) == asked


def test_of_no_rows_nothing_is_told_and_nothing_changes(one):
    state, some = one.scan(one.init(), XS[:5], targets(one)[:5])
    state = one.reset(state)
    for ys in (None, targets(one)[:0]):
        after, told = one.scan(state, XS[:0], ys, weights=[], resets=np.zeros(0, bool))
        assert after.items == 5 and after.begins
        alike = jax.tree.map(lambda a, b: a.shape[1:] == b.shape[1:] and a.dtype == b.dtype,
                             told, some)  # fmt: skip
        assert all(jax.tree.leaves(alike))
        assert all(len(a) == 0 for a in jax.tree.leaves(told))
    assert same(one.step(after, XS[5])[1], one.step(one.reset(_after_five(one)), XS[5])[1])


def _after_five(one):
    return one.scan(one.init(), XS[:5], targets(one)[:5])[0]


@pytest.mark.parametrize("way", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy])
def test_a_state_goes_through_pickle_and_copy(one, way):
    state, first = _after_five(one), one.init()
    copied = way(state)
    assert same(copied, state) and same(way(first), first)
    ys = targets(one)
    expected = one.scan(state, XS[5:9], ys[5:9])  # it uses up its own arrays alone
    assert same(one.scan(copied, XS[5:9], ys[5:9]), expected)


def test_a_state_that_is_used_up_is_named(one):
    state = _after_five(one)
    one.step(state, XS[5])
    for call in (
        lambda: one.predict(state, XS[5]),
        lambda: one.step(state, XS[5]),
        lambda: one.scan(state, XS[:0]),
        lambda: one.begin(state, XS[:2]),
        lambda: copy.deepcopy(state),
    ):
        with pytest.raises(ValueError, match="^state: expected one that is still there"):
            call()
