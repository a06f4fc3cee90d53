"""Linear regression on what the target was one period before."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from rtrl.streams.experts._rls import RLS

STEPS = 3
#: Forgetting, prior, and the season's forecast to which a regression adds (none: the last value).
MEMBERS = (
    (0.99, 1.0, None), (0.998, 1.0, None), (0.998, 1.0, "mean season"), (1.0, 3.0, "mean season"),
    (0.998, 1.0, "mean change"), (1.0, 3.0, "mean change"),
)  # fmt: skip
START = {None: 6, "mean season": 2, "mean change": 4}


class Seasonal(eqx.Module):
    """Regressions of the change on what seasons tell, the newest steps and the level."""

    @property
    def names(self):
        return tuple(
            f"season{f', forgetting {f:g}' if f < 1 else ''}{f', from {start}' if start else ''}"
            for f, _, start in MEMBERS
        )

    def init(self, sizes, key):
        size = 2 + STEPS + 6
        return RLS.empty(_each(1), jnp.ones((len(MEMBERS), size), bool))

    def predict(self, state, features):
        first = jnp.stack([jnp.float32(1), features.level])
        x = jnp.concatenate([first, features.steps[:STEPS], features.seasonal])
        told = jnp.append(features.seasonal, 0)
        start = told[jnp.array([START[start] for _, _, start in MEMBERS])]
        return start + state.predict(x), (x, start), state

    def learn(self, state, kept, target, weight):
        x, start = kept
        return state.learn(x, target - start, weight, _each(0), _each(1))


def _each(place):
    return np.array([member[place] for member in MEMBERS], np.float32)
