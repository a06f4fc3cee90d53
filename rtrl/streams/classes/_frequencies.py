"""How often every class came."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

MEMORIES = (np.inf, 50.0)  # rows
PRIOR = 0.5  # of a class, in rows: Krichevsky & Trofimov's


class Frequencies(eqx.Module):
    """The share of every class, of all rows and of the last fifty.

    ::

        p(c) = (n_c + 1/2) / (n + C/2)

    Source: Krichevsky & Trofimov, "The performance of universal encoding" (1981).
    """

    @property
    def names(self):
        return tuple(
            "class frequencies" if memory == np.inf else f"of the last {memory:g} rows"
            for memory in MEMORIES
        )

    def init(self, sizes, key):
        return jnp.zeros((len(MEMORIES), sizes.classes), jnp.float32)

    def predict(self, state, features):
        counts = state + PRIOR
        return jnp.log(counts / counts.sum(-1, keepdims=True)), (), state

    def learn(self, state, kept, target, weight):
        keep = np.array([1 - 1 / memory for memory in MEMORIES], np.float32)[:, None]
        new = keep * state + weight * jnp.eye(state.shape[1])[target]
        return jnp.where(weight > 0, new, state)
