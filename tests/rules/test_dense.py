"""Cells whose modules see each other: equations, starts, and their trace under SnAp-1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL_CELLS, DENSE, MODULES
from cell_equations import adaptive_lif, lif, sig
from jax.flatten_util import ravel_pytree
from one_layer import (
    bptt_gradient,
    linear_loss,
    one_step,
    online_gradient,
    random_weights,
    relative_error,
    unrolled,
)

import rtrl
from rtrl import cells

SIZE, T = 3, 14


def make(name):
    return ALL_CELLS[name](SIZE, jax.random.key(0))


def inputs():
    return 2 * jax.random.normal(jax.random.key(1), (T, SIZE))


# The equations, in NumPy -------------------------------------------------------------------------


def gru(p, h, x):
    r = sig(p.W_r @ x + p.U_r @ h + p.b_r)
    f = sig(p.W_f @ x + p.U_f @ h + p.b_f)
    n = np.tanh(p.W_n @ x + p.b_n + r * (p.U_n @ h + p.b_h))
    return f * h + (1 - f) * n


def lstm(p, h, x):
    c, y = h
    i, f, o, z = (
        getattr(p, f"W_{g}") @ x + getattr(p, f"U_{g}") @ y + getattr(p, f"b_{g}") for g in "ifoz"
    )
    c = sig(f) * c + sig(i) * np.tanh(z)
    return c, sig(o) * np.tanh(c)


def dense_adaptive_lif(p, h, x):
    above, a = adaptive_lif(p, h, x)
    return above + p.U @ (h[0] > 0.5), a


def gated(s, p, h, x):
    return (1 - s) * h + s * np.tanh(p.W @ x + p.U @ h)


EQUATIONS = {
    "LinearRNN": lambda p, h, x: p.A @ h + p.B @ x,
    "VanillaRNN": lambda p, h, x: np.tanh(p.W @ x + p.U @ h + p.b),
    "GRU": gru,
    "LSTM": lstm,
    "LIF-dense": lambda p, h, x: lif(p, h, x) + p.U @ (h > 0.5),
    "AdaptiveLIF-dense": dense_adaptive_lif,
    "ConstGate-dense": lambda p, h, x: gated(0.3, p, h, x),
    "SharedGate-dense": lambda p, h, x: gated(sig(p.w_s @ x + p.u_s @ h + p.b_s), p, h, x),
    "DiagGate-dense": lambda p, h, x: gated(sig(p.W_s @ x + p.U_s @ h + p.b_s), p, h, x),
}


@pytest.mark.parametrize("name", DENSE)
def test_equation(name, float64):
    """The engine's states are those of the equation."""
    xs = inputs()
    # Parameters away from where they start, which for biases is zero.
    leaves, structure = jax.tree.flatten(make(name))
    rng = np.random.default_rng(0)
    moved = [np.asarray(leaf + 0.1 * rng.standard_normal(leaf.shape)) for leaf in leaves]
    cell = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in moved])
    parameters = jax.tree.unflatten(structure, moved)
    carry = rtrl.init_carry(cell, rtrl.Spatial())
    outputs, carry = rtrl.recur(cell, xs, carry, rule=rtrl.Spatial())
    h = jax.tree.map(np.asarray, cell.initial())
    for t, x in enumerate(np.asarray(xs)):
        h = EQUATIONS[name](parameters, h, x)
        expected = cell.output(jax.tree.map(jnp.asarray, h))
        assert np.allclose(outputs[t], expected, rtol=1e-9, atol=1e-9)
    for a, b in zip(jax.tree.leaves(carry.state), jax.tree.leaves(h), strict=True):
        assert np.allclose(a, b, rtol=1e-9, atol=1e-9)


# SnAp-1 ------------------------------------------------------------------------------------------


@jax.jit
def sensitivity_gradient(cell, xs, weights, mask):
    """``S_t = (mask * dh_t/dh_{t-1}) S_{t-1} + dh_t/dparameters`` with dense one-step Jacobians.

    S has a row for every number of every module and a column for every parameter.
    """
    parameters, unravel = ravel_pytree(cell)
    h0, unravel_state = ravel_pytree(cell.initial())

    def step(parameters, h, x):
        return ravel_pytree(one_step(unravel(parameters), unravel_state(h), x))[0]

    def timestep(state, data):
        h, S = state
        x, w = data
        F = jax.jacfwd(step, 1)(parameters, h, x)
        S = (mask * F) @ S + jax.jacfwd(step, 0)(parameters, h, x)
        h = step(parameters, h, x)
        error = jax.grad(lambda h: linear_loss(cell.output(unravel_state(h)), w))(h)
        return (h, S), error @ S

    _, grads = jax.lax.scan(timestep, (h0, jnp.zeros((h0.size, parameters.size))), (xs, weights))
    return unravel(grads.sum(0))


