"""The Kalman optimizer against recursive least squares written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rtrl


def test_on_a_linear_model_it_is_recursive_least_squares(float64):
    rng = np.random.default_rng(0)
    xs = np.concatenate([rng.normal(size=(40, 3)), np.ones((40, 1))], 1)  # the last: a bias
    ys = xs @ np.array([1.0, -2.0, 0.5, 3.0]) + 0.1 * rng.normal(size=40)
    optimizer = rtrl.kalman(lambda grads: grads[3], prior=7.0)
    weights = jnp.zeros(4)
    state = optimizer.init(weights)
    for t, (x, y) in enumerate(zip(xs, ys, strict=True)):
        grads = jax.grad(lambda w, x=x, y=y: 0.5 * (w @ x - y) ** 2)(weights)
        updates, state = optimizer.update(grads, state)
        weights = jax.tree.map(jnp.add, weights, updates)
        seen = xs[: t + 1]  # ridge regression on all that was seen, prior variance 7
        ridge = np.linalg.solve(seen.T @ seen + np.eye(4) / 7.0, seen.T @ ys[: t + 1])
        assert np.allclose(weights, ridge, atol=1e-9)


def test_it_learns_a_recurrence_online():
    """A delayed copy in one pass: the decayed memory of a module has to be found."""
    xs = jax.random.normal(jax.random.key(0), (1500, 1))
    ys = jnp.roll(xs, 2, axis=0)
    model = rtrl.SequenceModel(
        1, 1, 6, 1, lambda size, key: rtrl.cells.LRU(size, 6, r_max=0.9, key=key),
        norm=None, glu=None, activation=lambda y: y, key=jax.random.key(1),
    )  # fmt: skip
    learner = rtrl.OnlineLearner(
        lambda p, y: 0.5 * ((p - y) ** 2).sum(), rtrl.kalman()
    )
    _, out = learner.scan(learner.init(model), xs, ys)
    assert float(out.loss[-300:].mean()) < 0.1 < float(out.loss[:50].mean())  # variance / 2 = 0.5


def test_prior_must_be_positive():
    with pytest.raises(ValueError, match="prior: expected a positive ratio"):
        rtrl.kalman(lambda grads: grads, prior=0.0)
