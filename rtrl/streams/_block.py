"""A block of rows through one compiled loop, however many there are."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from rtrl.learners import QUICK, Jitted
from rtrl.streams._columns import Columns
from rtrl.streams._row import Row, TargetState, Told, forecast, learn, see


class Rows(NamedTuple):
    """Rows to come, in buffers of a fixed size of which the first ``count`` are meant.

    Attributes:
        xs: ``(size, columns, 2)``; ys: ``(size, targets, 2)``, as pairs, NaN where missing.
        weights, resets: ``(size,)``.
        count: how many.
    """

    xs: Any
    ys: Any
    weights: Any
    resets: Any
    count: Any


class Inside(eqx.Module):
    """All that lives on the device: the inputs' scales, every target's state, the ring's place."""

    columns: Columns
    targets: TargetState
    slot: Int[Array, ""]


def advance(forecaster: Any, rows: Rows, state: Inside) -> tuple[Inside, Told]:
    """Take ``rows.count`` rows, one after the other.

    One row that comes live and a thousand from a file run through the same body of the same
    program, so that how rows were cut into blocks changes no bit.
    """
    arrays, static = eqx.partition(state, eqx.is_array)
    data = rows._replace(count=jnp.int32(0))

    def row_of(t: Any) -> Row:
        x, y = data.xs[t], data.ys[t]
        now = y if forecaster.own is None else x[jnp.array(forecaster.own)]
        return Row(x, y, now, data.weights[t], data.resets[t])

    def body(t, carry):
        arrays, outs = carry
        state, out = _one(forecaster, eqx.combine(arrays, static), row_of(t))
        outs = jax.tree.map(lambda all, one: all.at[t].set(one), outs, out)
        return eqx.filter(state, eqx.is_array), outs

    size, members = len(rows.weights), len(forecaster.names)
    shapes = (2,), (), (), (members,), (members,)
    outs = Told(*(jnp.zeros((size, forecaster.out_size, *shape)) for shape in shapes))
    arrays, outs = jax.lax.fori_loop(0, rows.count, body, (arrays, outs))
    return eqx.combine(arrays, static), outs


run = Jitted(advance, donate_last=True, options=QUICK)


def _one(forecaster: Any, state: Inside, row: Row) -> tuple[Inside, Told]:
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
