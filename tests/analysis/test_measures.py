"""What a diagnosis is made of, each part against another way to it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analysis.learners import loss, lru, min_gru, network
from jax.flatten_util import ravel_pytree

import rtrl
from rtrl.analysis._gates import gates
from rtrl.analysis._lags import gradient_by_lag
from rtrl.analysis._missing import error_by_lag
from rtrl.analysis._recording import record
from rtrl.analysis._timescales import timescales

K = 24
DATA = [jnp.asarray(a) for a in np.random.default_rng(2).normal(size=(2, K, 2, 1))]


def recorded(model, resets=None):
    xs, ys = DATA
    return record(
        model, xs, rtrl.init_carry(model, rtrl.BPTT(), 2), loss, ys, jnp.ones((K, 2)), resets
    )[1]


@pytest.mark.parametrize(
    ("cell", "resets"), [(lru(), True), (min_gru(), False)], ids=["LRU, resets", "MinGRU"]
)
def test_the_gradient_by_lag_sums_up_to_that_of_a_rule(float64, cell, resets):
    """Lag 0 is `Truncated`'s gradient, all lags together that of `RTRL` with present errors."""
    model = network(cell)
    resets = jnp.zeros((K, 2), bool).at[9].set(True) if resets else None
    xs, ys = DATA
    _, first = rtrl.sequence_gradient(model, loss, xs, ys, rule=rtrl.Truncated(), resets=resets)
    rule = rtrl.RTRL(errors="timestep")
    _, whole = rtrl.sequence_gradient(model, loss, xs, ys, rule=rule, resets=resets)
    for i, seen in enumerate(recorded(model, resets)):
        a, b = (ravel_pytree(g.layers[i].cell)[0] for g in (first, whole))
        shares, sizes = gradient_by_lag(model.layers[i].cell, seen, K)
        np.testing.assert_allclose(shares.sum(), 1, rtol=1e-9)
        np.testing.assert_allclose(shares[0], a @ b / (b @ b), rtol=1e-8)
        np.testing.assert_allclose(sizes[0], jnp.linalg.norm(a), rtol=1e-8)
        few, _ = gradient_by_lag(model.layers[i].cell, seen, 3)
        np.testing.assert_allclose(few, shares[:3], rtol=1e-8)


def test_lags_of_a_dense_cell_go_by_way_of_all_modules(float64):
    cell = rtrl.cells.LinearRNN(1, 4, key=jax.random.key(0))
    model = rtrl.SequenceModel(1, 1, 1, 1, lambda size, key: cell, norm=None, key=jax.random.key(1))
    (seen,) = recorded(model)
    shares, _ = gradient_by_lag(cell, seen, K)
    np.testing.assert_allclose(shares.sum(), 1, rtol=1e-9)
    xs, ys = DATA
    _, g = rtrl.sequence_gradient(model, loss, xs, ys, rule=rtrl.BPTT())
    b = ravel_pytree(g.layers[0].cell)[0]
    _, first = rtrl.sequence_gradient(model, loss, xs, ys, rule=rtrl.Truncated())
    a = ravel_pytree(first.layers[0].cell)[0]
    np.testing.assert_allclose(shares[0], a @ b / (b @ b), rtol=1e-8)


def test_time_scales_where_modules_see_each_other(float64):
    cell = rtrl.cells.LinearRNN(1, 5, nu0=0.3, key=jax.random.key(4))
    model = rtrl.SequenceModel(1, 1, 1, 1, lambda size, key: cell, key=jax.random.key(1))
    xs = jnp.zeros((400, 1))
    _, (seen,) = record(model, xs, rtrl.init_carry(model, rtrl.BPTT()))
    moduli = np.sort(np.abs(np.linalg.eigvals(np.asarray(cell.A))))[::-1]
    # Complex pairs turn the frame, and the mean over 300 timesteps leaves some percent of it.
    np.testing.assert_allclose(timescales(seen), -1 / np.log(moduli), rtol=0.05)


def test_gates_are_those_of_the_equations(float64):
    cell = rtrl.cells.GRU(1, 6, key=jax.random.key(0))
    bias = jnp.array([0.0, 30.0, -30.0, 1.0, 1.0, 1.0])
    cell = eqx.tree_at(lambda c: c.b_f, cell, bias)
    model = rtrl.SequenceModel(1, 1, 1, 1, lambda size, key: cell, key=jax.random.key(1))
    (seen,) = recorded(model)
    found = {g.name: g for g in gates(cell, seen)}
    assert list(found) == ["sigmoid 1", "sigmoid 2", "tanh 1"]
    h = np.concatenate([np.zeros((1, 2, 6)), np.asarray(seen.states[:-1, :, 0])])
    x = np.asarray(seen.partials.inputs[0])
    f = 1 / (1 + np.exp(-(x @ np.asarray(cell.W_f).T + h @ np.asarray(cell.U_f).T + bias)))
    np.testing.assert_allclose(found["sigmoid 2"].values, f.mean((0, 1)), rtol=1e-7)
    np.testing.assert_array_equal(found["sigmoid 2"].saturated[:3], [0, 1, 1])
    other = network()
    assert gates(other.layers[0].cell, recorded(other)[0]) == []


def test_what_errors_owe_to_old_inputs_is_found_at_its_lag():
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(400, 3, 2)), rng.normal(size=(400, 3, 1))
    errors = 0.5 * noise
    errors[7:, :, 0] += x[:-7, :, 1]
    known, resets = rng.random((400, 3)) < 0.7, np.zeros((400, 3), bool)
    found = error_by_lag(errors, x, 20, known)
    # One part in five is noise; the others, at chance, are off by a few times 1 / 840.
    assert int(np.argmax(found)) == 7 and abs(found[7] - 0.8) < 0.05
    assert np.abs(np.delete(found, 7)).max() < 0.03
    resets[::5] = True  # no lag reaches across: nothing of it is left
    assert error_by_lag(errors, x, 20, known, resets)[7] == 0
