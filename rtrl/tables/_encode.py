"""A row of fields as the numbers that are learned from, and those that are predicted."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from rtrl.tables import _cells
from rtrl.tables._clock import Clock, Tick, calendar
from rtrl.tables._column import Column
from rtrl.tables._lines import Record
from rtrl.tables._plan import Plan

NAN = float("nan")

_SIMPLE = re.compile(r"[0-9eE+\-.:TZ/,;|\t \r\n]+")
_DIGIT = re.compile(r"\d")


class Problem(NamedTuple):
    """Something about a row: the line of the file it starts on, and what is wrong.

    A row that is not ``kept`` could not be used and was left out.
    """

    line: int
    reason: str
    text: str
    kept: bool = False

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}: {self.text!r}"


class Encoder:
    """Makes numbers from records; `advance` then adds what depends on the rows before."""

    def __init__(self, plan: Plan):
        self.plan = plan
        gaps = plan.gaps
        exact = frozenset(gap for gap in gaps if gap[-1:].isdigit())
        self._exact = exact
        self._count = len(plan.columns)
        used = [plan.columns[i] for i in (*plan.features, *plan.targets)]
        self._reads = [(c, _cells.reader_of(c, gaps, exact), c.kind == "class") for c in used]
        names = [name for c in used[: len(plan.features)] for name in _cells.names_of(c)]
        self.waves = [f"{name} {wave}" for name, _ in plan.cycles for wave in ("sin", "cos")]
        self.x_names = names + self.waves + ["elapsed"] * plan.elapsed
        self.y_names = [n for c in used[len(plan.features) :] for n in _cells.names_of(c)]
        self._size = len(names)
        at = [0]
        for column in used:
            at.append(at[-1] + len(_cells.names_of(column)))
        features = list(zip(at, used[: len(plan.features)], strict=False))
        self.scaled = [c.scaled for _, c in features for _ in _cells.names_of(c)]
        self.scaled += [True] * len(self.waves) + [False] * plan.elapsed
        counted = [c.number for c in used if c.kind == "counter" and c.number not in plan.targets]
        self._counters = [(i, c) for i, c in features if c.number in counted]
        self._starts = [(i, c) for i, c in features if c.kind == "time" or c.number in plan.times]
        self._last = {c.number: NAN for _, c in self._counters}
        self._start = {c.number: NAN for _, c in self._starts}
        times = [plan.columns[i] for i in plan.times]
        self._moment = _cells.moment_reader(times, gaps) if times else None
        self._tick = Clock(wraps=[c.way for c in times] == [("clock",)])
        self._periods = [period for _, period in plan.cycles]
        self._fast = self._fast_columns(used)
        self.classes = {c.number: r for c, r, many in self._reads if many}

    def _fast_columns(self, used: Sequence[Column]) -> list[int] | None:
        """The columns where `float` reads what their own reader would, or None if not all are."""
        plain = all(
            c.numeric and c.gap is None and c.way[:2] in ((), ("", ""), (".", ""), (".", ","))
            for c in used
        )
        return None if self._exact or not plain else [c.number for c in used]

    def quick(self, line: str) -> tuple[list[float], list[str]] | None:
        """The numbers of a line that holds nothing but simple ones; None for any other."""
        if self._fast is None or not _SIMPLE.fullmatch(line):
            return None
        separator = self.plan.separator
        fields = line.split(None if separator == " " else separator)
        if len(fields) != self._count:
            return None
        try:
            values = [float(fields[i]) for i in self._fast]
        except ValueError:
            return None
        return (values, fields) if math.isfinite(sum(values)) else None

    def __call__(self, record: Record) -> list[float] | Problem:
        fields = record.fields
        if fields is None:
            return Problem(record.line, record.error, shortened(record.text))
        if len(fields) != self._count:
            reason = f"expected {self._count} fields, got {len(fields)}"
            return Problem(record.line, reason, shortened(record.text))
        for i in self.plan.times:  # a total below the table, for one
            if not _DIGIT.search(fields[i]) and fields[i].lower() not in self.plan.gaps:
                return _misfit(record, self.plan.columns[i])
        values: list[float] = []
        for column, read, many in self._reads:
            field = fields[column.number]
            value = read(field)
            if value is None:
                return _misfit(record, column)
            if many:
                values.extend(value)
            else:
                values.append(value)
        return values

    def can_read(self, record: Record) -> bool:
        """Whether the record is a row of numbers."""
        return not isinstance(self(record), Problem)

    def advance(self, values: list[float], fields: Sequence[str]) -> Tick | None:
        """Put into a row what depends on the rows before it; what the clock says of it."""
        for place, column in self._counters:
            now, before = values[place], self._last[column.number]
            step = now - before
            values[place] = NAN if step < 0 else step  # a counter that falls began again
            if not math.isnan(now):
                self._last[column.number] = now
        for place, column in self._starts:
            if math.isnan(self._start[column.number]):
                self._start[column.number] = values[place]
            values[place] -= self._start[column.number]
        if self._moment is None:
            return None
        time = self._moment(fields)
        tick = self._tick(NAN if time is None else time)
        if time is None:
            tick = tick._replace(remark=self._no_time(fields))
        if self._periods or self.plan.elapsed:
            more = calendar(NAN if time is None else time, self._periods)
            if self.plan.elapsed:
                more.append(math.log1p(tick.elapsed) if tick.elapsed > 0 else 0.0)
            values[self._size : self._size] = more
        return tick

    def _no_time(self, fields: Sequence[str]) -> str:
        return "no time: " + " ".join(fields[i][:40].strip() for i in self.plan.times)

    def waves_at(self, time: float) -> list[float]:
        return calendar(time, self._periods)

    @property
    def clock(self) -> Clock:
        return self._tick

    def memory(self) -> dict[str, Any]:
        """What has come of the rows so far, for JSON."""
        return {
            "last": {str(k): repr(v) for k, v in self._last.items()},
            "start": {str(k): repr(v) for k, v in self._start.items()},
            "clock": self._tick.memory(),
            "classes": {str(n): [list(r.known), r.others] for n, r in self.classes.items()},
        }

    def recall(self, kept: dict[str, Any]) -> None:
        self._last = {int(k): float(v) for k, v in kept["last"].items()}
        self._start = {int(k): float(v) for k, v in kept["start"].items()}
        self._tick.recall(kept["clock"])
        for number, (known, others) in kept["classes"].items():
            reader = self.classes[int(number)]
            reader.known = {value: i for i, value in enumerate(known)}
            reader.others = dict(others)


def shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"


def _misfit(record: Record, column: Column) -> Problem:
    field = (record.fields or [])[column.number]
    reason = f"expected {_expected(column)} in {column.name!r}, got {field[:40]!r}"
    return Problem(record.line, reason, shortened(record.text))


def _expected(column: Column) -> str:
    if column.kind == "time":
        return f"a time as {column.example!r}"
    if column.kind == "boolean":
        return " or ".join(column.values)
    unit = column.way[2] if column.way else ""
    odd = column.way and (column.way[1] or column.way[0] == "," or unit)
    return f"a number as {column.example!r}" if odd and column.example else "a number"
