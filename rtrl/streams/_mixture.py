"""Which expert is right at the moment? Weights, and what they leave out."""

from typing import NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from rtrl.streams.experts import RLS

WILD = 10.0  # times its running value that one squared error counts for at most
LEAST = 1e-10  # of a squared error, in units: no expert is sure for ever


class Setting(NamedTuple):
    """How fast weights follow.

    Attributes:
        temper: power of the likelihood: errors are neither Gaussian nor independent.
        share: of the weight, dealt out anew at every row: an expert may come back.
        memory: rows of an expert's running squared error.
    """

    temper: float
    share: float
    memory: float


SETTINGS = (Setting(0.15, 1e-3, 20.0), Setting(0.3, 1e-3, 100.0), Setting(0.5, 1e-2, 20.0))
JUDGE = (Setting(0.15, 1e-3, 50.0),)
CORRECTED = 0.3  # of the weight, for the corrected forecast before anything has been seen


class Weights(eqx.Module):
    """Bayes' weights of experts under some settings, with a fixed share for all at every row.

    ::

        log w_i <- log w_i + temper log N(y; p_i, s2_i),   then normalised
        w_i     <- (1 - share) w_i + share prior_i

    with s2_i the running squared error of that expert itself, before this row.

    Attributes:
        prior: of sum 1, ``(experts,)``.
        weights: positive, of sum 1, ``(settings, experts)``.
        errors: running squared errors, ``(settings, experts)``.
        count: targets that have come.

    Source: Herbster & Warmuth, "Tracking the best expert" (1998); here with densities.
    """

    prior: Float[Array, " experts"]
    weights: Float[Array, "settings experts"]
    errors: Float[Array, "settings experts"]
    count: Float[Array, ""]

    @classmethod
    def empty(cls, prior: ArrayLike, settings: int) -> Self:
        prior = jnp.asarray(prior, jnp.float32)
        weights = jnp.tile(prior, (settings, 1))
        return cls(prior, weights, jnp.zeros_like(weights), jnp.float32(0))

    def learn(
        self,
        forecasts: Float[Array, " experts"],
        target: Float[Array, ""],
        weight: Float[Array, ""],
        settings: tuple[Setting, ...],
    ) -> Self:
        """Judge forecasts by what came true; with weight 0 nothing changes."""
        temper, share, memory = np.array(settings, np.float32).T[:, :, None]
        square = jnp.maximum((forecasts - target) ** 2, LEAST)
        known, there = self.count > 0, weight > 0
        before = jnp.where(known, self.errors, square)
        square = jnp.minimum(square, WILD * before)
        density = -0.5 * (jnp.log(before) + square / before)
        density = density - jnp.max(density, 1, keepdims=True)
        new = self.weights * jnp.exp(temper * weight * density)
        new = (1 - share) * new / jnp.sum(new, 1, keepdims=True) + share * self.prior
        count = self.count + there
        rate = jnp.where(there, jnp.maximum(1 / jnp.maximum(count, 1), 1 / memory), 0)
        return type(self)(
            self.prior,
            jnp.where(there & known, new, self.weights),
            jnp.where(there, before + rate * (square - before), self.errors),
            count,
        )


class Mixed(NamedTuple):
    """The forecasts of a mixture: under each setting and corrected, and what is made of them."""

    views: Float[Array, " views"]
    change: Float[Array, ""]


FORGETTING = np.array([0.998], np.float32)  # of the correction
PRIOR = np.array([100.0], np.float32)  # times the rows ahead


def slower(settings: tuple[Setting, ...], ahead: int) -> tuple[Setting, ...]:
    """Settings for forecasts further ahead, whose errors are alike over so many rows."""
    return tuple(s._replace(memory=max(s.memory, 4.0 * ahead)) for s in settings)


class Mixture(eqx.Module):
    """Weighted means of the experts, one of them corrected, and a judge who weighs these again.

    The correction is a regression of what the first weighted mean leaves on what every expert says
    differently: weights that are positive and sum to one can't take two experts further than
    either. It goes no further than some expert.

    Attributes:
        weights: under all settings.
        correction: the regression.
        judge: weights of the weighted means, and of the corrected one.
    """

    weights: Weights
    correction: RLS
    judge: Weights

    @classmethod
    def empty(cls, prior: ArrayLike, ahead: int) -> Self:
        experts, settings = np.size(prior), len(SETTINGS)
        views = [(1 - CORRECTED) / settings] * settings + [CORRECTED]
        return cls(
            Weights.empty(prior, settings),
            RLS.empty(PRIOR * ahead, jnp.ones((1, experts), bool)),
            Weights.empty(np.array(views), len(JUDGE)),
        )

    def mix(self, forecasts: Float[Array, " experts"]) -> Mixed:
        """Give the forecasts of the mixture."""
        means = self.weights.weights @ forecasts
        corrected = means[0] + self.correction.predict(forecasts - means[0])[0]
        corrected = jnp.clip(corrected, jnp.min(forecasts), jnp.max(forecasts))
        views = jnp.append(means, jnp.where(jnp.isfinite(corrected), corrected, means[0]))
        return Mixed(views, self.judge.weights[0] @ views)

    @property
    def shares(self) -> Float[Array, " experts"]:
        """How much each expert counts in all, before the correction."""
        each = self.judge.weights[0]
        first = jnp.zeros(len(SETTINGS)).at[0].set(each[-1])
        return (each[:-1] + first) @ self.weights.weights

    def learn(
        self,
        forecasts: Float[Array, " experts"],
        mixed: Mixed,
        target: Float[Array, ""],
        weight: Float[Array, ""],
        ahead: int,
    ) -> Self:
        """Learn from what came true, with the forecasts as they were made."""
        first = mixed.views[0]
        apart, left = forecasts - first, target - first
        return type(self)(
            self.weights.learn(forecasts, target, weight, slower(SETTINGS, ahead)),
            self.correction.learn(apart, left, weight, FORGETTING, PRIOR * ahead),
            self.judge.learn(mixed.views, target, weight, slower(JUDGE, ahead)),
        )
