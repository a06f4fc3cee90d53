"""A classifier: probabilities that are right, whoever is right, however rows are cut."""

import jax
import numpy as np
import pytest

import rtrl
from rtrl.streams import classes

ROWS = 700
CHAIN = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.4, 0.4, 0.2]])


def chain(rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``(rows, 1)`` that say little, and classes of a Markov chain."""
    rng = np.random.default_rng(seed)
    ys = [0]
    for _ in range(rows - 1):
        ys.append(rng.choice(3, p=CHAIN[ys[-1]]))
    return rng.normal(size=(rows, 1)) + 0.1 * np.array(ys)[:, None], np.array(ys, float)


@pytest.fixture(scope="module")
def model() -> rtrl.Classifier:
    """One for all tests, so that it is compiled once; it keeps states that it is given."""
    return rtrl.Classifier(1, 3, donate=False)


@pytest.fixture(scope="module")
def told(model) -> rtrl.Classification:
    xs, ys = chain()
    return model.scan(model.init(), xs, ys)[1]


def surprise(probabilities: np.ndarray, ys: np.ndarray) -> float:
    return -np.log(np.take_along_axis(probabilities, ys[:, None].astype(int), 1)).mean()


def test_probabilities_come_near_those_of_the_law(told):
    _, ys = chain()
    p = told.probabilities
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-6)
    best = surprise(CHAIN[ys[:-1].astype(int)], ys[1:])
    # The price of not knowing: a Markov chain of nine numbers, and log 8 / rows for the experts.
    assert best < surprise(p[:-1], ys[1:]) < best + 0.03
    frequencies = surprise(told.experts[:-1, 0], ys[1:])
    assert frequencies > best + 0.1  # the negative control: classes alone say less


def test_experts_are_what_they_are_called(told, model):
    """Frequencies and the chain, against counts by hand."""
    _, ys = chain()
    where = dict(zip(model.names, range(len(model.names)), strict=True))
    counts, pairs = np.full(3, 0.5), np.zeros((3, 3))
    for t in range(ROWS - 1):
        now = int(ys[t])
        if t:
            counts[now] += 1
            pairs[int(ys[t - 1]), now] += 1
        share = counts / counts.sum()
        np.testing.assert_allclose(told.experts[t, where["class frequencies"]], share, rtol=1e-4)
        after = (pairs[now] + share) / (pairs[now].sum() + 1)
        np.testing.assert_allclose(told.experts[t, where["after the last class"]], after, rtol=1e-4)


def test_weights_are_those_of_bayes_with_a_share_and_the_product_follows_its_gradient(told, model):
    """The mixture by hand, in float64."""
    _, ys = chain()
    weights = np.full(len(model.names), 1 / len(model.names))
    exponents, judge = weights.copy(), np.array([0.7, 0.3])
    for t in range(200):
        each = told.experts[t].astype(float)
        product = np.prod(each ** exponents[:, None], 0)
        product /= product.sum()
        views = np.stack([weights @ each, product])
        np.testing.assert_allclose(told.weights[t], weights, rtol=2e-3, atol=1e-6)
        np.testing.assert_allclose(told.probabilities[t], judge @ views, rtol=1e-4, atol=1e-6)
        now, logs = int(ys[min(t + 1, ROWS - 1)]), np.log(each)
        slope = logs @ product - logs[:, now]  # of the product's surprise
        shifted = np.prod(each ** (exponents + 1e-6 * slope)[:, None], 0)
        rise = np.log(product[now]) - np.log(shifted[now] / shifted.sum())
        assert rise == pytest.approx(1e-6 * slope @ slope, rel=1e-3, abs=1e-12)
        exponents -= 0.02 * slope
        weights, judge = (
            0.999 * new / new.sum() + 0.001 / len(new)
            for new in (weights * each[:, now], judge * views[:, now])
        )
    assert np.abs(told.probabilities[:200] - np.einsum(
        "te,tec->tc", told.weights[:200], told.experts[:200])).max() > 0.01  # fmt: skip


def test_how_rows_are_cut_changes_no_bit(told, model):
    xs, ys = chain()
    state, parts, first = model.init(), [], 0
    for count in (1, 1, 5, 300, 393):
        rows = slice(first, first + count)
        if count == 1:
            state, out = model.step(state, xs[first], ys[first])
            out = jax.tree.map(lambda a: a[None], out)
        else:
            state, out = model.scan(state, xs[rows], ys[rows])
        parts.append(out)
        first += count
    assert state.items == ROWS
    np.testing.assert_array_equal(np.concatenate([p.probabilities for p in parts]),
                                  told.probabilities)  # fmt: skip


def test_no_answer_depends_on_what_has_not_come(told, model):
    xs, ys = chain()
    other = (ys + (np.arange(ROWS) >= 400)) % 3
    changed = model.scan(model.init(), xs, other)[1].probabilities
    np.testing.assert_array_equal(changed[:400], told.probabilities[:400])
    assert (changed[400] != told.probabilities[400]).any()


def test_a_missing_class_and_a_weight_of_zero_teach_nothing(model):
    xs, ys = chain(60)
    missing = np.where(np.arange(60) % 3 == 1, np.nan, ys)
    gone = model.scan(model.init(), xs, missing)
    assert gone[1].skipped.sum() == 20
    counts = np.asarray(gone[0].inside.experts[0])[0]
    taught = missing[1:][np.isfinite(missing[1:])].astype(int)
    np.testing.assert_array_equal(counts, np.bincount(taught, minlength=3))
    weights = np.isfinite(missing).astype(float)
    unweighted = model.scan(model.init(), xs, ys, weights=weights)[0]
    np.testing.assert_array_equal(np.asarray(unweighted.inside.experts[0])[0], counts)


def test_a_reset_forgets_the_last_classes_and_a_state_survives_a_file(model, tmp_path):
    xs, ys = chain(80)
    state, _ = model.scan(model.init(), xs, ys)
    rtrl.save(tmp_path / "state", state)
    loaded = rtrl.load(tmp_path / "state", like=model.init(key=jax.random.key(9)))
    after = [model.step(s, xs[0], 1.0)[1].probabilities for s in (state, loaded)]
    np.testing.assert_array_equal(*after)
    fresh = model.predict(model.reset(state), xs[0])
    place = model.names.index("after the last class")
    frequencies = fresh.experts[model.names.index("class frequencies")]
    np.testing.assert_allclose(fresh.experts[place], frequencies, rtol=1e-5)
    assert np.abs(model.predict(state, xs[0]).experts[place] - frequencies).max() > 0.05


def test_the_network_learns_what_takes_memory():
    """The class is the sign of the input two rows before: no chain or regression can know."""
    rng = np.random.default_rng(1)
    xs = rng.choice([-1.0, 1.0], size=(3000, 1))
    ys = np.concatenate([[0, 0], xs[:-2, 0] > 0]).astype(float)
    one = rtrl.Classifier(1, 2, delay=0, experts=[classes.ClassNetwork(), classes.Logistic()])
    out = one.scan(one.init(), xs, ys)[1]
    network, *regressions = ((out.experts.argmax(-1) == ys[:, None])[2000:]).mean(0)
    assert network > 0.95
    assert max(regressions) < 0.6


def test_with_no_delay_the_class_of_a_row_is_told_before_it_is_seen():
    xs, ys = chain(300)
    one = rtrl.Classifier(3, 3, delay=0, experts=[classes.Logistic()])
    given = np.eye(3)[ys.astype(int)]  # the input says which class it is
    out = one.scan(one.init(), given, ys)[1]
    assert (out.prediction == ys)[100:].mean() > 0.99
    np.testing.assert_allclose(out.probabilities[0], 1 / 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda m: rtrl.Classifier(1, 1), "classes"),
        (lambda m: rtrl.Classifier(1, 3, own=[1]), "own"),
        (lambda m: rtrl.Classifier(1, 3, memory=0), "memory"),
        (lambda m: rtrl.Classifier(1, 3, experts=[]), "experts"),
        (lambda m: m.step(m.init(), [0.0], 3.0), "y"),
        (lambda m: m.step(m.init(), [0.0], 0.5), "y"),
        (lambda m: m.scan(m.init(), [[0.0], [1.0]], [1.0, -1.0]), "ys"),
        (lambda m: m.step(m.init(), [0.0, 1.0], 1.0), "x"),
        (lambda m: m.stream(m.init(), [], delay=2), "delay"),
    ],
)
def test_mistakes_are_named(call, named, model):
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        call(model)
