"""Learners for the analysis to look at: one that learns, and ways to break it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import rtrl

LAG, STEPS, WINDOW, CHUNK = 8, 1600, 192, 4


def data(steps: int = STEPS, lag: int = LAG, seed: int = 0):
    """White noise, its value ``lag`` timesteps ago and a little of a younger one to be found."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps, 1)).astype(np.float32)
    y = 0.05 * rng.normal(size=(steps, 1)).astype(np.float32)
    y[lag:] += 0.8 * x[:-lag]
    y[2:] += 0.5 * x[:-2]
    return x, y


def loss(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


def lru(r_min=0.5, r_max=0.95):
    return lambda size, key: rtrl.cells.LRU(size, 12, r_min=r_min, r_max=r_max, key=key)


def min_gru(tau_max=30.0):
    return lambda size, key: rtrl.cells.MinGRU(size, 12, tau_max=tau_max, key=key)


def network(cell=None, depth=2, seed=0):
    return rtrl.SequenceModel(
        1, 1, 12, depth, lru() if cell is None else cell, key=jax.random.key(seed)
    )


#: The rate is in the optimizer's state, so that learners with different rates share programs.
LEARNER = rtrl.OnlineLearner(
    loss, optax.inject_hyperparams(optax.adam)(learning_rate=3e-3), donate=False
)


def learned(model, rate=3e-3, steps=STEPS, rule=None):
    """A state that has learned up to a timestep, and the window before it."""
    xs, ys = data()
    state = LEARNER.init(model)
    state = eqx.tree_at(
        lambda s: s.opt_state.hyperparams["learning_rate"], state, jnp.float32(rate)
    )
    state, _ = LEARNER.scan(state, xs[:steps], ys[:steps], chunk=CHUNK)
    return state, xs[steps - WINDOW : steps], ys[steps - WINDOW : steps]


def kinds(diagnosis) -> dict[str, str]:
    """What is said to be wrong, and where."""
    return {f.kind: f.where for f in diagnosis.problems}
