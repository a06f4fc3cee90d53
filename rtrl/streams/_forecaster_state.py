"""What a forecaster knows, and what it tells."""

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from rtrl.streams._block import Inside


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
