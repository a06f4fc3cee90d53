"""What JAX's transformations and a user's own parts must not change."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import network, squared_error

import rtrl
from rtrl.learners._jit import Jitted

KEY = jax.random.key(0)


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint])
def test_resets_and_masks_inside_jit_inside_grad(wrap):
    cell = rtrl.cells.LRU(1, 3, key=KEY)
    carry = rtrl.init_carry(cell, rtrl.RTRL())
    flags = jnp.array([True, False, True])

    def loss(cell, flags):
        hs, _ = rtrl.recur(
            cell, jnp.ones((3, 1)), carry, rule=rtrl.RTRL(), resets=flags, mask=flags
        )
        return jnp.abs(hs).sum()

    plain = jax.jit(jax.grad(loss))(cell, flags)
    wrapped = jax.grad(wrap(loss))(cell, flags)  # eager, but for what is wrapped
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), wrapped, plain)


class Stopped(eqx.Module):
    inner: Callable

    def __call__(self, *xs):
        return jax.lax.stop_gradient(self.inner(*xs))


def test_trace_advances_where_no_error_comes():
    def cell(size, key):
        return rtrl.cells.LRU(size, 3, key=key)

    model = rtrl.SequenceModel(1, 1, width=4, depth=1, cell=cell, key=KEY)
    model = eqx.tree_at(lambda m: m.layers[0].readout, model, replace_fn=Stopped)
    learner = rtrl.OnlineLearner(lambda p, y: jnp.sum((p - y) ** 2), optax.sgd(0.0))
    state, _ = learner.step(learner.init(model), jnp.ones(1), jnp.ones(1))
    assert jnp.abs(state.carry[0].trace.projections[0]).max() > 0


def test_a_transformation_leaves_the_callers_state_alone():
    """Donation is for plain calls: mapped over targets alone, every step starts from one state."""
    model = network("LRU")
    learner = rtrl.OnlineLearner(squared_error, optax.sgd(0.1))
    state = learner.init(model)
    x, ys = jnp.ones(3), jnp.arange(8.0).reshape(4, 2)
    losses = jax.vmap(lambda y: learner.step(state, x, y)[1].loss)(ys)
    slope = jax.grad(lambda y: learner.step(state, x, y)[1].loss)(ys[0])
    prediction, _ = learner.predict(state, x)  # the state is still there
    assert np.allclose(losses, ((prediction - ys) ** 2).sum(1), atol=1e-5)
    assert np.allclose(slope, -2 * (prediction - ys[0]), atol=1e-5)
    strict = rtrl.OnlineLearner(squared_error, optax.sgd(0.1), on_nonfinite="raise")
    with pytest.raises(ValueError, match="on_nonfinite: 'raise' can't work inside jit"):
        jax.jit(lambda y: strict.step(state, x, y)[1].loss)(ys[0])


@pytest.mark.parametrize("cell", ["LRU", "LeakyIntegrator"])
def test_gradients_of_learning_itself(cell, float64):
    """How the last loss depends on the first state, traces included, forwards and backwards."""
    xs, ys = jnp.ones((4, 3)), jnp.ones((4, 2))
    learner = rtrl.OnlineLearner(squared_error, optax.sgd(0.01), donate=False)
    arrays, static = eqx.partition(learner.init(network(cell)), eqx.is_inexact_array)
    arrays = jax.tree.map(lambda a: a + 0.01, arrays)
    direction = jax.tree.map(
        lambda a: (jnp.arange(a.size) % 5 - 2).reshape(a.shape).astype(a.dtype), arrays
    )

    def last_loss(arrays):
        return learner.scan(eqx.combine(arrays, static), xs, ys)[1].loss[-1]

    def moved(step):
        return last_loss(jax.tree.map(lambda a, d: a + step * d, arrays, direction))

    slope = jax.jit(jax.grad(last_loss))(arrays)
    _, forwards = jax.jit(lambda a, d: jax.jvp(last_loss, (a,), (d,)))(arrays, direction)
    backwards = sum(
        jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum().real, slope, direction))
    )
    difference = (moved(1e-6) - moved(-1e-6)) / 2e-6
    # float64: central differences of 1e-6 are good to 1e-6 of a slope of order one
    np.testing.assert_allclose([forwards, backwards], [difference] * 2, rtol=1e-5)
    assert all(jnp.abs(t).max() > 0 for t in jax.tree.leaves(slope.carry[0].trace))


def test_constants_that_compare_equal_are_not_the_same_program():
    class Signed(eqx.Module):
        zero: float

    sign = Jitted(lambda model, x: x * jnp.copysign(1.0, model.zero))
    x = jnp.ones(())
    assert float(sign(Signed(0.0), x)) == 1.0 and float(sign(Signed(-0.0), x)) == -1.0
    sign(Signed(float("nan")), x)
    before = sign._program.cache_info().misses
    sign(Signed(float("nan")), x)  # not a number, but the same constant
    assert sign._program.cache_info().misses == before
