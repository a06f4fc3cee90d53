"""Errors through random weights: what they change, and what they leave alone."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import IN, OUT, data, network, squared_error
from oracles import relative_errors

import rtrl

KEY = jax.random.key(7)


class Stack(eqx.Module):
    """Two recurrent layers and a linear readout: nothing else."""

    lower: rtrl.Cell
    upper: rtrl.Cell
    head: eqx.nn.Linear

    def __call__(self, xs, carry, *, rule, resets, mask, key):
        h, lower = rtrl.recur(self.lower, xs, carry[0], rule=rule, resets=resets, mask=mask)
        h, upper = rtrl.recur(self.upper, h, carry[1], rule=rule, resets=resets, mask=mask)
        return jax.vmap(self.head)(h), (lower, upper)


@pytest.mark.core
def test_a_timestep_by_hand(float64):
    """Two tanh layers and a head, backpropagated in NumPy through the random weights."""
    keys = jax.random.split(jax.random.key(0), 3)
    stack: Any = Stack(
        rtrl.cells.ElementwiseRNN(IN, 4, key=keys[0]),
        rtrl.cells.ElementwiseRNN(4, 5, key=keys[1]),
        eqx.nn.Linear(5, OUT, key=keys[2]),
    )
    random = rtrl.random_feedback(stack, KEY)
    x, y = np.array([[0.3, -1.2, 0.7]]), np.array([[0.5, -0.4]])
    _, grads = rtrl.sequence_gradient(random, squared_error, x, y, rule=rtrl.RTRL())
    W1, W2, V = (np.asarray(w) for w in (stack.lower.W, stack.upper.W, stack.head.weight))
    B2, BV = np.asarray(random.upper.feedback()[0]), np.asarray(random.head.random.weight())
    assert B2.shape == W2.shape and BV.shape == V.shape
    h1 = np.tanh(W1 @ x[0])
    h2 = np.tanh(W2 @ h1)
    to_y = 2 * (V @ h2 + np.asarray(stack.head.bias) - y[0])
    to_u2 = (1 - h2**2) * (BV.T @ to_y)
    to_u1 = (1 - h1**2) * (B2.T @ to_u2)
    assert np.allclose(grads.head.inner.weight, np.outer(to_y, h2), rtol=1e-12)
    assert np.allclose(grads.upper.cell.W, np.outer(to_u2, h1), rtol=1e-12)
    assert np.allclose(grads.lower.cell.W, np.outer(to_u1, x[0]), rtol=1e-12)
    assert not np.allclose(to_u2, (1 - h2**2) * (V.T @ to_y), rtol=0.1)  # not the transposed


@pytest.mark.core
@pytest.mark.parametrize("cell", ["LRU"])
def test_only_what_lies_below_random_weights_learns_something_else(cell, float64):
    model = network(cell, norm="post")
    random = rtrl.random_feedback(model, KEY)
    xs, ys, weights, resets = data(8, 2, 0)

    def gradient(model, rule, chunk=8):
        return rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rule, chunk=chunk, weights=weights, resets=resets
        )

    loss, plain = gradient(model, rtrl.RTRL())
    same_loss, grads = gradient(random, rtrl.RTRL())
    assert np.isclose(loss, same_loss, rtol=1e-12)
    assert max(relative_errors(grads.decoder.inner, plain.decoder).values()) < 1e-12
    below = grads.layers[0].cell.cell, plain.layers[0].cell
    assert min(relative_errors(*below).values()) > 1e-2
    # The engine's own way back and ordinary autodiff agree: a chunk of all timesteps is BPTT.
    _, bptt = gradient(random, rtrl.BPTT())
    assert max(relative_errors(grads, bptt).values()) < 1e-10


def test_random_weights_are_no_parameters():
    model = network("LRU", depth=1)
    random = rtrl.random_feedback(model, KEY)

    def sizes(m):
        return sorted(a.size for a in jax.tree.leaves(eqx.filter(m, eqx.is_inexact_array)))

    assert sizes(model) == sizes(random)
    xs, ys, _, _ = data(20, None, 1)
    learner = rtrl.OnlineLearner(squared_error, optax.adamw(1e-2, weight_decay=0.5))
    state, outs = learner.scan(learner.init(random), xs, ys)
    before, after = random.decoder.random.weight(), state.model.decoder.random.weight()
    assert np.array_equal(before, after) and np.asarray(before).std() > 0.1
    assert not np.allclose(state.model.decoder.inner.weight, random.decoder.inner.weight)
    assert np.isfinite(outs.loss).all()
    with pytest.raises(ValueError, match="xs: expected floating-point features"):
        random(jnp.ones((4, IN), int), rtrl.init_carry(random, rtrl.RTRL()), rule=rtrl.RTRL())
    with pytest.raises(ValueError, match="tree: expected a network with cells"):
        rtrl.random_feedback(eqx.nn.LayerNorm(3), KEY)
