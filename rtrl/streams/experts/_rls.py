"""Recursive least squares, several at once."""

from typing import Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

CAP = 1e3  # of the diagonal of P


class RLS(eqx.Module):
    """Linear regressions that forget, each on its own part of the same features.

    ::

        w[t] minimises  sum over s of f^(t-s) a[s] (y[s] - w.x[s])^2  +  f^t prior |w|^2

        k = a P x / (f + a x.P x),    w <- w + k (y - w.x),    P <- (P - k (P x)^T) / f

    Where nothing excites a feature, forgetting would make P grow without bound: its diagonal stays
    below 1,000 (or ``1 / prior``, if that is more) by a scaling of that feature's row and column.
    Where rounding has left P without its sign, it begins anew; the weights stay.

    Attributes:
        weights: ``(members, features)``.
        covariance: P of every member, ``(members, features, features)``.

    Source: Plackett, "Some theorems in least squares", Biometrika, 1950; forgetting: Haykin,
    "Adaptive Filter Theory", chapter 10.
    """

    weights: Float[Array, "members features"]
    covariance: Float[Array, "members features features"]

    @classmethod
    def empty(cls, prior: ArrayLike, uses: ArrayLike) -> Self:
        """Give members that know nothing.

        Args:
            prior: of every member, ``(members,)``.
            uses: which features each looks at, ``(members, features)``.
        """
        uses = jnp.asarray(uses, jnp.float32)
        start = uses / jnp.asarray(prior, jnp.float32)[:, None]
        return cls(jnp.zeros_like(uses), start[:, :, None] * jnp.eye(uses.shape[1]))

    def predict(self, features: Float[Array, " features"]) -> Float[Array, " members"]:
        """Give w.x of every member."""
        return self.weights @ features

    def learn(
        self,
        features: Float[Array, " features"],
        target: ArrayLike,
        weight: ArrayLike,
        forgetting: ArrayLike,
        prior: ArrayLike,
    ) -> Self:
        """Learn one pair; with weight 0 nothing changes.

        Args:
            features: x.
            target: y, one for all members or one each.
            weight: a.
            forgetting: f of every member, ``(members,)``.
            prior: as it began with.
        """
        weight = jnp.asarray(weight, jnp.float32)
        prior = jnp.asarray(prior, jnp.float32)[:, None]
        forgetting = jnp.where(weight > 0, jnp.asarray(forgetting, jnp.float32), 1)
        gain = self.covariance @ features  # P x; features that are not used have none
        diagonal = jnp.diagonal(self.covariance, axis1=1, axis2=2)
        # Rounding has made it no covariance, after many rows that are all the same: anew.
        sound = (gain @ features >= 0) & (diagonal >= 0).all(1)
        first = jnp.where(diagonal == 0, 0, 1 / prior)
        covariance = jnp.where(
            sound[:, None, None], self.covariance, first[:, :, None] * jnp.eye(len(features))
        )
        gain = jnp.where(sound[:, None], gain, first * features)
        spread = forgetting + weight * (gain @ features)
        error = target - self.predict(features)
        weights = self.weights + gain * (weight * error / spread)[:, None]
        # An outer product of one vector with itself keeps P symmetric to the last bit.
        scaled = gain * jnp.sqrt(weight / spread)[:, None]
        covariance = covariance - scaled[:, :, None] * scaled[:, None, :]
        bound = jnp.maximum(CAP, 1 / prior)
        diagonal = jnp.diagonal(covariance, axis1=1, axis2=2)
        growth = jnp.minimum(1 / forgetting[:, None], bound / jnp.maximum(diagonal, 1e-30))
        root = jnp.sqrt(growth)
        return type(self)(weights, covariance * root[:, :, None] * root[:, None, :])
