"""Beginning the memory of a network anew: where a sequence begins, and where it has overflowed."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from rtrl.cells import cells_of
from rtrl.engine import (
    Carry,
    axes_of,
    is_carry,
    kept_in_place,
    placement_of,
    seldom,
    total_square,
    vary,
    widened,
)
from rtrl.learners._jit import Jitted


def restarted(
    model: PyTree, carry: PyTree, masks: Bool[Array, "*batch"] | list[Array] | None
) -> PyTree:
    """Give the carry with initial states and zero traces, where a mask of samples is true.

    Args:
        masks: for all cells, or one for each; ``None``: every sample.
    """

    def anew(cell: Any, carry: Carry, mask: Array | None) -> Carry:
        # The initial state of one sample, for all of them.
        state = jax.tree.map(
            lambda h0, h: jnp.broadcast_to(h0, h.shape), cell.initial(), carry.state
        )
        fresh = Carry(
            state,
            # What is not a sensitivity, such as the key of a random rule, goes on.
            jax.tree.map(
                lambda a: jnp.zeros_like(a) if eqx.is_inexact_array(a) else a, carry.trace
            ),
            None if carry.newest is None else state,
            placement=carry.placement,
        )
        if mask is None:
            return fresh

        def choose(new, old):
            if new is old:
                return old
            return jnp.where(jnp.expand_dims(mask, range(mask.ndim, old.ndim)), new, old)

        return jax.tree.map(choose, fresh, carry)

    # A single cell has a carry by itself, a network a tuple of them: as `init_carry` gave it.
    if is_carry(carry):
        return anew(model, carry, masks[0] if isinstance(masks, list) else masks)
    cells = cells_of(model)
    each = masks if isinstance(masks, list) else [masks] * len(cells)
    return tuple(map(anew, cells, carry, each))


@Jitted
def restart(
    model: PyTree, carry: PyTree, masks: Bool[Array, "*batch"] | list[Array] | None
) -> PyTree:
    """The same, compiled."""
    return kept_in_place(restarted(model, carry, masks))


def renew(
    model: PyTree, carry: PyTree, batched: bool, suspected: Bool[Array, ""] | None = None
) -> tuple[PyTree, Bool[Array, "*batch"]]:
    """Begin anew what has overflowed: nothing that is carried is ever non-finite.

    State and trace of a cell begin anew for a sample whose numbers in them are not finite, or so
    large that the sum of their squares is not. Other samples and cells stay as they are; where
    chunks overlap, the cells of a sample begin together, as its overlap is lost to all.

    Args:
        model: the network.
        carry: what it carries.
        batched: whether there is a batch axis.
        suspected: look at the traces only where this is true, or a state has overflowed; ``None``:
            look at everything, which for the traces takes time.

    Returns the carry, and which samples have lost the memory of a cell.
    """
    lead = jax.tree.leaves(carry)[0].shape[: int(batched)]
    spread = placement_of(carry) is not None
    none = vary(jnp.zeros(lead, bool), axes_of(carry))
    numbers, rest = eqx.partition(carry, eqx.is_inexact_array)
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def wide(numbers):  # a narrow trace is one of integers, and a scale
        return eqx.filter(widened(eqx.combine(numbers, rest)), eqx.is_inexact_array)

    def repair(value, params):
        numbers, _ = value
        cells = wide(numbers)
        cells = [cells] if is_carry(cells) else list(cells)
        lost = [
            ~jnp.isfinite(total_square(jax.tree.leaves(c), len(lead), spread=spread)) for c in cells
        ]
        if cells[0].newest is not None:
            lost = [jnp.stack(lost).any(0)] * len(lost)
        anew = restarted(eqx.combine(params, static), eqx.combine(numbers, rest), lost)
        return eqx.filter(anew, eqx.is_inexact_array), jnp.stack(lost).any(0)

    def look(value, params):
        # One sum over everything tells that there is nothing to do, as nearly always.
        bad = ~jnp.isfinite(total_square(jax.tree.leaves(wide(value[0])), spread=spread))
        return seldom(repair, bad, value, params)

    if suspected is None:
        numbers, lost = look((numbers, none), params)
    else:
        states = [(c.state, c.newest) for c in jax.tree.leaves(numbers, is_leaf=is_carry)]
        suspected |= ~jnp.isfinite(total_square(jax.tree.leaves(states), spread=spread))
        numbers, lost = seldom(look, suspected, (numbers, none), params)
    return eqx.combine(numbers, rest), lost
