"""One row of a stream, as all targets of a forecaster see it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from rtrl.streams._columns import Columns
from rtrl.streams._row import Row, TargetState, Told, forecast, learn, see
from rtrl.streams._rows import Given


class Inside(eqx.Module):
    """All that lives on the device: the inputs' scales, every target's state, the ring's place."""

    columns: Columns
    targets: TargetState
    slot: Int[Array, ""]


def one_row(forecaster: Any, state: Inside, came: Given) -> tuple[Inside, Told]:
    """Take a row: every target of it by itself."""
    x, y = came.x, came.y
    now = y if forecaster.own is None else x[jnp.array(forecaster.own)]
    row = Row(x, y, now, came.weight, came.reset)
    columns, levels, moves = state.columns.take(row.x, row.reset, forecaster.memory)
    others = jnp.array(forecaster.others, jnp.int32)  # (targets, columns that are not its own)
    slot = state.slot
    arrays, static = eqx.partition(state.targets, eqx.is_array)

    def one(arrays: PyTree, y, now, levels, moves):
        target: TargetState = eqx.combine(arrays, static)
        mine = row._replace(y=y, now=now)
        if forecaster.delay == 0:  # what is forecast is of this row: nobody knows it yet
            target, out = forecast(forecaster, target, levels, moves, row.reset, slot)
            target = see(forecaster, learn(forecaster, target, mine, slot), mine)
        else:
            target = learn(forecaster, see(forecaster, target, mine), mine, slot)
            target, out = forecast(forecaster, target, levels, moves, row.reset, slot)
        return eqx.filter(target, eqx.is_array), out

    given = (arrays, row.y, row.now, levels[others], moves[others])
    if len(forecaster.others) == 1:
        first = one(*jax.tree.map(lambda a: a[0], given))
        arrays, out = jax.tree.map(lambda a: a[None], first)
    else:
        arrays, out = jax.vmap(one)(*given)
    targets = eqx.combine(arrays, static)
    return Inside(columns, targets, jnp.where(slot + 1 == forecaster.ahead, 0, slot + 1)), out
