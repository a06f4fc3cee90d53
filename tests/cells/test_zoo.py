"""Every cell of the zoo: exact under RTRL, its published equation in NumPy, how it starts."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL_CELLS, MODULES, ZOO
from cell_equations import EQUATIONS, sig, softplus
from jaxtyping import Array
from one_layer import bptt_gradient, online_gradient, random_weights, relative_error, unrolled

import rtrl
from rtrl import cells
from rtrl.cells import surrogate
from rtrl.cells._s5 import hippo_n

SIZE, T = 3, 14


def make(name, seed=0):
    return ALL_CELLS[name](SIZE, jax.random.key(seed))


def inputs(seed=1):
    return 2 * jax.random.normal(jax.random.key(seed), (T, SIZE))


# Exact -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_rtrl_is_exact(name, float64):
    """BPTT of the plain recurrence, for every parameter, step by step and in chunks."""
    cell, xs = make(name), inputs()
    outputs = unrolled(cell, xs)[1]
    weights = random_weights(outputs)
    exact = bptt_gradient(cell, xs, weights)
    for leaf in jax.tree.leaves(exact):
        assert np.linalg.norm(leaf) > 1e-3  # every parameter does something
    for chunk in (1, 7):
        grads, online = online_gradient(cell, xs, weights, rtrl.RTRL(), chunk)
        assert max(relative_error(grads, exact).values()) < 1e-10
        for a, b in zip(jax.tree.leaves(online), jax.tree.leaves(outputs), strict=True):
            assert np.allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["S6", "LIF", "ElementwiseLSTM"])
def test_the_comparison_can_tell_rules_apart(name, float64):
    cell, xs = make(name), inputs()
    weights = random_weights(unrolled(cell, xs)[1])
    exact = bptt_gradient(cell, xs, weights)
    grads, _ = online_gradient(cell, xs, weights, rtrl.Truncated(), 7)
    assert max(relative_error(grads, exact).values()) > 1e-2


# The equations, in NumPy -------------------------------------------------------------------------


@pytest.mark.parametrize("name", EQUATIONS)
def test_equation(name, float64):
    cell, xs = make(name), inputs()
    # Parameters away from where they start, which for biases is zero.
    leaves, structure = jax.tree.flatten(cell)
    rng = np.random.default_rng(0)
    moved = [leaf + 0.1 * rng.standard_normal(leaf.shape) for leaf in leaves]
    cell = jax.tree.unflatten(structure, moved)
    states, _ = unrolled(cell, xs)
    parameters = jax.tree.unflatten(structure, [np.asarray(leaf) for leaf in moved])
    h = jax.tree.map(np.asarray, cell.initial())
    for t, x in enumerate(np.asarray(xs)):
        h = EQUATIONS[name](parameters, h, x)
        for a, b in zip(jax.tree.leaves(states), jax.tree.leaves(h), strict=True):
            assert np.allclose(a[t], b, rtol=1e-9, atol=1e-9)


# How they start ----------------------------------------------------------------------------------

MANY = 4000


def start(cell, hidden_size: int = MANY, **options):
    return cell(50, hidden_size, key=jax.random.key(0), **options)


def assert_log_uniform(times, low, high):
    logs = np.log(times)
    low, high = math.log(low), math.log(high)
    assert low - 1e-2 <= logs.min() and logs.max() <= high + 1e-2
    assert abs(logs.mean() - (low + high) / 2) < 0.05 * (high - low)
    assert abs(logs.std() - (high - low) / math.sqrt(12)) < 0.05 * (high - low)


def assert_normal(weights, variance):
    assert abs(np.mean(weights)) < 0.05 * math.sqrt(variance)
    assert abs(np.var(weights) / variance - 1) < 0.05


def time_constant(decay):
    return -1 / np.log(np.asarray(decay, float))


DECAYS = {
    cells.MinGRU: lambda c: 1 - sig(np.asarray(c.b_z, float)),
    cells.MinLSTM: lambda c: 1 / (1 + sig(np.asarray(c.b_i, float)) / sig(np.asarray(c.b_f))),
    cells.SignedGate: lambda c: np.abs(np.tanh(c.b_a)),
    cells.ComplexGate: lambda c: sig(np.asarray(c.b_r, float)),
    cells.ElementwiseRNN: lambda c: c.w,
    cells.ElementwiseGRU: lambda c: sig(np.asarray(c.b_f, float)),
    cells.ElementwiseLSTM: lambda c: sig(np.asarray(c.b_f, float)),
    cells.DiagGate: lambda c: 1 - sig(np.asarray(c.b_s, float)),
    cells.LIF: lambda c: np.exp(-np.exp(-c.tau_log)),
    cells.AdaptiveLIF: lambda c: np.exp(-np.exp(-c.tau_log)),
    cells.CubaLIF: lambda c: np.exp(-np.exp(-c.tau_log)),
    cells.ResonateAndFire: lambda c: np.exp(-np.exp(-c.tau_log)),
}


@pytest.mark.parametrize("cell", DECAYS, ids=lambda cell: cell.__name__)
def test_time_constants_start_log_uniform(cell):
    made = start(cell, tau_min=2.0, tau_max=50.0)
    assert_log_uniform(time_constant(DECAYS[cell](made)), 2.0, 50.0)


@pytest.mark.parametrize(
    ("cell", "weights"),
    [
        (cells.RTU, ("W1", "W2")),
        (cells.MinGRU, ("W_z", "W_h")),
        (cells.MinLSTM, ("W_f", "W_i", "W_h")),
        (cells.HGRN, ("W_mu", "W_re", "W_im")),
        (cells.RGLRU, ("W_r", "W_i", "W")),
        (cells.S6, ("W_delta", "W")),
        (cells.SignedGate, ("W_a", "W_v")),
        (cells.ComplexGate, ("W_r", "W_phi")),
        (cells.ElementwiseRNN, ("W",)),
        (cells.ElementwiseGRU, ("W_r", "W_f", "W_n")),
        (cells.ElementwiseLSTM, ("W_f", "W_z", "W_o")),
        (cells.ConstGate, ("W",)),
        (cells.SharedGate, ("W",)),
        (cells.DiagGate, ("W_s", "W")),
        (cells.LIF, ("W",)),
        (cells.AdaptiveLIF, ("W",)),
        (cells.CubaLIF, ("W",)),
        (cells.ResonateAndFire, ("W",)),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_input_weights_start_normal_and_unlike(cell, weights):
    made = start(cell)
    drawn = [np.asarray(getattr(made, name)) for name in weights]
    for w in drawn:
        assert_normal(w, 1 / 50)
    for a, b in zip(drawn, drawn[1:], strict=False):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02


def test_other_starts():
    rtu = start(cells.RTU, r_min=0.4, r_max=0.9, max_phase=3.0)
    squared = np.exp(-2 * np.exp(rtu.nu_log))
    assert squared.min() >= 0.159 and squared.max() <= 0.811 and abs(squared.mean() - 0.485) < 0.02
    assert abs(np.exp(rtu.theta_log).mean() - 1.5) < 0.1

    block = start(cells.BlockDiagonal, 200, block_size=3, r_min=0.5, r_max=0.9)
    A = np.moveaxis(np.asarray(block.A), 2, 0)
    moduli = np.abs(np.linalg.eigvals(A))
    assert np.allclose(moduli, moduli[:, :1], atol=1e-4)
    assert 0.499 <= moduli.min() and moduli.max() <= 0.901
    scaled = np.asarray(block.W) / np.sqrt(1 - moduli[:, 0] ** 2)[:, None]
    assert_normal(scaled, 1 / 50)

    hgrn = start(cells.HGRN, 10)
    assert np.allclose(hgrn.theta, 1e4 ** (-np.arange(10) / 10), rtol=1e-5)

    held = sig(np.asarray(start(cells.RGLRU, a_min=0.5, a_max=0.9).Lambda, float)) ** 8
    assert 0.499 <= held.min() and held.max() <= 0.901 and abs(held.mean() - 0.7) < 0.01

    bounds = {"delta_min": 0.01, "delta_max": 0.5}
    for steps in (
        softplus(np.asarray(start(cells.S4D, MANY, **bounds).w_delta, float)),
        softplus(np.asarray(start(cells.S6, MANY, **bounds).b_delta, float)),
        np.exp(start(cells.S5, 200, **bounds).delta_log),
    ):
        assert_log_uniform(steps, 0.01, 0.5)
    s4d = start(cells.S4D, 6)
    assert np.allclose(s4d.w_re, -0.5) and np.allclose(s4d.w_im, np.pi * np.arange(6))
    assert_normal(start(cells.S4D).B_im, 1 / 100)

    adaptive = start(cells.AdaptiveLIF, adapt_min=20.0, adapt_max=100.0)
    assert_log_uniform(np.exp(adaptive.tau_a_log), 20.0, 100.0)
    assert np.allclose(adaptive.beta, 1.8)
    filtered = start(cells.CubaLIF, syn_min=2.0, syn_max=30.0)
    assert_log_uniform(np.exp(filtered.tau_syn_log), 2.0, 30.0)
    omega = np.asarray(start(cells.ResonateAndFire, max_omega=1.0).omega)
    assert 0 <= omega.min() and omega.max() <= 1 and abs(omega.mean() - 0.5) < 0.02
    assert 0.45 < (np.asarray(start(cells.SignedGate).b_a) < 0).mean() < 0.55
    shared = start(cells.SharedGate, 4, tau=7.0)
    assert np.isclose(time_constant(1 - sig(np.asarray(shared.b_s, float))), 7.0, rtol=1e-4)
    for name, std in [("w_s", 1.0), ("w", 1.0)]:
        assert_normal(getattr(start(cells.DiagGate), name), std**2)
    assert_normal(
        np.stack([start(cells.ElementwiseGRU).w_f, start(cells.ElementwiseGRU).w_n]), 0.25
    )


def test_s5_starts_from_hippo():
    """lambda and B are those of the full, conjugate-symmetric system in another basis."""
    n = 8
    cell = cells.S5(50, n, key=jax.random.key(0))
    k = np.arange(2 * n)
    legs = -np.sqrt(np.outer(2 * k + 1, 2 * k + 1))
    legs = np.tril(legs, -1) - np.diag(k + 1.0)
    rank_one = np.sqrt(k + 0.5)
    normal = legs + np.outer(rank_one, rank_one)
    spectrum = np.linalg.eigvals(normal)
    expected = np.sort(spectrum.imag[spectrum.imag > 0])
    assert np.allclose(spectrum.real, -0.5) and len(expected) == n
    assert np.allclose(np.sort(cell.im), expected, rtol=1e-4)
    assert np.allclose(-np.exp(cell.re_log), -0.5)
    wide = start(cells.S5, 100)
    power = np.asarray(wide.B_re) ** 2 + np.asarray(wide.B_im) ** 2
    assert abs(power.mean() * 50 - 1) < 0.05
    # B = V* B' with B' real: the whole B, both halves of each pair, has a real inverse image.
    frequencies, V_re, V_im = hippo_n(2 * n)
    V = (V_re + 1j * V_im)[:, frequencies > 0]
    B = np.asarray(cell.B_re) + 1j * np.asarray(cell.B_im)
    back = 2 * (V @ B).real
    assert np.allclose(V.conj().T @ back, B, atol=1e-5)


BAD = [
    (cells.S4D, {"delta_min": 0.0}, "delta_min: expected a positive"),
    (cells.S5, {"delta_max": 1e-9}, "delta_max: expected at least delta_min"),
    (cells.S6, {"delta_min": -1.0}, "delta_min: expected a positive"),
    (cells.RTU, {"r_max": 1.1}, "r_max: expected a modulus"),
    (cells.RTU, {"max_phase": 0.0}, "max_phase: expected a positive angle"),
    (cells.BlockDiagonal, {"block_size": 0}, "block_size: expected at least 1, got 0"),
    (cells.BlockDiagonal, {"r_min": -0.1}, "r_min: expected a modulus"),
    (cells.MinGRU, {"tau_min": 0.0}, "tau_min: expected a positive number of timesteps"),
    (cells.MinLSTM, {"tau_max": 0.5}, "tau_max: expected at least tau_min = 1.0"),
    (cells.HGRN, {"lower_bound": 1.0}, r"lower_bound: expected a decay in \[0, 1\)"),
    (cells.RGLRU, {"a_max": 1.0}, "a_max: expected a decay"),
    (cells.RGLRU, {"a_min": 0.0}, "a_min: expected a decay"),
    (cells.SignedGate, {"tau_max": 0.5}, "tau_max: expected"),
    (cells.ComplexGate, {"max_phase": 0.0}, "max_phase: expected a positive angle"),
    (cells.ConstGate, {"gate": 0.0}, r"gate: expected a rate in \(0, 1\], got 0.0"),
    (cells.SharedGate, {"tau": 0.0}, "tau: expected a positive number of timesteps"),
    (cells.LIF, {"threshold": 0.0}, "threshold: expected a positive number"),
    (cells.LIF, {"reset": "soft"}, "reset: expected 'subtract' or 'zero', got 'soft'"),
    (cells.LIF, {"surrogate": "arctan"}, "surrogate: expected a function"),
    (cells.AdaptiveLIF, {"adapt_min": 0.0}, "adapt_min: expected a positive"),
    (cells.CubaLIF, {"syn_max": 0.5}, "syn_max: expected at least syn_min"),
    (cells.ResonateAndFire, {"max_omega": 0.0}, "max_omega: expected a positive frequency"),
]


@pytest.mark.parametrize(("cell", "options", "message"), BAD, ids=lambda v: "")
def test_bad_arguments(cell, options, message):
    with pytest.raises(ValueError, match=message):
        cell(3, 4, **options, key=jax.random.key(0))


@pytest.mark.parametrize("name", ZOO)
def test_sizes_are_checked(name):
    kind = type(make(name))
    for sizes, message in [((0, 4), "in_size: expected at least 1"), ((3, 0), "hidden_size: exp")]:
        with pytest.raises(ValueError, match=message):
            kind(*sizes, key=jax.random.key(0))


# Spikes ------------------------------------------------------------------------------------------


def one_neuron(cell, **fields):
    """One input of weight 1, no bias."""
    made = cell(1, 1, threshold=1.0, key=jax.random.key(0), **fields.pop("options", {}))
    fields = {"W": [[1.0]], **{name: [value] for name, value in fields.items()}}
    for name, value in fields.items():
        object.__setattr__(made, name, jnp.asarray(value))
    return made


def spike_times(cell, xs):
    spikes = np.asarray(unrolled(cell, jnp.asarray(xs, float)[:, None])[1])[:, 0]
    assert set(spikes.tolist()) <= {0.0, 1.0}
    return np.flatnonzero(spikes).tolist()


def test_lif_spikes_when_it_should(float64):
    slow = math.log(1 / math.log(2))  # a = 1/2
    # Subtract: 0.8, 1.2*, 0.9 = .1 + .8, 1.25*, .925, 1.2625*. Zero: 0.8, 1.2*, 0.8, 1.2*, ...
    assert spike_times(one_neuron(cells.LIF, tau_log=slow), [0.8] * 6) == [1, 3, 5]
    zero = one_neuron(cells.LIF, tau_log=slow, options={"reset": "zero"})
    assert spike_times(zero, [0.8] * 6) == [1, 3, 5]
    # A large input: 3.0*, 2.0/2 + 0 = 1.0 (not above), then silence; to zero: one spike too.
    assert spike_times(one_neuron(cells.LIF, tau_log=slow), [3.0, 0, 0, 0]) == [0]
    # 5.0*, 2.0*, 0.5: what subtraction leaves over fires again, a reset to zero forgets it.
    assert spike_times(one_neuron(cells.LIF, tau_log=slow), [5.0, 0, 0, 0]) == [0, 1]
    assert spike_times(zero, [5.0, 0, 0, 0]) == [0]


def test_adaptation_raises_the_threshold(float64):
    fields = {"tau_log": math.log(1 / math.log(2)), "tau_a_log": 20.0}  # a forgets nothing
    cell = one_neuron(cells.AdaptiveLIF, **fields, beta=1.0, options={"reset": "zero"})
    # Thresholds 1, 2, 3 after 0, 1, 2 spikes, seen by the membrane from the timestep after.
    # v: 1.5* | 1.5 2.25* | 1.5 2.25 2.625 2.8125 2.906 ... never above 3
    assert spike_times(cell, [1.5] * 12) == [0, 2]
    assert spike_times(one_neuron(cells.LIF, tau_log=fields["tau_log"]), [1.5] * 5) == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_resonator_prefers_its_rhythm(float64):
    period = 8
    cell = one_neuron(cells.ResonateAndFire, tau_log=math.log(20.0), omega=2 * math.pi / period)

    def kicks(every):
        return [0.45 * (t % every == 0) for t in range(64)]

    assert spike_times(cell, kicks(period)) and not spike_times(cell, kicks(5))
    # A quarter period after a kick of 2 decayed by exp(-2/20), and not before it.
    assert spike_times(cell, [1.2] + [0.0] * 7) == [2]


def test_a_detached_reset_changes_the_gradient_alone(float64):
    xs = inputs()
    for reset in ("subtract", "zero"):
        attached, detached = (
            cells.LIF(
                SIZE, MODULES, threshold=0.5, reset=reset, detach_reset=d, key=jax.random.key(0)
            )
            for d in (False, True)
        )
        a, b = unrolled(attached, xs), unrolled(detached, xs)
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) and a[1].sum() > 5
        weights = random_weights(a[1])
        first, second = (
            jax.tree.leaves(bptt_gradient(c, xs, weights)) for c in (attached, detached)
        )
        assert not np.allclose(first[0], second[0], rtol=1e-3)


SLOPES = {
    surrogate.fast_sigmoid: lambda v: 1 / (1 + 10 * abs(v)) ** 2,
    surrogate.arctan: lambda v: 1 / (1 + (math.pi * v) ** 2),
    surrogate.triangular: lambda v: 0.3 * max(0.0, 1 - abs(v)),
    surrogate.multi_gaussian: lambda v: (
        1.15 * gauss(v, 0, 0.5) - 0.15 * (gauss(v, 0.5, 3.0) + gauss(v, -0.5, 3.0))
    ),
    surrogate.never: lambda v: 0.0,
}


def gauss(v, mean, std):
    return math.exp(-((v - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi))


@pytest.mark.parametrize("slope", SLOPES, ids=lambda f: f.__name__)
def test_surrogate_slope(slope, float64):
    vs = jnp.array([-3.0, -0.7, -0.01, 0.0, 0.3, 1.2])
    value, tangent = jax.jvp(lambda v: surrogate.spike(v, slope), (vs,), (2 * jnp.ones(6),))
    assert np.array_equal(value, [0, 0, 0, 0, 1, 1])
    assert np.allclose(tangent, [2 * SLOPES[slope](float(v)) for v in vs], rtol=1e-12)
    assert np.allclose(jax.grad(lambda v: surrogate.spike(v, slope).sum())(vs), tangent / 2)


def test_a_surrogate_may_be_any_function(float64):
    """A user's own slope, learned through exactly."""

    def box(v: Array) -> Array:
        return (jnp.abs(v) < 0.4) * 1.0

    cell = cells.LIF(SIZE, MODULES, threshold=0.5, surrogate=box, key=jax.random.key(0))
    xs = inputs()
    weights = random_weights(unrolled(cell, xs)[1])
    grads, _ = online_gradient(cell, xs, weights, rtrl.RTRL(), 1)
    assert max(relative_error(grads, bptt_gradient(cell, xs, weights)).values()) < 1e-10
