"""Online logistic regression."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from rtrl.streams.experts import mixer

#: Rate, and whether it looks at moves and the last class: on rows in no order they are noise.
MEMBERS = ((0.05, True), (0.3, True), (0.3, False))
RATES = np.array([rate for rate, _ in MEMBERS], np.float32)
MOST = 32  # levels, and moves; more are mixed down to so many
TINY = 1e-8


class Logistic(eqx.Module):
    """Multinomial logistic regression on levels and moves of all columns and on the last class.

    One member looks at levels alone.

    ::

        p = softmax(W x),    g = (p - 1_c) x^T,    G <- G + g^2,    W <- W - rate g / sqrt(G)

    Source: Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning" (2011).
    """

    @property
    def names(self):
        return tuple(
            f"logistic regression, rate {rate:g}" + ("" if whole else ", levels alone")
            for rate, whole in MEMBERS
        )

    def init(self, sizes, key):
        levels, moves = jax.random.split(key)
        columns = min(sizes.columns, MOST)
        size = 1 + 2 * columns + sizes.classes + 1
        weights = jnp.zeros((len(RATES), sizes.classes, size), jnp.float32)
        mixers = mixer(sizes.columns, MOST, levels), mixer(sizes.columns, MOST, moves)
        return weights, jnp.zeros_like(weights), mixers

    def predict(self, state, features):
        weights, _, mixers = state
        levels, moves = (
            a if mix is None else mix @ a
            for a, mix in zip((features.inputs, features.moves), mixers, strict=True)
        )
        last = jnp.eye(weights.shape[1] + 1)[features.last[0]]
        x = jnp.concatenate([jnp.ones(1), levels, moves, last])
        alone = 1 + len(levels)  # numbers that every member looks at
        seen = [np.ones(len(x)) if whole else np.arange(len(x)) < alone for _, whole in MEMBERS]
        x = x * np.array(seen, np.float32)
        return jax.nn.log_softmax(jnp.einsum("mcx,mx->mc", weights, x)), x, state

    def learn(self, state, kept, target, weight):
        weights, squares, mixers = state
        x = kept
        told = jax.nn.softmax(jnp.einsum("mcx,mx->mc", weights, x))
        error = told - jnp.eye(weights.shape[1])[target]
        gradient = weight * error[:, :, None] * x[:, None, :]
        squares = squares + gradient**2
        step = RATES[:, None, None] * gradient / jnp.sqrt(squares + TINY)
        return weights - step, squares, mixers
