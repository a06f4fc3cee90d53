"""A row of the table of `speed.py`."""

import time
from typing import Any, NamedTuple

from _timing import say


class Row(NamedTuple):
    """One figure and its bar: ``least`` says whether the bar is a lower bound."""

    what: str
    value: float
    bar: float
    least: bool
    unit: str
    detail: dict[str, Any]  # the numbers behind it

    @property
    def met(self) -> bool:
        return self.value >= self.bar if self.least else self.value <= self.bar


def timed(function, quick: bool) -> tuple[list[Row], float]:
    start = time.perf_counter()
    rows = []
    for row in function(quick):
        say(f"{row.what}: {row.value:.3g} {row.unit} ({'met' if row.met else 'NOT met'})")
        rows.append(row)
    return rows, time.perf_counter() - start
