"""Rounding at random keeps the mean; its bits are those of a hash that any machine can compute."""

import jax
import jax.numpy as jnp
import narrow_oracle
import numpy as np
import pytest

from rtrl.engine import _narrow, narrow, widen

pytestmark = pytest.mark.core
ROWS = np.random.default_rng(0).normal(size=(6, 40)) * 10.0 ** np.arange(-3, 3)[:, None]
ROWS = ROWS.astype("f4")
COMPLEX = (ROWS + 1j * ROWS[::-1, ::-1]).astype("c8")


def many(a, dtype, times):
    """The array rounded at many times, in float64."""
    kept = jax.jit(jax.vmap(lambda t: widen(narrow(a, dtype, t, 3))))(times)
    return np.asarray(kept).astype(complex if np.iscomplexobj(a) else float)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("a", [ROWS, COMPLEX], ids=["real", "complex"])
def test_the_bits_are_those_of_plain_numpy(a, dtype):
    for time, number in ((0, 0), (1, 2), (2**32 - 1, 70_000)):
        found = widen(narrow(jnp.asarray(a), dtype, jnp.uint32(time), number))
        expected, _ = narrow_oracle.rounded(a, dtype, time, number)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("a", [ROWS, COMPLEX], ids=["real", "complex"])
def test_the_mean_is_kept_and_nothing_moves_by_a_unit(a, dtype):
    times = jnp.arange(4000, dtype=jnp.uint32)
    kept = many(a, dtype, times)
    _, unit = narrow_oracle.rounded(a, dtype, 0, 0)
    for part in (np.real, np.imag):
        error = (part(kept) - part(a)) / unit
        # A number between two values takes the upper with probability p: variance p (1 - p) <= 1/4.
        # The largest of 240 means is within 5 deviations; float32 itself rounds units of 127.
        assert np.abs(error.mean(0)).max() < 5 * 0.5 / len(times) ** 0.5
        assert np.abs(error).max() < 1 + 1e-4


def climb(dtype, steps=4096):
    """1024 numbers that grow from 1 by 1/2000 a step, each beside one of 100."""

    def body(a, time):
        return widen(narrow(a.at[:, 0].add(5e-4), dtype, time, 0)), None

    a = jnp.stack([jnp.ones(1024), jnp.full(1024, 100.0)], 1)
    return np.asarray(jax.lax.scan(body, a, jnp.arange(steps, dtype=jnp.uint32))[0][:, 0])


@pytest.mark.parametrize(("dtype", "unit"), [("bfloat16", 2**-6), ("int8", 100 / 127)])
def test_small_steps_are_not_lost_where_rounding_to_nearest_loses_them(dtype, unit, monkeypatch):
    # Every step's error has at most a variance of unit^2 / 4, 4096 of them in each of 1024 numbers.
    deviation = unit / 2 * (4096 / 1024) ** 0.5
    assert abs(climb(dtype).mean() - (1 + 4096 * 5e-4)) < 5 * deviation
    monkeypatch.setattr(
        _narrow, "random_words", lambda shape, *_: jnp.full(shape, 0x8000_8000, "u4")
    )
    assert np.ptp(climb(dtype)) == 0 and abs(climb(dtype)[0] - 1) < unit / 2


def test_the_random_bits_are_balanced_and_independent():
    n = 1 << 14
    rows = [narrow_oracle.words((n,), time, number) for time in range(3) for number in range(2)]
    np.testing.assert_array_equal(rows[3], _narrow.random_words((n,), jnp.uint32(1), 1))
    bits = np.stack([(row[:, None] >> np.arange(32, dtype="u4")) & 1 for row in rows])
    signs = 2.0 * np.concatenate([*bits, bits[0][1:].tolist() + [bits[0][0].tolist()]], 1) - 1
    # 224 means and 25,000 products of independent signs: deviation 1 / sqrt(n), 6 of them.
    assert np.abs(signs.mean(0)).max() < 6 / n**0.5
    assert np.abs(signs.T @ signs / n - np.eye(signs.shape[1])).max() < 6 / n**0.5


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_what_is_not_finite_stays_so_and_zero_is_zero(dtype):
    nans = np.array([0x7FC00000, 0xFFFFFFFF, 0x7FFFFFFF, 0x7F800000, 0xFF800000], np.uint32)
    for bad in nans.view(np.float32):
        for time in range(8):
            a = jnp.array([[bad, 1.0], [0.5, 1.0]])
            found = np.asarray(widen(narrow(a, dtype, jnp.uint32(time), 0)))
            assert not np.isfinite(found[0, 0]) and np.isfinite(found[1]).all()
            kept = narrow(a, dtype, jnp.uint32(time), 0).real
            assert dtype != "int8" or not np.asarray(kept[0]).any()
    for tiny in (0.0, 1e-40, 1e-37):
        found = np.asarray(widen(narrow(jnp.full((2, 3), tiny), dtype, jnp.uint32(5), 0)))
        assert np.abs(found).max() <= 2 * tiny
    kept = narrow(jnp.full((2, 3), 1e-36), dtype, jnp.uint32(5), 0).real  # 1 / scale: infinite
    assert dtype != "int8" or not np.asarray(kept).any()


def test_the_largest_of_a_row_stays_in_range():
    """127 units and all that rounding may add, where the quotient is a little more than 127."""
    a = np.random.default_rng(0).normal(size=(2000, 1)).astype("f4")
    scale = np.asarray(np.abs(a) * np.float32(1 / 127))
    assert (np.abs(a * (1 / scale)) > 127).any()
    for noise in (0, 0xFFFF):
        units = _narrow._units(jnp.asarray(a), jnp.full(a.shape, noise, "u4"), jnp.asarray(scale))
        assert set(np.abs(np.asarray(units)).ravel()) <= {126.0, 127.0}
