"""What JAX's transformations and a user's own parts must not change."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rtrl

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

    plain = jax.grad(loss)(cell, flags)
    wrapped = jax.grad(wrap(loss))(cell, flags)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), wrapped, plain)


class Stopped(eqx.Module):
    inner: eqx.Module

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
