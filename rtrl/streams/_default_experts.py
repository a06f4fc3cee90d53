"""Whom a forecaster asks if it is told nothing."""

from typing import Any

from rtrl.streams import experts as kinds


def default_experts(columns: int) -> list[Any]:
    """The experts for so many inputs beside the target's own value."""
    found = [kinds.Plain(), kinds.Lags(), kinds.Lags(kinds.LONG), kinds.Seasonal(), kinds.Echo()]
    if columns:
        found.append(kinds.Others())
    return [*found, kinds.Network()]
