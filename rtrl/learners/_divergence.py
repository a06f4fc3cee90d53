"""Going back to the last good parameters, when the loss has left its level for a while."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from rtrl.engine import seldom


class Divergence(eqx.Module):
    """What is kept for going back.

    Attributes:
        good: parameters to go back to.
        candidate: newer ones, good when the loss has stayed unremarkable for long enough.
        age: timesteps since the candidate was taken.
        recent: mean of the logarithm of the loss over ``patience`` timesteps.
        level: the same over ``memory`` timesteps.
        seen: timesteps with a loss.
        returned: whether the loss has been at its level since the parameters last went back.
        rate: what updates are multiplied by, 1 unless the parameters ran away before.
    """

    good: PyTree
    candidate: PyTree
    age: Int[Array, ""]
    recent: Float[Array, ""]
    level: Float[Array, ""]
    seen: Int[Array, ""]
    returned: Bool[Array, ""]
    rate: Float[Array, ""]

    @staticmethod
    def begin(params: PyTree, dtype: Any) -> "Divergence":
        """Nothing seen; the parameters are as good as any."""
        zero = jnp.zeros((), dtype)
        none, true = jnp.int32(0), jnp.ones((), bool)
        return Divergence(params, params, none, zero, zero, none, true, jnp.ones((), dtype))


GROWTH = 2 ** (1 / 8)  # of the rate, whenever good parameters are found: twice as large after eight
SMALLEST = 2.0**-20  # rate


def _refreshed(kept: tuple[PyTree, PyTree], params: PyTree, back: Bool[Array, ""]):
    """The candidate has proven itself, and here is another; or the good ones are the candidate."""
    good, candidate = kept

    def choose(a, b):
        return jax.tree.map(lambda x, y: jnp.where(back, x, y), a, b)

    return choose(good, candidate), choose(good, params)


def watch(
    guard: Any,
    state: Divergence,
    params: PyTree,
    losses: Float[Array, "time"],
    counted: Bool[Array, "time"],
) -> tuple[Divergence, Bool[Array, ""]]:
    """Follow the loss, refresh the copies, and say whether to go back.

    Args:
        guard: a `Guard`.
        state: as it was before the chunk.
        params: as they are after it.
        losses: of each timestep, the mean over samples.
        counted: where there is one.
    """
    largest = jnp.finfo(losses.dtype)
    logs = jnp.log(jnp.clip(jnp.nan_to_num(losses, nan=largest.max), largest.tiny, largest.max))
    rise, log_2 = (jnp.log(jnp.asarray(a, losses.dtype)) for a in (guard.divergence, 2))

    def follow(means, now):
        recent, level, seen, returned = means
        log, counts = now
        first = counts & (seen == 0)
        recent, level = jnp.where(first, log, recent), jnp.where(first, log, level)
        seen = jnp.minimum(seen + counts, guard.memory)
        # True means until there is enough of them.
        recent = recent + counts * (log - recent) / jnp.clip(seen, 1, guard.patience)
        # The level is not carried off by what is compared with it.
        capped = jnp.minimum(log, level + rise)
        level = level + counts * (capped - level) / jnp.clip(seen, 1, guard.memory)
        returned |= counts & (log < level + log_2)
        return (recent, level, seen, returned), None

    means = state.recent, state.level, state.seen, state.returned
    (recent, level, seen, returned), _ = jax.lax.scan(follow, means, (logs, counted))
    back = (seen >= guard.patience) & (recent - level > rise)
    well = recent - level < log_2
    age = state.age + len(losses)
    # Two stages: parameters on which the loss is about to rise look good for a little while.
    refresh = (age >= guard.patience) & well & ~back
    kept = state.good, state.candidate
    good, candidate = seldom(_refreshed, refresh | back, kept, params, back)
    age = jnp.where(refresh | back, 0, age)
    # What follows has a level to be measured against, and as long to prove itself.
    recent = jnp.where(back, level, recent)
    # Good parameters that ran away took too large steps. Where the loss was bad from the first
    # timestep on, it is the data that have changed, and the steps are as they were.
    rate = jnp.where(back & returned, 0.5 * state.rate, state.rate)
    rate = jnp.where(refresh, jnp.minimum(1, GROWTH * rate), rate)
    rate = jnp.maximum(rate, SMALLEST)
    return Divergence(good, candidate, age, recent, level, seen, returned & ~back, rate), back
