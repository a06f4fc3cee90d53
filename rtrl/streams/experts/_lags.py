"""Linear regression on what the target was last."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from rtrl.streams.experts._features import LAGS
from rtrl.streams.experts._rls import RLS


class Member(NamedTuple):
    """One regression: how many steps it sees, whether also the level, how it forgets.

    ``mean``: it tells what is to be added to the running mean, instead of to the last value; its
    ridge draws it there.
    """

    steps: int
    level: bool
    forgetting: float
    prior: float
    mean: bool = False

    @property
    def name(self) -> str:
        what = "lags" if self.level else "steps"
        memory = "" if self.forgetting == 1 else f", forgetting {self.forgetting:g}"
        return f"{self.steps} {what}{memory}{', about the mean' if self.mean else ''}"


MEMBERS = (
    Member(10, True, 0.98, 0.1), Member(10, True, 0.995, 0.1), Member(10, True, 1.0, 0.03),
    Member(10, False, 0.98, 1.0), Member(10, False, 1.0, 1.0), Member(3, True, 0.99, 1.0),
    Member(10, True, 0.998, 1.0, mean=True), Member(2, True, 1.0, 1.0, mean=True),
)  # fmt: skip
LONG = (Member(LAGS, True, 0.999, 0.3), Member(LAGS, True, 0.9995, 1.0, mean=True))


class Lags(eqx.Module):
    """Regressions of the change on the newest steps from row to row, and on the level.

    With the level that is a regression of the value on the last values, whose ridge draws it
    towards the last value instead of towards zero.

    Args:
        members: the regressions.
    """

    members: tuple[Member, ...] = eqx.field(static=True)

    def __init__(self, members: tuple[Member, ...] = MEMBERS):
        self.members = tuple(members)

    @property
    def names(self):
        return tuple(member.name for member in self.members)

    def init(self, sizes, key):
        size = max(member.steps for member in self.members)
        uses = [[True, m.level, *(np.arange(size) < m.steps)] for m in self.members]
        return RLS.empty(self._each("prior"), jnp.array(uses))

    def predict(self, state, features):
        steps = features.steps[: state.weights.shape[1] - 2]
        x = jnp.concatenate([jnp.stack([jnp.float32(1), features.level]), steps])
        start = self._each("mean") * features.mean
        return start + state.predict(x), (x, start), state

    def learn(self, state, kept, target, weight):
        x, start = kept
        forgetting, prior = self._each("forgetting"), self._each("prior")
        return state.learn(x, target - start, weight, forgetting, prior)

    def _each(self, name):
        return np.array([getattr(member, name) for member in self.members], np.float32)
