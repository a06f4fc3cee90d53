"""Which columns are learned from, which are predicted, which is the clock."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtrl.tables._column import Column
from rtrl.tables._decide import ROW_NUMBERS
from rtrl.validate import require

Name = str | int

BARE = ("iso", "day-first", "month-first", "named", "compact")  # ways of a date, clock or not
TIME_NAMES = ("time", "timestamp", "date", "datetime")


def find_columns(argument: str, columns: Name | Sequence[Name], names: Sequence[str]) -> list[int]:
    """The numbers of columns that are given by name or number; all different."""
    listed = [columns] if isinstance(columns, (str, int, np.integer)) else list(columns)
    numbers = [find_column(argument, column, names) for column in listed]
    different = len(set(numbers)) == len(numbers)
    require(different, argument, "different columns", columns)
    return numbers


def find_column(argument: str, column: Name, names: Sequence[str]) -> int:
    expected = f"a column of {list(names)}, or its number"
    if isinstance(column, str):
        found = [i for i, name in enumerate(names) if name == column.strip()]
        if len(found) > 1:
            numbers = " or ".join(map(str, found))
            require(False, argument, f"{numbers}, the numbers of the columns of that name", column)
        if found:
            return found[0]
        digits = column.strip().removeprefix("-")
        require(digits.isascii() and digits.isdigit(), argument, expected, column)
        column = int(column)
    whole = isinstance(column, (int, np.integer)) and not isinstance(column, bool)
    require(whole and -len(names) <= column < len(names), argument, expected, column)
    return int(column) % len(names)


def find_kinds(kinds: Mapping[Any, str], names: Sequence[str]) -> dict[int, str]:
    return {find_column("kinds", column, names): kind for column, kind in kinds.items()}


def give_roles(
    columns: Sequence[Column],
    targets: Sequence[int],
    features: Sequence[int] | None,
    drop: Sequence[int],
    time: int | None,
    horizon: int,
    nameless: set[int],
) -> tuple[list[Column], list[int], list[int]]:
    """Every column with its role, the features in their order, and the columns of the time."""
    for i in targets:
        column = columns[i]
        usable = column.kind in ("number", "percentage", "money", "boolean", "class", "counter")
        got = f"{column.kind}, such as {column.example!r}" if column.example else column.kind
        advice = " (as a class each of its values can be forecast)"
        expected = f"numbers in {column.name!r}" + advice * (column.kind in ("text", "constant"))
        require(usable or (column.kind == "constant" and column.way != ()), "target", expected, got)
    clock = _times(columns, targets, time)
    if features is None:
        chosen = [
            i for i, column in enumerate(columns)
            if _is_feature(column, i in targets) and i not in drop and i not in clock
            and (horizon > 0 or i not in targets) and (i not in nameless or i in targets)
        ]  # fmt: skip
    else:
        chosen = [i for i in features if i not in drop]
        for i in chosen:
            column = columns[i]
            text = column.kind in ("text", "empty")
            got = f"{column.kind}, such as {column.example!r}" if column.example else column.kind
            require(not text, "features", f"numbers or classes in {column.name!r}", got)
    given = []
    for i, column in enumerate(columns):
        role = "out"
        if i in targets:
            role = "both" if i in chosen else "target"
        elif i in chosen:
            role = "feature"
        elif i in clock:
            role = "time"
        note = column.note
        if i in drop and role == "out":
            note = "dropped"
        elif role == "out" and i in nameless and column.kind not in ("empty", "constant"):
            note = "it has no name"
        given.append(column._replace(role=role, note=note))
    return given, chosen, clock


def _is_feature(column: Column, target: bool) -> bool:
    if column.kind in ("text", "empty", "time"):
        return False
    if column.kind == "constant":
        return target
    return target or column.note != ROW_NUMBERS


def _times(columns: Sequence[Column], targets: Sequence[int], time: int | None) -> list[int]:
    """The columns that tell the time of a row: the one given, the first of dates, or by name.

    Dates without a time of day are joined by the first column that has nothing but that.
    """
    if time is not None:
        return [time]
    times = [c for c in columns if c.kind == "time" and c.number not in targets]
    clocks = [c.number for c in times if c.way == ("clock",)]
    dates = [c for c in times if c.way != ("clock",)]
    if dates:
        bare = ":" not in dates[0].example and dates[0].way[0] in BARE
        return [dates[0].number, *clocks[:1]] if bare else [dates[0].number]
    named = [
        c.number for c in columns
        if c.name.lower() in TIME_NAMES and c.numeric and c.number not in targets
    ]  # fmt: skip
    return (clocks + named)[:1]
