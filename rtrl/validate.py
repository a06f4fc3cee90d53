"""Errors for bad arguments, all of one form: the name, what was expected, what came."""

from typing import Any

import numpy as np


def require(ok: bool, argument: str, expected: str, got: Any) -> None:
    """Raise a `ValueError` that names the argument unless ``ok``."""
    if not ok:
        raise ValueError(f"{argument}: expected {expected}, got {got!r}.")


def require_integer(value: Any, argument: str, least: int, unit: str) -> None:
    ok = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least
    require(bool(ok), argument, f"an integer of at least {least} {unit}", value)
