"""What came after the same classes before."""

import equinox as eqx
import jax.numpy as jnp

MOST = 1 << 14  # numbers of a table; longer contexts are left out where it would be larger
BACK = 1.0  # rows that the shorter context counts as


class Chain(eqx.Module):
    """Markov chains over the last class, and over the last two.

    ::

        p(c | last) = (n(last, c) + p(c)) / (n(last) + 1)

    with the shorter context's p in place of what has not been seen.

    Source: Jelinek & Mercer, "Interpolated estimation of Markov source parameters" (1980), with
    fixed weights.
    """

    @property
    def names(self):
        return "after the last class", "after the last two classes"

    def init(self, sizes, key):
        c = sizes.classes
        second = c + 1 if (c + 1) ** 2 * c <= MOST else 1
        return jnp.zeros(c), jnp.zeros((c + 1, c)), jnp.zeros((c + 1, second, c))

    def predict(self, state, features):
        none, one, two = state
        first = features.last[0]
        second = jnp.minimum(features.last[1], two.shape[1] - 1)
        p = (none + 0.5) / (none + 0.5).sum()
        found = []
        for counts in (one[first], two[first, second]):
            p = (counts + BACK * p) / (counts.sum() + BACK)
            found.append(jnp.log(p))
        return jnp.stack(found), (first, second), state

    def learn(self, state, kept, target, weight):
        none, one, two = state
        first, second = kept
        return (
            none.at[target].add(weight),
            one.at[first, target].add(weight),
            two.at[first, second, target].add(weight),
        )
