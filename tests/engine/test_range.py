"""What is proven of the range of a value holds for every value, rounding and all."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtrl.engine import Range, Ranges, read

EMPTY = np.zeros((0, 3), "f4")
KEY, HALF = jax.random.key(0), jnp.asarray(0.1, jnp.bfloat16)
pytestmark = pytest.mark.core  # it reads what versions of JAX write in different ways

FUNCTIONS = {
    "sums": lambda x, y: x + y - 2 * x,
    "products": lambda x, y: x * y / 3,
    "squares": lambda x, y: jnp.square(x) + y * y + x**3,
    "a quotient": lambda x, y: x / (y * y + 0.5),
    "a root": lambda x, y: jnp.sqrt(x * x) / (jnp.sqrt(y**2) + 1e-3),
    "a root below": lambda x, y: x * jax.lax.rsqrt(y**2 + 1e-6),
    "a power": lambda x, y: 0.9 ** (1 + y * y) + (x * x + 1) ** -2,
    "a negative power": lambda x, y: (jnp.abs(x) + 1) ** -1 + (-1 - y * y) ** -3,
    "cut to integers": lambda x, y: (x * 0.4).astype(jnp.int32) + y.astype(jnp.int8),
    "an integer power": lambda x, y: (jnp.abs(x) + 1) ** -3 + jnp.power(y, 2.0),
    "rising": lambda x, y: jnp.exp(jnp.minimum(x, 2.0)) + jnp.tanh(y),
    "bounded": lambda x, y: jnp.cos(x) * jnp.sin(y) + jax.nn.sigmoid(x) + jnp.sign(y),
    "a choice": lambda x, y: jnp.where(x > y, x, -y),
    "a choice that is made": lambda x, y: jnp.where(x < 100, x, jnp.inf),
    "a choice of three": lambda x, y: jax.lax.select_n(jnp.full_like(x, 2, int), x, y, x + y),
    "an absolute value": lambda x, y: 1 / jnp.abs(x - 5) + 1 / jnp.abs(y + 5),
    "limits": lambda x, y: jnp.clip(x, -0.5, 1.5) + jnp.maximum(y, 0.25),
    "steps": lambda x, y: jnp.floor(x) + jnp.ceil(y) + jnp.round(x),
    "sums of many": lambda x, y: jnp.stack([x, y, x, y]).sum() + jnp.concatenate([x, y])[0],
    "a logarithm": lambda x, y: jnp.log(x * x + 1),
    "a branch": lambda x, y: jax.lax.cond(x[0] > 0, lambda: x + 1, lambda: y * 2),
    "a call": lambda x, y: jax.jit(lambda a: a * 2)(x) + jax.nn.relu(y),
    "a barrier": lambda x, y: jax.lax.optimization_barrier((x, y))[0] * y,
    "a truth as a number": lambda x, y: (x * 100).astype(bool).astype("f4") + y,
    "a loop": lambda x, y: jax.lax.fori_loop(0, 3, lambda _, c: jnp.tanh(c + y), x),
    "integers": lambda x, y: (jnp.asarray(3) + jnp.where(x > 0, 1, 2)) * x,
    "half precision": lambda x, y: (x.astype(jnp.bfloat16) * y.astype(jnp.bfloat16)).astype("f4"),
    "a number of half precision": lambda x, y: (x.astype("bfloat16") * HALF).astype("f4") + y,
}


def ranges(function, *of):
    shapes = [jax.ShapeDtypeStruct((1,), jnp.float32)] * len(of)
    closed = jax.make_jaxpr(function)(*shapes)
    return read(Ranges(), closed.jaxpr, [*of], closed.consts)


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=10)
@given(numbers=st.lists(st.floats(-3, 3, width=32, allow_subnormal=False), min_size=4, max_size=4))
def test_every_value_lies_in_its_range(name, numbers):
    a, b, c, d = numbers
    x, y = Range(min(a, b), max(a, b)), Range(min(c, d), max(c, d))
    (found,) = ranges(FUNCTIONS[name], x, y)
    assert found.known, name
    grid = np.meshgrid(*(np.linspace(r.low, r.high, 5, dtype="f4") for r in (x, y)))
    values = jax.vmap(FUNCTIONS[name])(*(a.reshape(-1, 1) for a in grid))
    assert found.low <= float(values.min()) and float(values.max()) <= found.high


NOT_FINITE = {
    "divided by what may be zero": lambda x: 1 / x,
    "a root of what may be negative": jnp.sqrt,
    "an inverse root of zero": lambda x: jax.lax.rsqrt(jnp.square(x)),
    "a logarithm of zero": lambda x: jnp.log(jnp.square(x)),
    "too large": lambda x: jnp.exp(x * 1000),
    "too large at once": lambda x: x * 1e30 * 1e30,
    "too large in between": lambda x: (x * 1e30 * 1e30) * 0,
    "too large for a half": lambda x: (x * 1e30).astype(jnp.float16),
    "an inverse": lambda x: x**-1,
    "an inverse of a power": lambda x: x**-2,
    "an inverse as a power": lambda x: jax.lax.pow(x, jnp.full_like(x, -3)),
    "an inverse of a power that is lost": lambda x: (jnp.abs(x) + 1e-19) ** -2,
    "divided by what is cut to zero": lambda x: 1 / (jnp.abs(x) * 0.1 + 0.5).astype(jnp.int32),
    "divided by what may be taken for zero": lambda x: x * 0.01 / 1e-38,
    "an inverse root of that": lambda x: x + jax.lax.rsqrt(jnp.full_like(x, 1e-40)),
    "from below": lambda x: x + jax.lax.rsqrt(jnp.abs(jnp.full_like(x, -1e-40))),
    "nothing at all": lambda x: x + jnp.asarray(EMPTY).sum(),
    "the largest of none": lambda x: jax.lax.reduce_max(x[:0], (0,)) + x,
    # Where XLA regroups factors, it meets infinity or zero on the way.
    "a quotient below": lambda x: 1e20 / (1e30 / (x + 1e20)),
    "the opposite of one": lambda x: 1e20 / -(1e30 / (x + 1e20)),
    "the absolute value of one": lambda x: 1e20 / jnp.abs(1e30 / (x + 1e20)),
    "quotients one after another": lambda x: x * 1e-10 / 1e-20 / 1e-20,
    "factors one after another": lambda x: x * 1e-35 * 1e30 * 1e20,
    "a key at hand": lambda x: x + jax.random.uniform(KEY),
    "an unknown constant": lambda x: x + jnp.inf,
    "what is not read": lambda x: jnp.sort(x),
    "a loop that grows": lambda x: jax.lax.while_loop(
        lambda c: c[0] < 1e30, lambda c: c * 2 + 1, x
    ),
    "an integer that wraps around": lambda x: (jnp.int32(2**31 - 1) + x.astype(jnp.int32)).astype(
        jnp.float32
    ),
    "a quotient of integers": lambda x: jax.lax.div(jnp.int32(1), jnp.int32(2)) + x,
    "limits of no number": lambda x: jnp.clip(jnp.sqrt(x), -1.0, 1.0),
    "a bounded function of no number": lambda x: jnp.cos(jnp.log(x)),
    "complex": lambda x: jax.lax.complex(x, x),
}


@pytest.mark.parametrize("name", NOT_FINITE)
def test_nothing_is_known_of_what_need_not_be_finite(name):
    assert not ranges(NOT_FINITE[name], Range(-2.0, 2.0))[0].known


def test_a_comparison_that_is_decided():
    below, above = Range(0.0, 1.0), Range(2.0, 3.0)
    for sign, surely in (("lt", True), ("le", True), ("gt", False), ("ge", False)):
        compare = getattr(jax.lax, sign)
        assert ranges(compare, below, above) == [Range(surely, surely)]
        assert ranges(compare, above, below) == [Range(not surely, not surely)]
        assert ranges(compare, below, below) == [Range(0, 1)]
    assert ranges(jax.lax.lt, below, Range(1.0, 2.0)) == [Range(0, 1)]
    assert ranges(jax.lax.lt, Range(1.0, 2.0), below) == [Range(0, 0)]
    assert ranges(jax.lax.le, below, Range(1.0, 2.0)) == [Range(1, 1)]
    assert ranges(jax.lax.lt, Range(-math.inf, math.inf), below) == [Range(0, 1)]


def test_numbers_that_are_not_negative_stay_so():
    (found,) = ranges(lambda x: jnp.sqrt(0.5 * x + 0.5 * jnp.square(x - 1)), Range(0.0, 1.0))
    assert found.low == 0
    (found,) = ranges(lambda x: -0.5 * x, Range(0.0, 1.0))
    assert found.high == 0


def test_what_doubles_do_not_tell_apart_is_not_known():
    with jax.enable_x64(True):
        assert not Ranges().constant(np.int64(2**53 + 1)).known
        assert not ranges(lambda x: (x * 2.0**53).astype(jnp.int64), Range(1.0, 1.5))[0].known
    a, b = Range(0.0, 2.0**500), Range(0.0, 2.0**500 * (1 + 2**-50))
    assert Ranges().either(a, b).high >= b.high
