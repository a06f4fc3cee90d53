"""Effective rates against exact Jacobians, tail indices against sampled laws, windows by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import _levy_stable, levy_stable

import rtrl
from rtrl.analysis import (
    effective_rates,
    envelope,
    exact_diagonal,
    fit_decay,
    fit_spectrum,
    learnability_window,
    sample_size,
    stable_index,
    timescale_spectrum,
)

T, LAG = 12, 6
XS = np.random.default_rng(0).normal(size=(T, 3))


def cells(size=5):
    key = jax.random.key(1)
    return {
        "ConstGate": rtrl.cells.ConstGate(3, size, gate=0.3, dense=True, key=key),
        "SharedGate": rtrl.cells.SharedGate(3, size, dense=True, key=key),
        "DiagGate": rtrl.cells.DiagGate(3, size, dense=True, key=key),
        "GRU": rtrl.cells.GRU(3, size, key=key),
    }


def scaled(cell, scale):
    """With recurrent weights times a factor."""
    names = [
        n for n in ("U", "U_r", "U_f", "U_n", "u_s", "U_s") if getattr(cell, n, None) is not None
    ]
    where = lambda c: [getattr(c, n) for n in names]  # noqa: E731
    return eqx.tree_at(where, cell, [scale * w for w in where(cell)])


@pytest.mark.parametrize("name", ["ConstGate", "SharedGate", "DiagGate", "GRU"])
def test_rates_agree_with_the_jacobian_to_their_order(float64, name):
    cell = cells()[name]
    errors = {0: [], 1: []}
    for scale in (0.02, 0.01):
        small = scaled(cell, scale)
        exact = exact_diagonal(small, XS, LAG)
        for order in errors:
            mu = effective_rates(small, XS, LAG, order=order)[-1]
            errors[order].append(np.abs(mu - exact).max())
    # Halving what mixes halves the error of order 0, and quarters that of order 1.
    assert errors[0][0] / errors[0][1] == pytest.approx(2, rel=0.1)
    assert errors[1][0] / errors[1][1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("name", ["MinGRU", "ElementwiseGRU", "LRU", "ElementwiseLSTM"])
def test_rates_of_independent_modules_are_exact(float64, name):
    cell = getattr(rtrl.cells, name)(3, 5, key=jax.random.key(0))
    mu = effective_rates(cell, XS, LAG)
    assert mu.shape == (T, LAG + 1, 5) and np.isnan(mu[0, 1:]).all() and (mu[:, 0] == 1).all()
    if name == "LRU":
        moduli = np.exp(-np.exp(np.asarray(cell.nu_log)))
        np.testing.assert_allclose(mu[-1], moduli ** np.arange(LAG + 1)[:, None], rtol=1e-6)
    elif name == "ElementwiseLSTM":  # of two numbers: the norm of the block of the Jacobian
        rule = rtrl.BPTT()
        before = rtrl.recur(cell, jnp.asarray(XS[:-3]), rtrl.init_carry(cell, rule), rule=rule)[1]

        def last(h):
            after = rtrl.recur(cell, jnp.asarray(XS[-3:]), rtrl.Carry((h[0], h[1])), rule=rule)[1]
            return jnp.stack(after.state)

        J = np.asarray(jax.jacfwd(last)(jnp.stack(before.state)))  # (2, N, 2, N)
        blocks = J[:, np.arange(5), :, np.arange(5)]  # (N, 2, 2)
        np.testing.assert_allclose(mu[-1, 3], np.linalg.norm(blocks, 2, axis=(1, 2)), rtol=1e-9)
    else:
        np.testing.assert_allclose(mu[-1], exact_diagonal(cell, XS, LAG), rtol=1e-9)
    np.testing.assert_allclose(envelope(mu)[2], np.abs(mu[2:, 2]).sum(-1).mean())


@pytest.mark.core
def test_decays_are_told_apart():
    lags = np.arange(65)
    power = fit_decay(np.concatenate([[1], lags[1:] ** -0.7]))
    assert power.kind == "power" and power.exponent == pytest.approx(0.7)
    exponential = fit_decay(3 * np.exp(-lags / 9))
    assert exponential.kind == "exponential" and exponential.tau == pytest.approx(9)
    # Time scales spread log-uniformly superpose to a power law near 1 / l^0 .. 1 / l; one does not.
    spread = np.exp(-lags[:, None] / np.logspace(0, 2.5, 400)).mean(1)
    assert fit_decay(spread).kind == "power"


@pytest.mark.core
def test_spectra_and_their_laws():
    tau = np.array([3.0, 20.0, np.inf, -7.0])
    mu = np.exp(-np.arange(9)[:, None] / tau) * np.ones((12, 1, 1))
    with np.errstate(invalid="ignore"):
        mu[np.arange(12)[:, None] < np.arange(9)] = np.nan  # lags from before the data
    np.testing.assert_allclose(timescale_spectrum(mu), tau)
    np.testing.assert_allclose(timescale_spectrum(-mu), tau)  # rates are signed
    mu[:, 1:, 0] *= 0
    assert timescale_spectrum(mu)[0] == 0
    # Time scales at the quantiles of either law: the fits give their parameters.
    share = (np.arange(2000) + 0.5) / 2000
    pareto = 2 * share ** (-1 / 0.8)
    power = fit_spectrum(pareto)
    assert power.kind == "power" and power.exponent == pytest.approx(0.8, rel=0.01)
    assert power.preference > 2 and power.least == pytest.approx(2, rel=0.01)
    assert fit_spectrum([*pareto, np.inf, -3, 0]) == power  # what grows or keeps all has none
    exponential = fit_spectrum(2 - 15 * np.log(share))
    assert exponential.kind == "exponential" and exponential.preference < -2
    assert exponential.scale == pytest.approx(15, rel=0.01)
    # A power-law tail has the same exponent wherever it begins, and beneath lies something else.
    below = fit_spectrum(np.concatenate([pareto, np.linspace(1, 2, 500), [np.inf, -3, 0]]), least=5)
    assert below.exponent == pytest.approx(0.8, rel=0.02)
    # What they superpose to falls with the same exponent (Gamma(b) l^-b), far above `least`.
    lags = np.arange(20, 200)
    f = np.exp(-lags[:, None] / pareto).mean(1)
    assert -np.polyfit(np.log(lags), np.log(f), 1)[0] == pytest.approx(0.8, rel=0.05)


def test_the_spectrum_of_an_lru_is_that_of_its_rates(float64):
    cell = rtrl.cells.LRU(3, 5, r_min=0.3, r_max=0.99, key=jax.random.key(0))
    tau = timescale_spectrum(effective_rates(cell, XS, LAG))
    np.testing.assert_allclose(tau, 1 / np.exp(np.asarray(cell.nu_log)), rtol=1e-6)


@pytest.mark.parametrize("alpha", [1.2, 1.5, 1.8, 2.0])
def test_tail_indices_of_sampled_laws(alpha):
    n = 20_000
    # Chambers, Mallows & Stuck (1976), symmetric.
    rng = np.random.default_rng(int(10 * alpha))
    V, W = rng.uniform(-np.pi / 2, np.pi / 2, n), rng.exponential(size=n)
    x = np.sin(alpha * V) / np.cos(V) ** (1 / alpha)
    x *= (np.cos((1 - alpha) * V) / W) ** ((1 - alpha) / alpha)
    # Four standard errors of about 2 / sqrt(n), and the table's own rounding.
    assert abs(stable_index(x) - alpha) < 4 * 2 / np.sqrt(n) + 0.01
    assert stable_index(3 * x - 7) == pytest.approx(stable_index(x), abs=1e-9)
    assert abs(stable_index(x) - 2) > 0.1 or alpha == 2  # the control: told from a Gaussian


def test_tail_indices_are_those_of_scipy():
    for alpha, beta in [(1.3, 0.0), (1.6, 0.7), (1.9, -0.4)]:
        x = np.asarray(levy_stable.rvs(alpha, beta, size=3000, random_state=1))
        assert stable_index(x) == pytest.approx(_levy_stable._fitstart_S1(x)[0], abs=1e-6)


@pytest.mark.core
def test_windows_by_hand():
    lags = np.arange(1001)
    power = np.concatenate([[1], lags[1:] ** -0.5])
    # f = l^-b, kappa = 2: N(l) = l^(2 b) = l
    np.testing.assert_array_equal(
        learnability_window(power, 2.0, np.array([1, 10, 99.5])), [1, 10, 99]
    )
    np.testing.assert_allclose(sample_size(power, 1.5)[4], 4**1.5)  # kappa = 3
    slow = learnability_window(np.exp(-lags / 10), 2.0, np.array([1e2, 1e4]))
    np.testing.assert_array_equal(slow, [23, 46])  # 5 log N: twice the digits, twice the window
    assert learnability_window(power, 2.0, 0.5) == 0
    # Heavier tails, shorter windows.
    assert learnability_window(power, 1.2, 100) < learnability_window(power, 1.8, 100)


def test_what_is_refused():
    cell = cells()["GRU"]
    for call, name in [
        (lambda: effective_rates(cell, XS, T), "max_lag"),
        (lambda: effective_rates(cell, XS, 2, order=2), "order"),
        (lambda: exact_diagonal(rtrl.cells.LRU(3, 2, key=jax.random.key(0)), XS, 2), "cell"),
        (lambda: fit_decay([1.0, 0.5]), "f"), (lambda: stable_index([1.0]), "samples"),
        (lambda: stable_index(np.ones(30)), "samples"), (lambda: sample_size(0.5, 1.0), "alpha"),
        (lambda: timescale_spectrum(np.ones((4, 1, 2))), "mu"),
        (lambda: fit_spectrum([1.0, 2, 3, 4, 4, 4]), "tau"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}: "):
            call()
