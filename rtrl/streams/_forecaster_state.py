"""What a forecaster knows, and what it tells."""

import numpy as np
from jaxtyping import Float, Int

from rtrl.engine import record
from rtrl.streams._pair import join
from rtrl.streams._row import Told
from rtrl.streams._rows import RowState


class ForecasterState(RowState):
    """State of a `Forecaster`: an immutable pytree, saved and loaded whole.

    Attributes:
        inside: all that lives on the device.
        items: rows taken so far.
        begins: whether a new sequence begins with the next row.
    """


@record
class Forecast:
    """What a `Forecaster` tells of a row, in the data's own units, as numpy arrays.

    Attributes:
        prediction: of every target, float64.
        experts: what every expert said.
        weights: how much each counted, before any correction of what they have in common.
        skipped: whether a target of this row was missing, or beyond 1e18.
        held: how many inputs were, so that the last known ones stood for them.
    """

    prediction: Float[np.ndarray, "*time targets"]
    experts: Float[np.ndarray, "*time targets experts"]
    weights: Float[np.ndarray, "*time targets experts"]
    skipped: Int[np.ndarray, "*time"]
    held: Int[np.ndarray, "*time"]


def forecast_of(rows: int | slice, told: Told, missing: np.ndarray, held: np.ndarray) -> Forecast:
    """Of some rows of what came out of the loop, in the data's own units."""
    base, unit, change, forecasts, weights = (np.asarray(a)[rows] for a in told)
    base, unit = join(base), unit.astype(np.float64)
    return Forecast(
        prediction=base + unit * change,
        experts=base[..., None] + unit[..., None] * forecasts,
        weights=weights,
        skipped=missing[rows].astype(np.int32),
        held=held[rows].astype(np.int32),
    )
