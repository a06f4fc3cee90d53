"""What a forecaster knows, and what it tells."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from rtrl.streams._block import Inside
from rtrl.streams._pair import join
from rtrl.streams._row import Told


class ForecasterState(eqx.Module):
    """State of a `Forecaster`: an immutable pytree, saved and loaded whole.

    Attributes:
        inside: all that lives on the device.
        items: rows taken so far.
        begins: whether a new sequence begins with the next row.
    """

    inside: Inside
    items: np.int64
    begins: np.bool_


class Forecast(eqx.Module):
    """What a `Forecaster` tells of a row, in the data's own units, as numpy arrays.

    Attributes:
        prediction: of every target, float64.
        experts: what every expert said.
        weights: how much each counted, before any correction of what they have in common.
        skipped: whether a target of this row was missing, or beyond 1e18.
    """

    prediction: Float[np.ndarray, "*time targets"]
    experts: Float[np.ndarray, "*time targets experts"]
    weights: Float[np.ndarray, "*time targets experts"]
    skipped: Int[np.ndarray, "*time"]


class Begun:
    """Forecasts on their way.

    Attributes:
        parts: of every block what comes out of it, and which rows have a target missing.
    """

    def __init__(self, parts: list[tuple[Told, Bool[np.ndarray, " rows"]]]):
        self.parts = parts

    def forecast(self) -> Forecast:
        """Wait for them; time first."""
        each = [_forecast(*part) for part in self.parts]
        if len(each) == 1:
            return each[0]
        return jax.tree.map(lambda *parts: np.concatenate(parts), *each)


def _forecast(told: Told, missing: np.ndarray) -> Forecast:
    base, unit, change, forecasts, weights = (np.asarray(a)[: len(missing)] for a in told)
    base, unit = join(base), unit.astype(np.float64)
    return Forecast(
        prediction=base + unit * change,
        experts=base[..., None] + unit[..., None] * forecasts,
        weights=weights,
        skipped=missing.astype(np.int32),
    )


def copied(state: ForecasterState) -> ForecasterState:
    copy = jax.tree.map(lambda a: jnp.copy(a) if eqx.is_array(a) else a, state.inside)
    return ForecasterState(copy, state.items, state.begins)