@pytest.mark.core
@pytest.mark.parametrize("name", DENSE)
def test_snap1_is_the_diagonal_of_the_full_jacobian(name, float64):
    cell, xs = make(name), inputs()
    weights = random_weights(unrolled(cell, xs)[1])
    numbers = len(jax.tree.leaves(cell.initial()))
    own_module = np.kron(np.ones((numbers, numbers)), np.eye(MODULES))
    expected = sensitivity_gradient(cell, xs, weights, own_module)
    grads, _ = online_gradient(cell, xs, weights, rtrl.SnAp1(), 1)
    assert max(relative_error(grads, expected).values()) < 1e-10
    # The oracle with all of the Jacobian is BPTT, which SnAp-1 is not.
    exact = sensitivity_gradient(cell, xs, weights, np.ones_like(own_module))
    assert max(relative_error(exact, bptt_gradient(cell, xs, weights)).values()) < 1e-10
    assert max(relative_error(grads, exact).values()) > 1e-2


@pytest.mark.parametrize("name", DENSE)
def test_rtrl_refuses_and_names_what_fits(name):
    message = (
        f"RTRL does not fit {name.split('-')[0]}: its modules see each other.*fit: .*SnAp1,.*BPTT"
    )
    with pytest.raises(ValueError, match=message):
        rtrl.init_carry(make(name), rtrl.RTRL())


# How they start ----------------------------------------------------------------------------------


def test_linear_rnn_starts_with_the_spectrum_of_the_paper():
    n = 200
    for theta0 in (np.pi, 0.5):
        cell = cells.LinearRNN(50, n, nu0=0.8, theta0=theta0, key=jax.random.key(0))
        got = np.linalg.eigvals(np.asarray(cell.A, float))
        assert np.all(abs(got) > 0.8 - 1e-3) and np.all(abs(got) < 1)
        pairs = got[abs(got.imag) > 1e-4]
        assert len(pairs) > 0.8 * n and np.all(abs(np.angle(pairs)) <= theta0 + 1e-3)
        # Uniform in the disk before: the mean of tanh(r) for a density 2 r on [0, 1].
        r = np.linspace(0, 1, 1001)
        mean = np.trapezoid(2 * r * np.tanh(r), r)
        assert abs((abs(got).mean() - 0.8) / 0.2 - mean) < 0.03
        assert abs(np.var(cell.B) * 50 - 1) < 0.1


def test_other_starts():
    key = jax.random.key(0)
    lstm = cells.LSTM(50, 2000, nu0=0.9, key=key)
    for cell in (cells.GRU(50, 2000, nu0=0.9, key=key), lstm):
        T = np.exp(np.asarray(cell.b_f, float))
        assert 9.99 < T.min() and T.max() < 20.01 and abs(T.mean() - 15) < 0.2
    assert np.array_equal(lstm.b_i, -lstm.b_f)
    rnn = cells.VanillaRNN(50, 400, gain=1.5, density=0.1, key=key)
    U = np.asarray(rnn.recurrent())
    assert abs((U != 0).mean() - 0.1) < 0.01
    assert abs(np.var(U) * 400 / 1.5**2 - 1) < 0.1
    assert abs(np.corrcoef(np.ravel(rnn.W), np.ravel(rnn.U[:, :50]))[0, 1]) < 0.05
    for name in ("LIF-dense", "DiagGate-dense", "SharedGate-dense"):
        assert abs(np.var(DENSE[name](50, key).U) * MODULES - 1) < 0.6  # 25 numbers


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        (cells.LinearRNN, {"nu0": 1.0}, r"nu0: expected a modulus in \[0, 1\), got 1.0"),
        (cells.LinearRNN, {"theta0": 0.0}, "theta0: expected a phase"),
        (cells.VanillaRNN, {"gain": 0.0}, "gain: expected a positive number"),
        (cells.VanillaRNN, {"density": 0.0}, r"density: expected a share in \(0, 1\]"),
        (cells.GRU, {"nu0": -0.1}, r"nu0: expected a decay in \[0, 1\)"),
        (cells.LSTM, {"nu0": 1.0}, "nu0: expected a decay"),
    ],
    ids=lambda v: "",
)
def test_bad_arguments(cell, options, message):
    with pytest.raises(ValueError, match=message):
        cell(3, 4, **options, key=jax.random.key(0))
    for sizes, wrong in [((0, 4), "in_size: expected at least 1"), ((3, 0), "hidden_size: exp")]:
        with pytest.raises(ValueError, match=wrong):
            cell(*sizes, key=jax.random.key(0))
