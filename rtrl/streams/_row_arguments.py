"""Weights and resets of rows, checked by name before anything changes."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from rtrl.streams._pair import LARGEST
from rtrl.validate import require


def as_weights(value: Any, argument: str, rows: int) -> Float[np.ndarray, " rows"]:
    """One for each row, or one for all; what is not finite would stay in the state for good."""
    if type(value) is float and 0 <= value <= LARGEST:  # the default: no more to ask
        return np.full(rows, value)
    array = _of_rows(value, argument, rows, "numbers")
    good = (array >= 0) & (array <= LARGEST)
    _require_all(good, argument, f"finite weights from 0 to {LARGEST:g}", array)
    return np.broadcast_to(array, (rows,))


def as_resets(value: Any, argument: str, rows: int) -> Bool[np.ndarray, " rows"]:
    """One for each row, or one for all."""
    if value is False or value is True:
        return np.full(rows, value)
    array = _of_rows(value, argument, rows, "booleans")
    _require_all((array == 0) | (array == 1), argument, "booleans", array)
    return np.broadcast_to(array == 1, (rows,))


def _of_rows(value: Any, argument: str, rows: int, kind: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        numeric = array.dtype.kind in "biuf" or array.dtype.name == "bfloat16"
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{argument}: expected {kind}, got {value!r}.") from error
    require(numeric, argument, kind, value)
    array = array.astype(np.float64)
    shapes = dict.fromkeys([(), (rows,)])
    require(array.shape in shapes, argument, f"shape () or ({rows},)", array.shape)
    return array


def _require_all(good: np.ndarray, argument: str, expected: str, array: np.ndarray) -> None:
    if not good.all():
        require(False, argument, expected, float(array[~good].flat[0]))
