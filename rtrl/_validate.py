"""Errors for bad arguments, all of one form: the name, what was expected, what came."""

from typing import Any


def require(ok: bool, argument: str, expected: str, got: Any) -> None:
    """Raise a `ValueError` that names the argument unless ``ok``."""
    if not ok:
        raise ValueError(f"{argument}: expected {expected}, got {got!r}.")
