"""The curse of memory: closed forms against traces of our own cells, sums, and derivatives."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rtrl
from rtrl.analysis import (
    autocorrelation,
    gated_energies,
    lru_energies,
    sensitivity_energy,
    state_energy,
    teacher_loss,
)

SIGMAS = 3.0  # standard errors of the Monte Carlo, whose seeds are fixed
MODULI = np.array([0.5, 0.9, 0.99, 0.999])
SAMPLES, CHUNK = 256, 500


def inputs(rho: float, steps: int, rng) -> np.ndarray:
    """A stationary series with autocorrelation rho^|D|: (time, samples, 1)."""
    x = rng.normal(size=(steps, SAMPLES))
    for t in range(1, steps):
        x[t] = rho * x[t - 1] + math.sqrt(1 - rho**2) * x[t]
    return x[:, :, None]


def run(cell, xs):
    """States and module traces after a long time, RTRL's own: (samples, N) each."""
    rule = rtrl.RTRL(implementation="xla")

    @eqx.filter_jit
    def chunk(carry, xs):
        return rtrl.recur(cell, xs, carry, rule=rule)[1]

    carry = rtrl.init_carry(cell, rule, batch_size=SAMPLES)
    for start in range(0, len(xs), CHUNK):
        carry = chunk(carry, jnp.asarray(xs[start : start + CHUNK]))
    return carry.state, {k: v[:, 0] for k, v in carry.trace.modules.items()}


def agree(samples, expected):
    """The mean of |samples|^2 against what is expected, in standard errors."""
    energy = np.abs(np.asarray(samples)) ** 2
    error = energy.std(0, ddof=1) / math.sqrt(len(energy))
    return np.abs(energy.mean(0) - expected) / error


def steps_for(lam, scales: int = 10) -> int:
    # Time scales: after ten what is missing of a sensitivity, n lambda^n, is below 1e-3 of the
    # sensitivity to white noise; a constant input leaves less of that, and takes longer.
    slowest = -1 / math.log(np.abs(lam).max())
    return CHUNK * math.ceil(max(scales * slowest, CHUNK) / CHUNK)


def check_plain(lam, rho, xs):
    """A complex diagonal recurrence; the control: other formulas are refuted."""
    n = len(lam)
    plain = rtrl.cells.ComplexDiagonal(1, n, key=jax.random.key(0))
    fields = lambda c: (c.lambda_re, c.lambda_im, c.B_re, c.B_im)  # noqa: E731
    values = (lam.real, lam.imag, np.ones((n, 1)), np.zeros((n, 1)))
    plain = eqx.tree_at(fields, plain, tuple(map(jnp.asarray, values)))
    h, traces = run(plain, xs)
    assert (agree(h, state_energy(lam, rho)) < SIGMAS).all()
    off = agree(traces["lambda_re"], sensitivity_energy(lam, rho))
    assert (off < SIGMAS).all(), off
    # Without the second term of (3.6), or with another rho.
    lacking = sensitivity_energy(lam, 0.0) * state_energy(lam, rho) / state_energy(lam, 0.0)
    assert agree(traces["lambda_re"], lacking).max() > 2 * SIGMAS
    assert agree(h, state_energy(lam, 0.5)).max() > 2 * SIGMAS


@pytest.mark.parametrize("rho", [pytest.param(0.0, marks=pytest.mark.slow), 0.7, 1.0])
def test_states_and_traces_of_our_cells_have_these_energies(float64, rho):
    lam = np.concatenate([MODULI, MODULI * np.exp(0.3j), MODULI * np.exp(2j)])
    n = len(lam)
    steps = steps_for(lam, 16 if rho == 1 else 10)
    xs = inputs(rho, steps, np.random.default_rng(int(10 * rho)))
    if rho == 0.7:  # by lambda itself
        check_plain(lam, rho, xs)
    cell = rtrl.cells.LRU(1, n, key=jax.random.key(0))
    nu, theta = -np.log(np.abs(lam)), np.maximum(np.angle(lam), 1e-3)
    values = (np.log(nu), np.log(theta), 0.5 * np.log(-np.expm1(-2 * nu)))
    fields = lambda c: (c.nu_log, c.theta_log, c.gamma_log)  # noqa: E731
    cell = eqx.tree_at(fields, cell, tuple(map(jnp.asarray, values)))
    weights = lambda c: (c.B_re, c.B_im)  # noqa: E731
    cell = eqx.tree_at(weights, cell, (jnp.ones((n, 1)), jnp.zeros((n, 1))))
    h, traces = run(cell, xs)
    expected = lru_energies(np.exp(-nu + 1j * theta), rho)
    assert (agree(h, expected.pop("state")) < SIGMAS).all()
    for name, energy in expected.items():
        assert (agree(traces[name], energy) < SIGMAS).all(), name


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_a_gated_cell_has_these_energies(float64, rho):
    """MinGRU with gates that see nothing but their bias: h <- lambda h + (1 - lambda) x."""
    n = len(MODULI)
    cell = rtrl.cells.MinGRU(1, n, key=jax.random.key(0))
    values = (np.zeros((n, 1)), np.log((1 - MODULI) / MODULI), np.ones((n, 1)))
    fields = lambda c: (c.W_z, c.b_z, c.W_h)  # noqa: E731
    cell = eqx.tree_at(fields, cell, tuple(map(jnp.asarray, values)))
    xs = inputs(rho, steps_for(MODULI), np.random.default_rng(3))
    h, traces = run(cell, xs)
    state, sensitivity = gated_energies(MODULI, rho)
    assert (agree(h, state) < SIGMAS).all()
    # dlambda/db_z = -lambda (1 - lambda)
    assert (agree(traces["b_z"], sensitivity * (MODULI * (1 - MODULI)) ** 2) < SIGMAS).all()


