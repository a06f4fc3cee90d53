"""Finite width: exact energies against integers, samples and limits; advice against simulation."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rtrl
from rtrl.analysis import (
    advise,
    critical_profile,
    ginibre_energy,
    log_ginibre_energy,
    ring_energy,
    sampled_energy,
)
from rtrl.analysis._advise import jacobian_at_rest

SIGMAS = 3.5  # standard errors; the seeds are fixed


def exact(n: int, k: int) -> Fraction:
    """The formula in integers."""
    rising = math.prod(range(n, n + k + 2))
    falling = math.prod(range(n - k - 1, n + 1)) if k + 1 < n else 0
    return Fraction(rising - falling, (k + 1) * (k + 2) * n ** (k + 1))


@pytest.mark.core
def test_energies_are_those_of_the_integers():
    for n in (1, 2, 3, 8, 64, 1000):
        for k in (0, 1, 2, 7, 8, 63, 64, 65, 150):
            np.testing.assert_allclose(ginibre_energy(n, k), float(exact(n, k)), rtol=1e-12)
    for n, k, known in [(8, 8, 5.84), (16, 16, 73.5), (64, 16, 1.87)]:
        np.testing.assert_allclose(ginibre_energy(n, k), known, rtol=3e-3)  # to its last digit


def test_energies_where_they_leave_the_floats():
    n = k = 10_000
    value = exact(n, k)
    digits = value.numerator.bit_length() - value.denominator.bit_length() - 60
    rest = Fraction(value.numerator, value.denominator << digits)
    expected = math.log(float(rest)) + digits * math.log(2)
    np.testing.assert_allclose(log_ginibre_energy(n, k), expected, rtol=1e-12)
    assert ginibre_energy(n, k) == np.inf
    # Far from both ends: one step keeps all; without cancellation also in the widest.
    np.testing.assert_allclose(ginibre_energy(np.array([10, 10_000, 10**8]), 1), 1, rtol=1e-13)
    half = 9e-5  # where the series stands for the quotient
    np.testing.assert_allclose(
        critical_profile(math.sqrt(2 * half)), np.sinh(half) / half, rtol=1e-13
    )
    c = np.array([0.0, 1e-3, 0.5, 1.0, 2.0, 3.0])
    wide = ginibre_energy(10**8, (c * 1e4).astype(int))
    np.testing.assert_allclose(wide, critical_profile(c), rtol=5e-3)  # the rest is of order c^3/k


def test_energies_by_sampling():
    k = np.array([1, 4, 8])
    found = sampled_energy("complex", 8, k, 4000, rng=0)
    assert (np.abs(found.mean - ginibre_energy(8, k)) < SIGMAS * found.error).all()
    # The control: infinite width, which says 1, is refuted at k = n, and real matrices differ.
    assert found.mean[2] - 1 > 10 * found.error[2]
    real = sampled_energy("real", 8, k, 4000, rng=1)
    assert real.mean[2] - ginibre_energy(8, 8) > SIGMAS * real.error[2]
    np.testing.assert_allclose(sampled_energy("orthogonal", 8, k, 3, rng=2).mean, 1, rtol=1e-12)


def test_energies_of_rings_are_those_of_the_cell():
    cell = rtrl.cells.LRU(1, 20_000, r_min=0.4, r_max=0.98, key=jax.random.key(0))
    moduli = np.exp(-np.exp(np.asarray(cell.nu_log, np.float64)))
    for k in (1, 10, 100):
        energies = moduli ** (2 * k)
        error = energies.std() / math.sqrt(len(energies))
        assert abs(energies.mean() - ring_energy(0.4, 0.98, k)) < SIGMAS * error
    np.testing.assert_allclose(ring_energy(0.9, 0.9, 3), 0.9**6)


@pytest.mark.parametrize(
    ("name", "cell", "verdict", "regime"),
    [
        ("wide", lambda key: rtrl.cells.VanillaRNN(2, 400, key=key), "holds", "subcritical"),
        ("long", lambda key: rtrl.cells.VanillaRNN(2, 16, gain=1.5, key=key), "blows up",
         "supercritical"),
        ("small", lambda key: rtrl.cells.VanillaRNN(2, 64, gain=0.4, key=key), "vanishes",
         "supercritical"),
        ("ring", lambda key: rtrl.cells.LRU(2, 16, r_max=0.5, key=key), "vanishes", "modular"),
        ("slow", lambda key: rtrl.cells.LRU(2, 16, r_min=0.99, r_max=0.999, key=key), "holds",
         "modular"),
        ("just", lambda key: rtrl.cells.LRU(2, 16, r_min=0.975, r_max=0.975, key=key), "holds",
         "modular"),
        ("not", lambda key: rtrl.cells.LRU(2, 16, r_min=0.96, r_max=0.96, key=key), "vanishes",
         "modular"),
        ("gates", lambda key: rtrl.cells.MinGRU(2, 16, tau_max=2.0, key=key), "vanishes",
         "modular"),
    ],
)  # fmt: skip
def test_advice_is_what_happens(name, cell, verdict, regime):
    """The verdict against a nudge that really runs through the cell, without input."""
    length = 8 if name == "wide" else 100
    cell = cell(jax.random.key(3))
    advice = advise(cell, length)
    assert (advice.verdict, advice.regime) == (verdict, regime), str(advice)
    kept = _nudged(cell, length)
    np.testing.assert_allclose(advice.energy_log10, math.log10(kept), rtol=1e-2, atol=1e-3)
    if verdict == "vanishes":
        assert math.exp(-length * -math.log(advice.better_radius)) > 0.3
    if verdict == "blows up":
        scale = advice.better_radius / advice.radius
        assert kept * scale ** (2 * length) <= 1.01


def _nudged(cell, length: int) -> float:
    """Energy of nudges of every state, by the cell's own derivative around rest."""
    with jax.enable_x64(False):
        rule = rtrl.BPTT()
        carry = rtrl.init_carry(cell, rule)
        xs = jnp.zeros((1, 2), jnp.float32)

        def step(h):
            return rtrl.recur(cell, xs, rtrl.Carry(h), rule=rule)[1].state

        h = carry.state
        if np.iscomplexobj(h):
            ones = jax.jvp(step, (h,), (np.ones_like(h),))[1]  # diagonal
            return float((np.abs(np.asarray(ones, complex)) ** (2 * length)).mean())
        J = np.asarray(jax.jacfwd(step)(h), np.float64)
        return float((np.linalg.matrix_power(J, length) ** 2).sum() / len(J))


