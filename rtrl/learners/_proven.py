"""Updates that need not be judged: proven to be finite before they are made."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from rtrl.engine import Range, Ranges, read, total

#: Updates after one that was judged for which the proof is sought.
STEPS = 16
#: Parameters and the optimizer's numbers from which they start, and the numbers of their gradients.
LARGEST, STEEPEST = 2.0**62, 2.0**30
#: Updates that an optimizer has counted.
MANY = 2.0**30


class Proof(NamedTuple):
    """What is proven of an optimizer.

    From parameters and a state of the optimizer within `ranges`, `STEPS` updates by gradients of a
    norm of at most `steepest` give finite numbers, one after another.
    """

    ranges: list[Range]  # of every leaf of the parameters and of the state
    steepest: float


def prove(
    optimize: Callable[[PyTree, PyTree, PyTree], Any],
    params: PyTree[Array],
    opt_state: PyTree[Array],
    grads: PyTree[Array],
) -> Proof | None:
    """Look for a proof in the code of ``optimize(params, opt_state, grads)``.

    It is read as many times as it is to be run, with what each reading gives for the next. What
    is understood are sums, products, roots and the like of single numbers, which is what most
    optimizers consist of; ``None`` where one does not understand.
    """
    closed = jax.make_jaxpr(optimize)(params, opt_state, grads)
    kinds = [v.aval.dtype for v in closed.jaxpr.invars]
    parameters, steep = (len(jax.tree.leaves(tree)) for tree in (params, grads))
    real = (jnp.floating, jnp.integer, jnp.bool_)
    if not all(any(jnp.issubdtype(kind, of) for of in real) for kind in kinds):
        return None
    # Twice, as a norm is rounded. A guard only makes gradients smaller.
    slope = Range(-2 * STEEPEST, 2 * STEEPEST)

    def one(ranges: list[Range]) -> list[Range]:
        after = read(Ranges(), closed.jaxpr, [*ranges, *[slope] * steep], closed.consts)
        return [Range(a.low, a.high) for a in after]  # what was stored is one number

    # Of the optimizer's numbers those are taken to be never negative of which that is found.
    ranges = [
        _start(kind, negative=i < parameters) for i, kind in enumerate(kinds[: len(kinds) - steep])
    ]
    while True:
        after = one(ranges)
        changed = [r.low == 0 and a.low < 0 for r, a in zip(ranges, after, strict=True)]
        if not any(changed):
            break
        ranges = [Range(-r.high, r.high) if c else r for r, c in zip(ranges, changed, strict=True)]
    for _ in range(STEPS - 1):
        if not all(a.known for a in after):
            return None
        after = one(after)
    return Proof(ranges, STEEPEST) if all(a.known for a in after) else None


def judged(new: PyTree[Array], ranges: list[Range]) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Say whether all numbers are finite, and whether all lie within the ranges.

    One look at every number tells both.
    """

    def outside(a: Array, of: Range) -> Array:
        if not jnp.issubdtype(a.dtype, jnp.floating):
            a = a.astype(jnp.float32)
        much = jnp.where(jnp.isfinite(a), 1.0, jnp.inf)
        return jnp.where((a >= of.low) & (a <= of.high), 0.0, much).astype(jnp.float32)

    all_of_it = total([*map(outside, jax.tree.leaves(new), ranges)])
    return jnp.isfinite(all_of_it), all_of_it == 0


def _start(kind: np.dtype, negative: bool) -> Range:
    if jnp.issubdtype(kind, jnp.bool_):
        return Range(0, 1)
    high = LARGEST if jnp.issubdtype(kind, jnp.floating) else min(MANY, jnp.iinfo(kind).max)
    return Range(-high if negative else 0.0, high)