@pytest.mark.core
def test_closed_forms_against_sums_and_the_thesis():
    lam = np.array([0.0, 0.3, -0.8, 0.9, 0.6 + 0.5j, 0.95 * np.exp(2.5j)])
    rng = np.random.default_rng(0)
    acf = rng.normal(size=7)  # any autocorrelation: the formulas are linear in it
    n = np.arange(3000)
    for i, value in enumerate(lam):  # the double sum of A.33 and A.43, by its diagonals
        direct, slope = 0.0, 0.0
        for D in range(-6, 7):
            a = n[max(0, D) : 2000]
            b = a - D
            direct += (value**a * np.conj(value) ** b).sum() * acf[abs(D)]
            with np.errstate(divide="ignore", invalid="ignore"):
                inner = (
                    a * b * value ** np.maximum(a - 1, 0) * np.conj(value) ** np.maximum(b - 1, 0)
                )
            slope += inner.sum() * acf[abs(D)]
        np.testing.assert_allclose(state_energy(lam, acf)[i], np.real(direct), rtol=1e-10)
        np.testing.assert_allclose(sensitivity_energy(lam, acf)[i], np.real(slope), rtol=1e-10)
    rho = 0.6
    long = rho ** np.arange(400)
    np.testing.assert_allclose(state_energy(lam, rho), state_energy(lam, long), rtol=1e-10)
    np.testing.assert_allclose(
        sensitivity_energy(lam, rho), sensitivity_energy(lam, long), rtol=1e-10
    )
    r2 = np.abs(lam) ** 2
    np.testing.assert_allclose(  # A.37, A.49 and A.50
        state_energy(lam, rho), (1 - rho**2 * r2) / (np.abs(1 - rho * lam) ** 2 * (1 - r2))
    )
    np.testing.assert_allclose(sensitivity_energy(lam, 0.0), (1 + r2) / (1 - r2) ** 3)
    np.testing.assert_allclose(sensitivity_energy(lam, 1.0), 1 / np.abs(1 - lam) ** 4, rtol=1e-9)


def test_gates_and_teachers_against_derivatives_and_series():
    lam, rho, eps = np.array([0.2, 0.7, 0.95]), 0.4, 1e-4

    def g(a, b):  # A.147, typed out
        past = rho * a / (1 - rho * a) + rho * b / (1 - rho * b)
        return (1 - a) * (1 - b) / (1 - a * b) * (1 + past)

    state, sensitivity = gated_energies(lam, rho)
    np.testing.assert_allclose(state, g(lam, lam), rtol=1e-12)
    mixed = (
        g(lam + eps, lam + eps) - g(lam + eps, lam - eps)
        - g(lam - eps, lam + eps) + g(lam - eps, lam - eps)
    ) / (4 * eps**2)  # fmt: skip
    np.testing.assert_allclose(sensitivity, mixed, rtol=1e-4)  # of order (eps / (1 - lambda))^2
    student, teacher = 0.8 * np.exp(0.4j), 0.9
    difference = student ** np.arange(500) - teacher ** np.arange(500)
    np.testing.assert_allclose(
        teacher_loss(student, teacher, 0.0), 0.5 * (np.abs(difference) ** 2).sum(), rtol=1e-10
    )
    assert teacher_loss(teacher, teacher, 0.3) == pytest.approx(0, abs=1e-12)


def test_the_autocorrelation_of_a_series():
    x = np.random.default_rng(1).normal(size=(4000, 5))
    for t in range(1, len(x)):
        x[t] = 0.8 * x[t - 1] + 0.6 * x[t]
    # The spread over 20,000 correlated values is below 0.03 at one standard error of 0.009.
    np.testing.assert_allclose(autocorrelation(x, 6), 0.8 ** np.arange(6), atol=0.05)
    np.testing.assert_allclose(autocorrelation([1.0, 2.0, 3.0], 2), [14 / 3, 4])


def test_what_is_refused():
    for call, name in [
        (lambda: state_energy(1.0, 0.0), "lam"), (lambda: state_energy(0.5, 1.5), "acf"),
        (lambda: sensitivity_energy(0.5, np.zeros((2, 2))), "acf"),
        (lambda: autocorrelation([1.0], 2), "lags"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}: "):
            call()
