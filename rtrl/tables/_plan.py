"""All that is decided of a table before its first row is given."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from rtrl.tables import _cells
from rtrl.tables._clock import DAY, cycles, describe, pace
from rtrl.tables._column import Column, as_columns
from rtrl.tables._decide import ENOUGH, decide
from rtrl.tables._head import Head, ends_empty, fitting, samples_of
from rtrl.tables._roles import Name, find_column, find_columns, find_kinds, give_roles
from rtrl.validate import require


class Plan(NamedTuple):
    """How rows become numbers: all that was decided. It can be written as JSON.

    Attributes:
        columns: all columns.
        features: the numbers of those in x, in their order.
        targets: of those in y.
        separator: between fields.
        gaps: how missing values may be written, in lower case.
        times: the columns that tell the time, none to two: of a date and of a time of day.
        cycles: periods of the calendar's sines and cosines in x, with their names.
        header: whether the text begins with the names.
        elapsed: whether the time since the row before is in x.
    """

    columns: list[Column]
    features: list[int]
    targets: list[int]
    separator: str
    gaps: frozenset[str]
    times: list[int]
    cycles: list[tuple[str, float]]
    elapsed: bool
    header: bool


class Asked(NamedTuple):
    """What the user asks for: see `read`."""

    target: Name | Sequence[Name]
    horizon: int
    features: Sequence[Name] | None
    drop: Sequence[Name]
    kinds: Mapping[Any, str]
    time: Name | None
    calendar: bool | None
    elapsed: bool
    decimal: str | None
    gaps: frozenset[str]


def make_plan(head: Head, asked: Asked, separator: str) -> Plan:
    """Decide what the columns are and which of them are used."""
    names, count = head.names, head.count
    given = names if names is not None else [""] * count
    trailing = names is not None and not given[-1] and ends_empty(head.rows, count)
    shown = list(given[:-1] if trailing else given)
    nameless = {i for i, name in enumerate(shown) if not name} if names is not None else set()
    shown = [name or f"column {i}" for i, name in enumerate(shown)]
    targets = find_columns("target", asked.target, shown)
    require(bool(targets), "target", "one or more different columns", asked.target)
    features = asked.features
    features = None if features is None else find_columns("features", features, shown)
    drop = find_columns("drop", asked.drop, shown)
    time = None if asked.time is None else find_column("time", asked.time, shown)
    kinds = find_kinds(asked.kinds, shown)
    samples = samples_of(head.rows, count, asked.gaps)
    wanted = {*targets, *(features or [])}
    columns = decide(
        shown, samples[: len(shown)], kinds, set(targets), wanted, asked.decimal, separator
    )
    columns, chosen, times = give_roles(
        columns, targets, features, drop, time, asked.horizon, nameless
    )
    if trailing:
        columns.append(Column(count - 1, "", "empty", note="a separator ends every line"))
    left = f"of {shown}, at least one besides the time" + " and the target" * (asked.horizon == 0)
    require(bool(chosen), "features", left, "none")
    intervals = _intervals(head, columns, times, asked.gaps)
    found = cycles(intervals) if _wants_calendar(asked, intervals) else []
    require(
        bool(times) or not (asked.calendar or asked.elapsed),
        "calendar" if asked.calendar else "elapsed", "a column of times", "none",
    )  # fmt: skip
    for i in times[:1]:
        columns[i] = columns[i]._replace(note=_pace(columns[i], intervals))
    return Plan(
        columns,
        chosen,
        targets,
        separator,
        asked.gaps,
        times,
        found,
        asked.elapsed,
        head.from_text,
    )


def _intervals(
    head: Head, columns: Sequence[Column], times: list[int], gaps: frozenset[str]
) -> list[float]:
    """From row to row in the first rows, where time goes forward."""
    read = _cells.moment_reader([columns[i] for i in times], gaps)
    rows = fitting(head.rows, head.count)
    moments = [t for t in map(read, rows) if t is not None]
    return [b - a for a, b in pairwise(moments) if b > a]


def _wants_calendar(asked: Asked, intervals: list[float]) -> bool:
    """Where rows are a day or more apart, the calendar is learned from unasked."""
    if asked.calendar is not None or len(intervals) < ENOUGH:
        return bool(asked.calendar)
    return pace(intervals)[0] >= 0.9 * DAY


def _pace(column: Column, intervals: list[float]) -> str:
    """What is said of a time: how far apart its rows are."""
    if not intervals or column.kind != "time":
        return column.note
    usual, _ = pace(intervals)
    said = f"every {describe(usual)}" if usual else "at no regular pace"
    return f"{column.note}; {said}" if column.note else said


def plan_from(kept: Mapping[str, Any]) -> Plan:
    """The plan of `Table.decisions`."""
    columns = as_columns(kept["columns"])
    cycles = [(name, period) for name, period in kept["cycles"]]
    return Plan(**{**kept, "columns": columns, "gaps": frozenset(kept["gaps"]), "cycles": cycles})
