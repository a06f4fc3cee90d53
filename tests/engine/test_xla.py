"""What keeps XLA on a CPU from computing things twice gives what the plain form gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtrl.engine._xla import sum_over_samples


@given(samples=st.integers(1, 50), complex_=st.booleans(), products=st.booleans())
def test_a_sum_over_samples(samples, complex_, products):
    rng = np.random.default_rng(samples)
    a, b = rng.normal(size=(2, samples, 3, 2)).astype("f4")
    if complex_:
        a, b = a + 1j * b, b - 1j * a
    errors, s = a[:, :, :1], b
    found = jax.jit(lambda *given: sum_over_samples(jnp.multiply, *given, products=products))(
        errors, s
    )
    expected = (errors.astype("c16") * s).sum(0)
    assert found.dtype == s.dtype
    # Fifty roundings of single precision, of numbers of about one.
    np.testing.assert_allclose(found, expected, atol=5e-5)


@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16])
def test_halves_are_added_in_single_precision(kind):
    s = jnp.asarray(np.random.default_rng(0).uniform(0, 2, (4096, 8)), kind)
    found = sum_over_samples(jnp.multiply, jnp.ones((4096, 1), kind), s)
    assert found.dtype == kind
    # One rounding at the end; adding in halves is off by several times as much.
    expected = np.asarray(s, np.float64).sum(0)
    np.testing.assert_allclose(np.asarray(found, float), expected, rtol=float(jnp.finfo(kind).eps))


@pytest.mark.parametrize(
    ("kind", "products", "sums"), [("f4", True, 0), ("c8", True, 1), ("c8", False, 0)]
)
def test_xla_is_left_to_sum_products_of_complex_numbers_alone(kind, products, sums):
    def total(w, s):
        return sum_over_samples(jnp.multiply, w, s, products=products)

    a = np.ones((16, 3, 2), kind)
    program = str(jax.make_jaxpr(total)(a, a))
    assert program.count("reduce_sum") == sums + 1  # one for other devices


@pytest.mark.parametrize("samples", [2, 16, 33])
def test_every_sample_is_summed_once_by_a_term_of_its_own(samples):
    def term(w, s):
        return jnp.where(w == 0, 0, w * s)

    s = jnp.arange(1.0, samples + 1)[:, None]
    w = jnp.ones((samples, 1)).at[1].set(0)
    s = s.at[1].set(jnp.inf)  # what is not read
    assert sum_over_samples(term, w, s) == samples * (samples + 1) / 2 - 2
