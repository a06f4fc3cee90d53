"""A row of the table of `speed.py`."""

import time
from typing import Any, NamedTuple

from _timing import say


class Row(NamedTuple):
    """One figure and its bar: ``least`` says whether the bar is a lower bound, ``None``: no bar."""

    what: str
    value: float
    bar: float | None
    least: bool
    unit: str
    detail: dict[str, Any]  # the numbers behind it

    @property
    def met(self) -> bool:
        if self.bar is None:
            return True
        return self.value >= self.bar if self.least else self.value <= self.bar

    @property
    def verdict(self) -> str:
        return "no bar" if self.bar is None else "met" if self.met else "NOT met"


def timed(function, quick: bool) -> tuple[list[Row], float]:
    start = time.perf_counter()
    rows = []
    for row in function(quick):
        say(f"{row.what}: {row.value:.3g} {row.unit} ({row.verdict})")
        rows.append(row)
    return rows, time.perf_counter() - start
