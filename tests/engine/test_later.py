"""Gradients that are computed where they are read are the gradients that were stored before."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import data, network, squared_error

import rtrl
from rtrl.engine import Later, _later, computed, later, rarely_times

T, WILD = 40, 36  # more than a guard looks at before it bounds
KINDS = {
    "LRU": ("LRU", {}),
    "gated": ("MinGRU", {}),
    "spikes": ("LIF", {}),
    "bounded": ("MinGRU", {"guard": rtrl.Guard(bound=2)}),
    "going back": ("MinGRU", {"guard": rtrl.Guard(divergence=2.0)}),
    "two chunks an update": ("MinGRU", {"update_every": 2}),
    "nothing looked for": ("MinGRU", {"on_nonfinite": "ignore"}),
    "approximate": ("LRU", {"rule": rtrl.SnAp1()}),
    "narrow": ("LRU", {"trace_dtype": "int8"}),
    "filter": ("LRU", {"optimizer": rtrl.kalman()}),
}


def outer(x, y):
    return x.sum(), [x[:, None] * y, jnp.where(x.sum() > 0, jnp.outer(y, x).T, 0)]


def told(kind, large, monkeypatch):
    """What learning gives where arrays of so many numbers are large, and what was put off."""
    cell, options = KINDS[kind]
    options = {"optimizer": optax.adam(1e-2), **options}
    put_off = []
    monkeypatch.setattr(_later, "LARGE", large)
    monkeypatch.setattr(
        _later._Recipe,
        "__init__",
        lambda self, *a, _made=_later._Recipe.__init__: (
            _made(self, *a),
            put_off.extend(v.aval.shape for v in set(self._wanted) - set(self.needs)),
        )[0],
    )

    def loss(prediction, y):  # one of its own, or the program would be that of the last call
        return 0.5 * squared_error(prediction, y)

    learner = rtrl.OnlineLearner(loss, options.pop("optimizer"), **options)
    state = learner.init(network(cell, depth=1))
    xs, ys, weights, resets = data(T, None, 0)
    ys = np.where(np.arange(T)[:, None] == WILD, 1e3, ys)  # of a gradient to be bounded
    ys[3] = np.nan
    weights = np.where(np.arange(T) == WILD, 50, weights)
    state, _ = learner.step(state, xs[0], ys[0])
    state, out = learner.scan(state, xs, ys, chunk=1, weights=weights, resets=resets)
    if kind == "bounded":
        assert out.bounded[WILD] == 2  # the target, and the gradient
    monkeypatch.undo()
    return (state, out), put_off


@pytest.mark.parametrize("kind", KINDS)
def test_learning_is_the_same(kind, monkeypatch):
    found, put_off = told(kind, 1, monkeypatch)
    expected, none = told(kind, 1 << 30, monkeypatch)
    assert not none
    assert put_off or kind == "filter"
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            continue
        # Products that are not stored may be fused with the sums that they go into.
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("function", [outer, jax.jit(outer)], ids=["plain", "compiled"])
def test_what_is_put_off_is_the_same(function, monkeypatch):
    monkeypatch.setattr(_later, "LARGE", 8)
    x, y = jnp.arange(1.0, 4), jnp.arange(4.0)

    def program(x, y):
        total, tree = later(outer, x, y, run=lambda f, *a: f(*a), when=True)
        assert isinstance(tree, Later)
        assert {a.size for a in tree.operands} <= {1, 3, 4}
        return total, computed(tree), computed(rarely_times(tree, x[1], x[0] > 0))

    total, arrays, twice = jax.jit(program)(x, y)
    expected = function(x, y)
    for a, b, c in zip(arrays, twice, expected[1], strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, 2 * c)
    assert total == expected[0]


def test_constants_are_arrays(monkeypatch):
    """The gradient of what has no part in a loss, say."""
    monkeypatch.setattr(_later, "LARGE", 8)
    large = jnp.arange(9.0)

    def constants(x):
        return x, [jnp.zeros(()), jnp.zeros((4, 4)), jax.lax.full((), 2.0), large]

    _, tree = later(constants, jnp.ones(3), run=lambda f, *a: f(*a), when=True)
    for array, value in zip(computed(tree), (0, 0, 2, large), strict=True):
        assert isinstance(array, jax.Array) and array.dtype == np.float32
        np.testing.assert_array_equal(array, np.broadcast_to(value, array.shape))


@pytest.mark.parametrize(
    ("function", "stored"),
    [
        (lambda x, y: ((), [jnp.sin(x) * y]), True),  # two to be read in place of one
        (lambda x, y: ((), [jnp.sin(x) * y[0]]), False),
        (lambda x, y: ((), [jnp.sin(x * y[0])]), True),  # not simple
        (lambda x, y: ((), [(x * y).sum(0)]), True),
        (lambda x, y: ((), [x @ y.T]), True),
        (lambda x, y: ((), [(x + 1j * y).real * y[0]]), True),  # twice as many bytes
        (lambda x, y: ((), [x]), True),
        (lambda x, y: ((), [jax.jit(jnp.sin)(x)]), True),
        (lambda x, y: ((), [jax.jit(jnp.negative)(jnp.sin(x))]), False),
        (lambda x, y: ((), [jnp.sin(x) * jnp.sin(x).T]), True),
        (lambda x, y: ((), [(s := jnp.sin(x)) * s]), False),  # one, read twice
        (lambda x, y: ((), [jnp.sin(x[:, :1]) @ jnp.cos(y[:1])]), False),
        (lambda x, y: ((), [jnp.sin(x[:2].T) @ jnp.cos(y[:2])]), True),  # a sum of products
    ],
)
def test_nothing_that_costs_more_than_to_read_it_is_put_off(function, stored, monkeypatch):
    monkeypatch.setattr(_later, "LARGE", 9)
    x, y = jnp.arange(16.0).reshape(4, 4), jnp.ones((4, 4))
    _, tree = later(function, x, y, run=lambda f, *a: f(*a), when=True)
    recipe = tree.recipe  # type: ignore[union-attr]
    assert (recipe._wanted == recipe.needs) == stored
    np.testing.assert_array_equal(computed(tree)[0], function(x, y)[1][0])


def test_a_large_gradient_takes_no_memory(monkeypatch):
    """Of a compiled learning step; where arrays are stored it does."""
    size = 64  # matrices of 4096 numbers
    temporary = []
    for large in (_later.LARGE, 1 << 30):
        monkeypatch.setattr(_later, "LARGE", large)
        model = rtrl.SequenceModel(
            8, 2, size, 2, lambda n, key: rtrl.cells.MinGRU(n, size, key=key), glu=None,
            key=jax.random.key(0),
        )  # fmt: skip
        learner = rtrl.OnlineLearner(lambda p, y: ((p - y) ** 2).sum(), optax.sgd(1e-2))
        state = learner.init(model)
        step = jax.jit(lambda s, x, y, of=learner: of.step(s, x, y), donate_argnums=0)
        compiled = step.lower(state, jnp.ones(8), jnp.ones(2)).compile()
        analysis: Any = compiled.memory_analysis()
        temporary.append(analysis.temp_size_in_bytes)
    matrices = 2 * 3  # two of a cell, one of its readout, in each layer
    assert temporary[1] - temporary[0] > 0.8 * matrices * size**2 * 4
