"""A function as one kernel: the same numbers, where XLA can and where it can't."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rtrl.engine import _one_kernel, joining_kernels, one_kernel

X, Y = jnp.arange(12.0).reshape(4, 3), jnp.arange(3.0)
ASKED = _one_kernel.JAXLIB in _one_kernel.TESTED
OTHER = jax.random.key(0, impl="rbg")
EMPTY = np.zeros((0, 3), "f4")
KEYS = jax.random.split(jax.random.key(0), 0)
PLACES = np.array([1, 3, 1])


def joined(function, *operands):
    """What a function gives as one kernel, and whether it was one."""

    def program(*operands):
        with joining_kernels() as done:
            found = one_kernel(function, *operands)
        was.append(bool(done))
        return found

    was: list[bool] = []
    return jax.jit(program)(*operands), was[0]


def same(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        # One LLVM function where there were several: other products meet their sums.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# XLA ends the process where an argument is left without a use.
WITHOUT_USE = {
    "unused": lambda x, y: x * 2,
    "simplified": lambda x, y: x * 2 + jnp.zeros_like(y)[0] * jnp.where(False, y[0], 1.0),
    "dead": lambda x, y: (x * 2, jnp.where(True, x, y.sum() + x)),
    "handed on": lambda x, y: (x * 2, y),
    "both handed on": lambda x, y: (x, y),
    "constants": lambda x, y: (jnp.zeros(5), jnp.arange(3)),
    "nothing": lambda x, y: (),
    "in a loop": lambda x, y: jax.lax.while_loop(
        lambda c: c[0].sum() < 100, lambda c: (c[0] + 1, c[1]), (x, y)
    )[0],
    "in a branch": lambda x, y: jax.lax.cond(
        x[0, 0] > 1, lambda x, y: x * 2, lambda x, y: x * 3, x, y
    ),
    "empty": lambda x, y: (x * 2, y[:0] * 2),
}


@pytest.mark.parametrize("name", WITHOUT_USE)
def test_an_argument_without_a_use(name):
    found, was = joined(WITHOUT_USE[name], X, Y)
    assert was == ASKED
    same(found, WITHOUT_USE[name](X, Y))


def test_an_argument_that_xla_knows():
    """It may write what it knows into the call, and the argument is without a use."""

    def program(x, y):
        known = jnp.zeros((), bool), jnp.ones(()), jnp.zeros(3), jax.random.key(3), x.ndim * 2

        def function(x, y, go, one, zeros, key, many):
            kept = jax.lax.cond(go, lambda: y * one, lambda: zeros + many)
            return x * kept, jax.random.uniform(key)

        with joining_kernels() as done:
            found = one_kernel(function, x, y, *known)
        assert bool(done) == ASKED
        return found

    same(jax.jit(program)(X, Y), (X * 4, jax.random.uniform(jax.random.key(3))))


def test_small_arrays_take_their_own_place():
    """A copy of each, so that it can be overwritten, would be a kernel by itself."""

    def program(many):
        with joining_kernels():
            return one_kernel(lambda many: [a + sum(b[0] for b in many) for a in many], many)

    many = [jnp.arange(3.0) + i for i in range(20)]
    text = jax.jit(program, donate_argnums=0).lower(many).compile().as_text() or ""
    *_, entry = text.split("ENTRY ")
    assert (entry.count(" copy(") < 5) or not ASKED
    same(jax.jit(program)(many), [a + sum(b[0] for b in many) for a in many])


def test_of_small_arrays_vectors_are_copied():
    """A matrix XLA overwrites where it is: packed, it would be copied twice."""
    vectors = [jnp.arange(9.0), jnp.ones((1, 7)), jnp.ones(())]
    given = [jnp.ones((4, 4)), *vectors, jnp.ones(_one_kernel.SMALL + 1)]
    program = jax.make_jaxpr(_one_kernel._behind)(jnp.zeros(()), given)
    (packed,) = (e for e in program.eqns if e.primitive.name == "concatenate")
    assert packed.outvars[0].aval.size == sum(v.size for v in vectors)


@pytest.mark.parametrize(
    "kind", [bool, np.int8, np.uint32, np.float16, jnp.bfloat16, np.complex64, np.int32]
)
def test_every_kind_of_array(kind):
    a = jnp.asarray(X).astype(kind)

    def function(a, key):
        wide = (a.real if jnp.iscomplexobj(a) else a).astype(jnp.float32)
        return a, wide.sum(0) + jax.random.normal(key, (3,)), jax.random.split(key)

    found, was = joined(function, a, jax.random.key(1))
    assert was == ASKED
    same(found, function(a, jax.random.key(1)))


FITS = {
    "a matrix and a vector": lambda x, y: jnp.tanh(x @ y),
    "an outer product": lambda x, y: x[:, 0, None] * y,
    "a choice by a label": jax.grad(
        lambda x, y: optax.softmax_cross_entropy_with_integer_labels(x[0], y[1].astype(int))
    ),
    "one place": lambda x, y: x.at[y[1].astype(int)].set(5.0),
    "sums along": lambda x, y: (jnp.cumsum(x, 1), x.argmax(1), jnp.exp(x * 1j)),
    "a scan": lambda x, y: jax.lax.scan(lambda c, r: (jnp.tanh(c + r), c * r), y, x),
    "a closure": lambda x, y: x + PLACES + X,
    "an empty array": lambda x, y: x * 2 + jnp.ones((0, 3)).sum(0) + jnp.asarray(EMPTY).sum(0),
    "what jit calls": lambda x, y: jax.jit(lambda x: x * 2)(x) + jax.nn.gelu(y),
}
DOES_NOT = {
    "sorting": lambda x, y: jnp.sort(x),
    "a decomposition": lambda x, y: jnp.linalg.cholesky(x[:3] @ x[:3].T + 9 * jnp.eye(3)),
    "many places": lambda x, y: x.at[PLACES].add(y),
    "a callback": lambda x, y: jax.pure_callback(
        lambda x: x, jax.ShapeDtypeStruct((4, 3), "f4"), x
    ),
    "within a loop": lambda x, y: jax.lax.scan(lambda c, r: (jnp.sort(c + r), c), y, x),
    "another generator": lambda x, y: jax.random.bits(OTHER) * 0 + y,
    "no keys": lambda x, y: x * 2 + jax.random.key_data(KEYS).sum(),
    "large matrices": lambda x, y: (jnp.ones((16, 64)) * y[0]) @ (jnp.ones((64, 64)) * x[0, 1]),
}


@pytest.mark.parametrize("name", [*FITS, *DOES_NOT])
def test_only_what_xla_can_is_one_kernel(name):
    function = (FITS | DOES_NOT)[name]
    found, was = joined(function, X, Y)
    assert was == (name in FITS and ASKED)
    same(found, function(X, Y))


def marks(function, *operands):
    """How many calls of a compiled program are marked."""

    def program(*operands):
        with joining_kernels():
            return one_kernel(function, *operands)

    text = jax.jit(program).lower(*operands).compile().as_text() or ""
    return len(re.findall(r' call\(.*inlineable="false"', text))


def test_the_call_is_marked_and_nothing_in_it(monkeypatch):
    def many(x, y):
        return jnp.where(x > 1, jax.jit(jnp.tanh)(x) @ y[:, None], 0).sum()

    assert marks(many, X, Y) == 1 * ASKED
    monkeypatch.setattr(_one_kernel, "LARGEST", 59)  # of the 60 bytes that there are
    assert marks(many, X, Y) == 0
    monkeypatch.setattr(_one_kernel, "LARGEST", 60)
    monkeypatch.setattr(_one_kernel, "LONGEST", 3)
    assert marks(many, X, Y) == 0
    monkeypatch.undo()
    monkeypatch.setattr(_one_kernel, "TESTED", ())
    assert marks(many, X, Y) == 0
    monkeypatch.undo()
    monkeypatch.setenv("RTRL_SEPARATE_KERNELS", "1")
    assert marks(many, X, Y) == 0


def test_pieces_may_be_of_any_size(monkeypatch):
    def loop(y, x):
        return jax.lax.scan(lambda c, r: (jnp.tanh(c + r), c * r), y, x)

    monkeypatch.setattr(_one_kernel, "LARGEST", Y.nbytes)
    assert marks(lambda x, y: one_kernel(loop, y, x), X, Y) == 0

    def program(x, y):
        with joining_kernels() as done:
            found = one_kernel(loop, y, pieces=(x,))
        assert bool(done) == ASKED
        return found

    same(jax.jit(program)(X, Y), loop(Y, X))
    monkeypatch.setattr(_one_kernel, "LARGEST", Y.nbytes - 1)
    assert marks(lambda x, y: one_kernel(loop, y, pieces=(x,)), X, Y) == 0


def test_calls_of_a_loops_parts_are_not_marked():
    """They would be kernels, too, of which XLA may find an argument without a use."""

    def loop(x, y):
        return jax.lax.scan(lambda c, r: (jax.jit(jnp.tanh)(c + r), r), y, x)

    assert marks(loop, X, Y) == ASKED


def test_the_parts_of_what_is_too_long_are_kernels(monkeypatch):
    def whole(x, y):
        return one_kernel(lambda x: jnp.tanh(x) + 1, x), one_kernel(lambda y: y * 2, y)

    assert marks(whole, X, Y) == 1 * ASKED  # a kernel holds no other
    monkeypatch.setattr(_one_kernel, "LONGEST", 2)
    assert marks(whole, X, Y) == 2 * ASKED


def test_double_precision():
    with jax.enable_x64(True):
        x = jnp.arange(12.0).reshape(4, 3)
        found, was = joined(FITS["a matrix and a vector"], x, x[0])
        assert was == ASKED and found.dtype == jnp.float64
        np.testing.assert_allclose(found, jnp.tanh(x @ x[0]), rtol=1e-14)  # a few roundings


def test_parts_are_tried_where_the_whole_is_not_arithmetic():
    def whole(x, y):
        return jnp.sort(one_kernel(jnp.tanh, x)), y

    assert marks(whole, X, Y) == 1 * ASKED
    assert joined(whole, X, Y)[1] == ASKED


def test_nothing_is_looked_at_where_it_would_not_pay():
    calls = []

    def program(x):
        with joining_kernels() as done:
            found = one_kernel(lambda x: (calls.append(True), x * 2)[1], x, when=False)
        assert not done
        return found

    same(jax.jit(program)(X), X * 2)
    assert len(calls) == 1


def test_nothing_is_asked_outside():
    text = jax.jit(lambda x: one_kernel(jnp.tanh, x)).lower(X).as_text()
    assert "small_call" not in text