def test_the_jacobian_at_rest_is_that_of_the_cell():
    cell = rtrl.cells.GRU(2, 5, key=jax.random.key(2))
    rule, xs = rtrl.BPTT(), jnp.zeros((1, 2))

    def step(h):
        return rtrl.recur(cell, xs, rtrl.Carry(h), rule=rule)[1].state

    expected = jax.jacfwd(step)(rtrl.init_carry(cell, rule).state)
    np.testing.assert_allclose(jacobian_at_rest(cell), expected, rtol=1e-5, atol=1e-7)


def test_advice_for_networks_and_what_is_refused():
    def network(**options):
        def cell(size, key):
            return rtrl.cells.LRU(size, 4, key=key)

        return rtrl.SequenceModel(1, 1, 4, 2, cell, key=jax.random.key(0), **options)

    model = network()
    over = max(advise(model, 2), key=lambda a: a.reach).reach  # of one layer, not of the other
    asked = int(2 * over)
    with pytest.warns(UserWarning) as warned:
        network(advise=functools.partial(advise, length=asked))
    said = [str(a) for a in advise(model, asked) if a.verdict != "holds"]
    assert 0 < len(said) < 2 and [str(w.message) for w in warned] == said
    assert [a.where for a in advise(model, 50)] == ["layers[0]", "layers[1]"]
    for arguments, name in [((model, 0), "length"), (({"a": 1}, 5), "cell_or_model")]:
        with pytest.raises(ValueError, match=f"^{name}: "):
            advise(*arguments)
    for call, name in [
        (lambda: ginibre_energy(0, 1), "n"), (lambda: ginibre_energy(1, -1), "k"),
        (lambda: ring_energy(0.9, 0.5, 1), "r_max"),
        (lambda: sampled_energy("x", 2, 1, 2, rng=0), "kind"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}: "):
            call()
