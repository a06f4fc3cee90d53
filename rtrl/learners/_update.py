"""The update of the parameters, and what it is left out for."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from rtrl.engine import Later, all_finite, branch, computed, placement_of, widen
from rtrl.learners._proven import STEPS, Proof, judged, prove
from rtrl.learners._state import LearnerState, Window


class Trust(NamedTuple):
    """What is known of the update to come, as long as nobody else has had the state.

    Attributes:
        proven: for how many updates the last judgement holds.
        norm: of the gradient.
    """

    proven: Int[Array, ""]
    norm: Float[Array, ""]


def update(
    learner: Any,
    state: LearnerState,
    grads: PyTree[Array] | Later,
    go: Bool[Array, ""],
    trust: Trust | None,
) -> tuple[PyTree, PyTree, Bool[Array, ""], Int[Array, ""] | None]:
    """Update the parameters, or leave everything as it was, also where it would not be finite.

    Says then whether an update was left out that should have been made, and what is proven of the
    next. The new values are computed twice, to be judged and to be stored: keeping the old ones
    instead, to go back to, takes longer. With ``trust`` most of them are not judged: where the last
    judgement found all numbers far from the largest, the optimizer's code may tell that a few
    updates by a gradient like this one can't reach it (`prove`).
    """
    params, static = eqx.partition(state.model, eqx.is_inexact_array)
    spread = placement_of(state.carry) is not None

    def optimize(params, opt_state, grads):
        updates, opt_state = learner.optimizer.update(computed(grads), opt_state, params)
        if state.guard is not None and state.guard.divergence is not None:
            rate = state.guard.divergence.rate
            updates = jax.tree.map(lambda u: u * rate.astype(u.dtype), updates)
        return optax.apply_updates(params, updates), opt_state

    now = params, state.opt_state, grads
    # The optimizer's moments are left as well: a window without data is no step of time for it.
    good, proven = go, None if trust is None else trust.proven
    if learner.on_nonfinite != "ignore":
        proof = None if trust is None else prove(optimize, *now[:2], computed(grads))
        if trust is None or proof is None:
            good = branch(
                go,
                lambda *now: all_finite(widen(optimize(*now)), spread=spread),
                lambda *now: jnp.zeros((), bool),
                *now,
            )
        else:
            good, proven = _judged_or_proven(optimize, now, go, trust, proof)
    params, opt_state = branch(
        good, optimize, lambda params, opt_state, grads: (params, opt_state), *now
    )
    return eqx.combine(params, static), opt_state, go & ~good, proven


def _judged_or_proven(
    optimize: Any, now: tuple, go: Bool[Array, ""], trust: Trust, proof: Proof
) -> tuple[Bool[Array, ""], Int[Array, ""]]:
    known = (trust.proven > 0) & (trust.norm <= proof.steepest)

    def judge(*now):
        finite, within = judged(optimize(*now), proof.ranges)
        return finite, jnp.where(within, jnp.int32(STEPS), 0)

    return branch(
        go & ~known,
        judge,
        lambda *now: (go, jnp.where(go, trust.proven - 1, trust.proven)),
        *now,
    )  # fmt: skip


def accumulate(
    learner: Any,
    state: LearnerState,
    window: Window,
    grads: PyTree[Array] | Later,
    finite: Bool[Array, ""],
    weight: Float[Array, ""],
) -> tuple[PyTree, PyTree, Window, Bool[Array, ""]]:
    """Add a chunk to the window, and update the parameters when it is full."""
    grads = computed(grads)
    # A chunk whose gradient is not finite is left out of the window, which goes on.
    grads = jax.tree.map(lambda t, g: jnp.where(finite, t + g, t), window.grads, grads)
    window = Window(grads, window.weight + jnp.where(finite, weight, 0), window.chunks + 1)
    full = window.chunks >= learner.update_every
    go = full & (window.weight > 0)
    model, opt_state, refused, _ = update(learner, state, window.grads, go, None)
    # Emptied also where the update was skipped: its chunks have had their turn.
    window = jax.tree.map(lambda a: jnp.where(full, jnp.zeros_like(a), a), window)
    return model, opt_state, window, refused
