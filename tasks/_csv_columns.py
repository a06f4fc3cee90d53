"""Which columns of a file are inputs, targets and times, and how a row becomes numbers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from rtrl.tasks import _csv_lines
from rtrl.tasks._csv_lines import Record
from rtrl.validate import require

TIME_NAMES = ("time", "timestamp", "date", "datetime")

Column = str | int


class Problem(NamedTuple):
    """A row that could not be used: the line of the file it starts on, and what is wrong.

    Attributes:
        line: the line of the file, from 1.
        reason: what was expected and what came.
        text: the row as it stands there, cut after 80 characters.
    """

    line: int
    reason: str
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}: {self.text!r}"


class Columns(NamedTuple):
    """Names of all columns; the numbers of those that are inputs, targets and times."""

    names: list[str]
    inputs: list[int]
    targets: list[int]
    times: list[int]


class Numbers:
    """Makes a row of numbers, those of the inputs and then of the targets, from a record."""

    def __init__(self, columns: Columns, decimal: str, missing: frozenset[str]):
        self._columns = columns
        self._decimal = decimal
        self._missing = missing
        self._start: dict[int, float] = {}  # the first time of each column of times

    def __call__(self, record: Record) -> Float64[np.ndarray, " numbers"] | Problem:
        columns, fields = self._columns, record.fields
        text = record.text if len(record.text) <= 80 else record.text[:79] + "…"
        if fields is None:
            return Problem(record.line, record.error, text)
        if len(fields) != len(columns.names):
            reason = f"expected {len(columns.names)} fields, got {len(fields)}"
            return Problem(record.line, reason, text)
        values = np.empty(len(columns.inputs) + len(columns.targets))
        for place, number in enumerate(columns.inputs + columns.targets):
            field = fields[number]
            value = self._value(field, number in columns.times)
            if value is None:
                kind = "a number or an ISO date" if number in columns.times else "a number"
                reason = f"expected {kind} in {columns.names[number]!r}, got {field[:40]!r}"
                return Problem(record.line, reason, text)
            values[place] = value
        for place, number in enumerate(columns.inputs):
            if number in columns.times and np.isfinite(values[place]):
                values[place] -= self._start.setdefault(number, values[place])
        return values

    def can_read(self, record: Record) -> bool:
        """Whether the record is a row of numbers. Leaves the start of the times as it is."""
        start, self._start = self._start, {}
        values = self(record)
        self._start = start
        return not isinstance(values, Problem)

    def _value(self, field: str, is_time: bool) -> float | None:
        if field.lower() in self._missing:
            return float("nan")
        value = _csv_lines.to_number(field, self._decimal)
        return _csv_lines.to_seconds(field) if value is None and is_time else value


def pick_columns(
    header: list[str] | None,
    first: list[str],
    target: Column | Sequence[Column],
    horizon: int,
    inputs: Sequence[Column] | None,
    time: Column | None,
    use_time: bool,
) -> Columns:
    """Settle which columns are what; `first` is the first row of data, empty if there is none."""
    names = [f"column {i}" for i in range(len(first))] if header is None else header
    targets = _numbers("target", target, names)
    chosen = None if inputs is None else _numbers("inputs", inputs, names)
    if time is not None:
        times = _numbers("time", time, names)
    else:
        times = [i for i, field in enumerate(first) if _csv_lines.is_date(field)]
        named = (i for i, name in enumerate(names) if name.lower() in TIME_NAMES)
        times = times or [i for i in [next(named, -1)] if i >= 0 and i not in targets]
    if chosen is None:
        chosen = [
            i
            for i, name in enumerate(names)
            if (use_time or i not in times)
            and (horizon > 0 or i not in targets)
            and (i in times or name)
        ]
    elif use_time:
        chosen = sorted({*chosen, *times})
    left = f"of {names}, at least one input besides the time" + " and the target" * (horizon == 0)
    require(bool(chosen), "inputs", left, "none")
    return Columns(names, chosen, targets, times)


def _numbers(argument: str, columns: Column | Sequence[Column], names: list[str]) -> list[int]:
    listed = [columns] if isinstance(columns, (str, int, np.integer)) else list(columns)
    numbers = [_number(argument, column, names) for column in listed]
    different = len(numbers) > 0 and len(set(numbers)) == len(numbers)
    require(different, argument, "one or more different columns", columns)
    return numbers


def _number(argument: str, column: Column, names: list[str]) -> int:
    expected = f"a column of {names}, or its number"
    if isinstance(column, str):
        found = [i for i, name in enumerate(names) if name == column.strip()]
        require(len(found) <= 1, argument, "the number of one of the columns of that name", column)
        if found:
            return found[0]
        digits = column.strip().removeprefix("-")
        require(digits.isascii() and digits.isdigit(), argument, expected, column)
        column = int(column)
    whole = isinstance(column, (int, np.integer)) and not isinstance(column, bool)
    require(whole and -len(names) <= column < len(names), argument, expected, column)
    return int(column) % len(names)
