"""One row of a stream, as one target sees it: see, learn, forecast."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from rtrl.streams._history import History
from rtrl.streams._mixture import Mixed, Mixture
from rtrl.streams._pair import Pairs, as_pair, minus
from rtrl.streams._scale import SETTLED, Scale
from rtrl.streams._season import Seasons
from rtrl.streams.experts import LAGS, Features

FAR = 1.5  # times the largest change of late that a forecast may be away from the last value
PEAK = 0.995  # of that largest change, from row to row
CLIP = 10.0  # units of features; and deviations that a target may be away from its forecast
PERIODS = 8  # periods before, of which means are taken


class Row(NamedTuple):
    """What comes: inputs ``(columns, 2)``, the target ``(2,)`` and its current value ``(2,)``."""

    x: Pairs
    y: Pairs
    now: Pairs
    weight: Float[Array, ""]
    reset: Bool[Array, ""]


class Held(NamedTuple):
    """A forecast and all that it takes to learn from its target."""

    base: Pairs
    unit: Float[Array, ""]
    kept: tuple[PyTree, ...]
    forecasts: Float[Array, " experts"]
    mixed: Mixed
    made: Bool[Array, ""]


class Told(NamedTuple):
    """What comes out: changes from ``base`` in ``unit``, and how much every expert counted."""

    base: Pairs
    unit: Float[Array, ""]
    change: Float[Array, ""]
    forecasts: Float[Array, " experts"]
    weights: Float[Array, " experts"]


class TargetState(eqx.Module):
    """All that is known of one target, on the device.

    Attributes:
        history: its values.
        level, step, change: scales of the value, of its move from row to row, and over ``ahead``.
        peak: the largest change of late.
        error: scale of the forecasts' errors, in units.
        seasons: squared errors of every period.
        experts: the state of each.
        mixture: their weights.
        held: forecasts that wait for their target, a ring of ``ahead`` rows.
    """

    history: History
    level: Scale
    step: Scale
    change: Scale
    peak: Float[Array, ""]
    error: Scale
    seasons: Seasons
    experts: tuple[PyTree, ...]
    mixture: Mixture
    held: Held


def see(forecaster: Any, state: TargetState, row: Row) -> TargetState:
    """Take in the value that the target has now."""
    ahead, memory = forecaster.ahead, forecaster.memory
    history = state.history.push(row.now, row.reset)
    fresh = jnp.isfinite(row.now).all()

    def moved(rows):
        known = fresh & (history.age > rows)
        return as_pair(jnp.where(known, history.since(0, 1, rows)[0], jnp.nan))

    change = moved(ahead)
    scale = state.change.update(change, memory)
    size = jnp.abs(jnp.nan_to_num(change[0]))
    most = CLIP * _unit(scale)[0]  # a wild value is no measure, nor was one in a larger unit
    return eqx.tree_at(
        lambda s: (s.history, s.level, s.step, s.change, s.peak, s.seasons),
        state,
        (
            history,
            state.level.update(row.now, memory),
            state.step.update(moved(1), memory),
            scale,
            jnp.minimum(jnp.maximum(size, PEAK * state.peak), most),
            state.seasons.update(history, fresh, ahead, memory),
        ),
    )


def learn(forecaster: Any, state: TargetState, row: Row, slot: Array) -> TargetState:
    """Learn from the target that has come, with what was held of its row."""
    held: Held = jax.tree.map(lambda ring: ring[slot], state.held)
    change = minus(row.y, held.base) / held.unit
    there = held.made & jnp.isfinite(change)
    weight = jnp.where(there, row.weight, 0)
    # A wild value is learned as if it were not that far: from the last value, and the forecast.
    target = jnp.where(there, jnp.clip(change, -CLIP, CLIP), 0)
    expected = held.mixed.change
    away = target - expected
    known = (state.error.count >= SETTLED) & (state.error.variance > 0)
    bound = jnp.where(known, CLIP * jnp.sqrt(state.error.variance), jnp.inf)
    target = expected + jnp.clip(away, -bound, bound)
    away = jnp.where(there, away, jnp.nan)
    experts = tuple(
        expert.learn(inner, kept, target, weight)
        for expert, inner, kept in zip(forecaster.experts, state.experts, held.kept, strict=True)
    )
    return eqx.tree_at(
        lambda s: (s.experts, s.mixture, s.error),
        state,
        (
            experts,
            state.mixture.learn(held.forecasts, held.mixed, target, weight, forecaster.ahead),
            state.error.update(as_pair(away), forecaster.memory),
        ),
    )


def forecast(
    forecaster: Any, state: TargetState, inputs: Array, moves: Array, reset: Array, slot: Array
) -> tuple[TargetState, Told]:
    """Forecast from what has been seen, and hold what it takes to learn from it."""
    features, unit, known = _features(forecaster, state, inputs, moves, reset)
    results = [
        expert.predict(inner, features)
        for expert, inner in zip(forecaster.experts, state.experts, strict=True)
    ]
    forecasts = jnp.concatenate([mean for mean, _, _ in results])
    far = FAR * state.peak / unit
    forecasts = jnp.clip(jnp.where(jnp.isfinite(forecasts), forecasts, 0), -far, far)
    mixed = state.mixture.mix(forecasts)
    base = state.history.values[0]
    kept = tuple(kept for _, kept, _ in results)
    now = Held(base, unit, kept, forecasts, mixed, known)
    held = jax.tree.map(lambda ring, value: ring.at[slot].set(value), state.held, now)
    experts = tuple(after for _, _, after in results)
    state = eqx.tree_at(lambda s: (s.experts, s.held), state, (experts, held))
    return state, Told(base, unit, mixed.change, forecasts, state.mixture.shares)


def _features(
    forecaster: Any, state: TargetState, inputs: Array, moves: Array, reset: Array
) -> tuple[Features, Array, Array]:
    """What experts see; the unit; and whether there is something to learn from this row."""
    history = state.history
    unit, there = _unit(state.change)
    steps = history.since(0, LAGS, 1)
    base = history.values[0]
    mean = jnp.where(state.level.count > 0, minus(state.level.mean, base), 0)
    features = Features(
        level=state.level.standardise(base),
        mean=mean / unit,
        steps=jnp.clip(steps / unit, -CLIP, CLIP),
        seasonal=jnp.clip(_seasonal(forecaster, state) / unit, -CLIP, CLIP),
        inputs=inputs,
        moves=moves,
        step=jnp.clip(steps[0] / state.step.deviation, -CLIP, CLIP),
        known=history.age > 0,
        reset=reset,
    )
    return features, unit, features.known & there


def _unit(change: Scale) -> tuple[Array, Array]:
    """The root mean square of changes, whatever their mean; 1 while there is none, and whether."""
    square = change.variance + minus(change.mean, jnp.zeros(2)) ** 2
    return jnp.where(square > 0, jnp.sqrt(square), 1), square > 0


def _seasonal(forecaster: Any, state: TargetState) -> Float[Array, " 6"]:
    """`Features.seasonal`, in the target's own units."""
    ahead, history = forecaster.ahead, state.history
    by_level, by_change, found = state.seasons.best(history, ahead, forecaster.season)
    period = by_change + ahead
    back = jnp.arange(1, PERIODS + 1) * period
    # What came ``ahead`` rows after the same place in earlier periods, and what was there.
    then, there = history.at(back - ahead), history.at(back)
    rise = then - there
    before = history.at(jnp.stack([by_level, period, period + 1]))
    told = jnp.stack([
        before[0], then[0], _mean(then), rise[0], _mean(rise), before[1] - before[2],
    ])  # fmt: skip
    return jnp.where(found & jnp.isfinite(told), told, 0)


def _mean(values: Array) -> Array:
    """Of those that are known."""
    known = jnp.isfinite(values)
    return jnp.sum(jnp.where(known, values, 0)) / jnp.maximum(jnp.sum(known), 1)
