"""Linear regression on the other columns."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from rtrl.streams.experts._rls import RLS

STEPS = 3
MOST = 24  # numbers of other columns; more are mixed down to so many
FORGETTING = np.array([0.995, 1.0, 1.0], np.float32)
PRIOR = np.array([1.0, 3.0, 3.0], np.float32)
MEAN = np.array([0.0, 0.0, 1.0], np.float32)  # whether it adds to the mean, not to the last value


def mixer(columns: int, most: int, key):
    """A random matrix that takes ``columns`` numbers to ``most``; None if there are not more."""
    if columns <= most:
        return None
    return jax.random.normal(key, (most, columns), jnp.float32) / np.sqrt(columns)


class Others(eqx.Module):
    """Regressions of the change on levels and moves of all columns, and the target's own."""

    @property
    def names(self):
        return "all columns, forgetting 0.995", "all columns", "all columns, about the mean"

    def init(self, sizes, key):
        mix = mixer(2 * sizes.columns, MOST, key)
        size = 2 + STEPS + min(2 * sizes.columns, MOST)
        return RLS.empty(PRIOR, jnp.ones((len(PRIOR), size), bool)), mix

    def predict(self, state, features):
        rls, mix = state
        others = jnp.concatenate([features.inputs, features.moves])
        others = others if mix is None else mix @ others
        first = jnp.stack([jnp.float32(1), features.level])
        x = jnp.concatenate([first, features.steps[:STEPS], others])
        start = MEAN * features.mean
        return start + rls.predict(x), (x, start), state

    def learn(self, state, kept, target, weight):
        rls, mix = state
        x, start = kept
        return rls.learn(x, target - start, weight, FORGETTING, PRIOR), mix
