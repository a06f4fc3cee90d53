"""An echo state network: a random memory, and a linear regression on it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from rtrl.streams.experts._others import mixer
from rtrl.streams.experts._rls import RLS

STEPS = 3
MOST = 8
RADIUS, INPUTS, BIAS = 0.9, 0.3, 0.5
FORGETTING = np.array([0.9995], np.float32)
PRIOR = np.array([1e-2], np.float32)


class Echo(eqx.Module):
    """A regression of the change on the state of a random recurrent network.

    ::

        r[t] = tanh(W r[t-1] + V (level, step, other columns) + b)

    Args:
        units: of r.

    Source: Jaeger, "The echo state approach to analysing and training recurrent neural networks"
    (2001).
    """

    units: int = eqx.field(static=True, default=48)

    @property
    def names(self):
        return (f"echo state network ({self.units})",)

    def init(self, sizes, key):
        size = self.units
        weights, inputs, bias, mix = jax.random.split(key, 4)
        # By the circular law its spectral radius is RADIUS, nearly.
        recurrent = jax.random.normal(weights, (size, size), jnp.float32) * RADIUS / np.sqrt(size)
        columns = 2 + min(2 * sizes.columns, MOST)
        uniform = jax.random.uniform
        fixed = (
            recurrent,
            uniform(inputs, (size, columns), jnp.float32, -INPUTS, INPUTS),
            uniform(bias, (size,), jnp.float32, -BIAS, BIAS),
            mixer(2 * sizes.columns, MOST, mix),
        )
        uses = jnp.ones((1, 2 + STEPS + size), bool)
        return RLS.empty(PRIOR, uses), jnp.zeros(size, jnp.float32), fixed

    def predict(self, state, features):
        rls, r, fixed = state
        recurrent, inputs, bias, mix = fixed
        others = jnp.concatenate([features.inputs, features.moves])
        others = others if mix is None else mix @ others
        u = jnp.concatenate([jnp.stack([features.level, features.step]), others])
        r = jnp.where(features.reset, 0, r)
        r = jnp.tanh(recurrent @ r + inputs @ u + bias)
        first = jnp.stack([jnp.float32(1), features.level])
        x = jnp.concatenate([first, features.steps[:STEPS], r])
        return rls.predict(x), x, (rls, r, fixed)

    def learn(self, state, kept, target, weight):
        rls, r, fixed = state
        return rls.learn(kept, target, weight, FORGETTING, PRIOR), r, fixed
