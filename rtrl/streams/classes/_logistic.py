"""Online logistic regression."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from rtrl.streams.experts import mixer

RATES = (0.05, 0.3)
MOST = 64  # numbers of other columns; more are mixed down to so many
TINY = 1e-8


class Logistic(eqx.Module):
    """Multinomial logistic regression on levels and moves of all columns and on the last class.

    ::

        p = softmax(W x),    g = (p - 1_c) x^T,    G <- G + g^2,    W <- W - rate g / sqrt(G)

    Source: Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning" (2011).
    """

    @property
    def names(self):
        return tuple(f"logistic regression, rate {rate:g}" for rate in RATES)

    def init(self, sizes, key):
        size = 1 + min(2 * sizes.columns, MOST) + sizes.classes + 1
        weights = jnp.zeros((len(RATES), sizes.classes, size), jnp.float32)
        return weights, jnp.zeros_like(weights), mixer(2 * sizes.columns, MOST, key)

    def predict(self, state, features):
        weights, _, mix = state
        others = jnp.concatenate([features.inputs, features.moves])
        others = others if mix is None else mix @ others
        last = jnp.eye(weights.shape[1] + 1)[features.last[0]]
        x = jnp.concatenate([jnp.ones(1), others, last])
        return jax.nn.log_softmax(weights @ x), x, state

    def learn(self, state, kept, target, weight):
        weights, squares, mix = state
        x = kept
        error = jax.nn.softmax(weights @ x) - jnp.eye(weights.shape[1])[target]
        gradient = weight * error[:, :, None] * x
        squares = squares + gradient**2
        rates = np.array(RATES, np.float32)[:, None, None]
        return weights - rates * gradient / jnp.sqrt(squares + TINY), squares, mix
