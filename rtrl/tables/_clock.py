"""The time of the rows: how far apart they are, and where that is longer than usual."""

import math
from typing import Any, NamedTuple

import numpy as np

LEARNED = 50  # intervals that tell what is usual
LONG = 1.5  # times the longest usual one is a gap
FILLED = 200  # rows put into a gap at most: a live row waits for them

DAY = 86400.0
WEEK = 7 * DAY
YEAR = 365.2425 * DAY


class Tick(NamedTuple):
    """What the clock says of a row.

    Attributes:
        elapsed: seconds since the row before (units of the column, for plain numbers); NaN if
            unknown.
        missing: rows that are missing in front of it, 0 but after a gap.
        remark: what is odd about it, empty if nothing is.
    """

    elapsed: float
    missing: int = 0
    remark: str = ""


class Clock:
    """Told the time of every row, in order; says how long it was and whether that is a gap.

    What is usual is settled once, by the first 50 intervals that go forward: their median, and the
    longest but one in twenty. A gap is longer than 1.5 times that. Where rows come at no regular
    pace (fewer than eight intervals in ten within half of the median) nothing is a gap.
    """

    def __init__(self, wraps: bool = False):
        self.last = math.nan
        self.usual = math.nan  # unknown, 0 if there is nothing usual
        self.longest = math.inf
        self._wraps = wraps
        self._back = math.nan  # the time of the row before, if that was an earlier one
        self._seen: list[float] = []
        self._untimed = 0  # rows without a time since the last one

    def __call__(self, time: float) -> Tick:
        if math.isnan(time):
            self._untimed += 1
            return Tick(math.nan)
        elapsed, remark, missing = time - self.last, "", 0
        if self._wraps and -DAY < elapsed < -DAY / 2:
            elapsed += DAY
        if elapsed < 0:
            if time >= self._back:  # the second such row: time has gone back, and goes on there
                elapsed, self.last, self._back = time - self._back, time, math.nan
                return Tick(elapsed)
            self._back = time
            return Tick(elapsed, 0, "an earlier time than the row before")
        self._back = math.nan
        if elapsed == 0:
            return Tick(elapsed, 0, "the same time as the row before")
        if math.isnan(self.usual):
            if not math.isnan(elapsed):
                self._seen.append(elapsed)
                if len(self._seen) == LEARNED:
                    self._settle()
        elif elapsed - self._untimed * self.usual > LONG * self.longest:
            missing = max(round(elapsed / self.usual) - 1 - self._untimed, 1)
            remark = (
                f"a gap: {describe(elapsed)} since the row before, usual are {describe(self.usual)}"
            )
        self.last, self._untimed = time, 0
        return Tick(elapsed, missing, remark)

    def _settle(self) -> None:
        self.usual, self.longest = pace(self._seen)
        self._seen = []

    def memory(self) -> dict[str, Any]:
        kept = {name: repr(getattr(self, name)) for name in ("last", "usual", "longest", "_back")}
        return {**kept, "_untimed": self._untimed, "_seen": list(map(repr, self._seen))}

    def recall(self, kept: dict[str, Any]) -> None:
        for name in ("last", "usual", "longest", "_back"):
            setattr(self, name, float(kept[name]))
        self._untimed = kept["_untimed"]
        self._seen = list(map(float, kept["_seen"]))


def pace(intervals: list[float]) -> tuple[float, float]:
    """The usual interval and the longest usual one; 0 and infinity where there is no pace."""
    usual = float(np.median(intervals))
    regular = sum(abs(i - usual) <= usual / 2 for i in intervals) >= 0.7 * len(intervals)
    return (usual, float(np.quantile(intervals, 0.95))) if regular else (0.0, math.inf)


def describe(seconds: float) -> str:
    for size, word in ((YEAR, "years"), (DAY, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {word}"
        if abs(seconds / size - 1) < 0.02:
            return f"1 {word[:-1]}"
    return f"{seconds:.3g} seconds"


#: What a calendar gives: its name, its period, the longest interval between rows at which it tells.
CYCLES = (("hour", DAY, DAY / 2), ("weekday", WEEK, 1.5 * DAY), ("day of year", YEAR, YEAR / 4))


def cycles(intervals: list[float]) -> list[tuple[str, float]]:
    """The cycles of the calendar that vary between rows so far apart; all if that is unknown."""
    usual = float(np.median(intervals)) if intervals else 0.0
    return [(name, period) for name, period, most in CYCLES if usual <= most]


def calendar(time: float, periods: list[float]) -> list[float]:
    """Sines and cosines of a time in its cycles; zeros where it is unknown.

    1970-01-01 was a Thursday, and a year has 365.2425 days here, which is a day off at most.
    """
    if math.isnan(time):
        return [0.0] * (2 * len(periods))
    angles = [2 * math.pi * (time % period) / period for period in periods]
    return [wave for angle in angles for wave in (math.sin(angle), math.cos(angle))]
