"""Probabilities of several experts as one: a weighted mean, a product, and a judge of the two."""

from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SHARE = 1e-3  # of the weight, dealt out anew at every row: an expert may come back
RATE = 0.02  # of the product's exponents
MEAN = 0.7  # of the weight, for the mean before anything has been seen


class ClassMixed(NamedTuple):
    """Log probabilities ``(classes,)`` of the mixture, and of the mean and the product in it."""

    mixed: Float[Array, " classes"]
    views: Float[Array, "2 classes"]


class ClassMixture(eqx.Module):
    """A mean of the experts' probabilities, and a product that can be surer than each of them.

    ::

        mean     = sum over experts of w_i p_i,    w_i <- w_i p_i(class), then normalised and shared
        product ~= prod over experts of p_i^a_i,   a <- a - rate d(-log product(class)) / da

    with the judge's weights, those of Bayes again, for the two of them. A mean is right where one
    expert knows, a product where each knows something else.

    Attributes:
        weights: logarithms of w, of sum 1, ``(experts,)``.
        exponents: a, ``(experts,)``.
        judge: logarithms of the weights of the mean and of the product, ``(2,)``.

    Source: Herbster & Warmuth, "Tracking the best expert" (1998), for the logarithmic loss;
    Mattern, "Mixing strategies in data compression" (2012), for the product.
    """

    weights: Float[Array, " experts"]
    exponents: Float[Array, " experts"]
    judge: Float[Array, "2"]

    @classmethod
    def empty(cls, experts: int) -> Self:
        return cls(
            jnp.full(experts, -np.log(experts), jnp.float32),
            jnp.full(experts, 1 / experts, jnp.float32),
            jnp.log(jnp.array([MEAN, 1 - MEAN], jnp.float32)),
        )

    def mix(self, experts: Float[Array, "experts classes"]) -> ClassMixed:
        """Give the mixture of log probabilities."""
        mean = jax.scipy.special.logsumexp(self.weights[:, None] + experts, axis=0)
        product = jax.nn.log_softmax(self.exponents @ _centred(experts))
        views = jnp.stack([mean, product])
        return ClassMixed(jax.scipy.special.logsumexp(self.judge[:, None] + views, axis=0), views)

    def learn(
        self,
        experts: Float[Array, "experts classes"],
        views: Float[Array, "2 classes"],
        target: Array,
        weight: Array,
    ) -> Self:
        """Learn from a class, with what was told of it; with weight 0 nothing changes."""
        centred = _centred(experts)
        error = jax.nn.softmax(self.exponents @ centred) - jnp.eye(experts.shape[1])[target]
        return type(self)(
            _bayes(self.weights, experts[:, target], weight),
            self.exponents - RATE * weight * (centred @ error),
            _bayes(self.judge, views[:, target], weight),
        )


def _centred(experts: Float[Array, "experts classes"]) -> Float[Array, "experts classes"]:
    return experts - experts.mean(1, keepdims=True)


def _bayes(weights: Array, told: Array, weight: Array) -> Array:
    new = jnp.exp(jax.nn.log_softmax(weights + weight * told))
    return jnp.where(weight > 0, jnp.log((1 - SHARE) * new + SHARE / len(new)), weights)
