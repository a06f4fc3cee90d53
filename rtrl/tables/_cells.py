"""What reads one field of a column: to a number, to indicators, to a time."""

from collections.abc import Callable, Sequence
from typing import Any

from rtrl.tables import _numbers, _times
from rtrl.tables._column import Column

NAN = float("nan")

Read = Callable[[str], Any]  # a float; a list of floats for a class; None if the field does not fit


def number_reader(column: Column, gaps: frozenset[str], exact: frozenset[str]) -> Read:
    """Of a number: NaN where it is missing. ``exact`` are gaps that could be read as numbers."""
    decimal, thousands, unit = column.way or ("", "", "")
    read, gap = _numbers.reader(_numbers.Way(decimal, thousands, unit)), column.gap

    def number(field: str) -> float | None:
        if field in exact:
            return NAN
        value = read(field)
        if value is None:
            return NAN if field.lower() in gaps else None
        return NAN if value == gap else value

    return number


def time_reader(column: Column, gaps: frozenset[str]) -> Read:
    """Of a time, in seconds; a time in a unit of its own where the column holds plain numbers."""
    way = column.way[0] if column.kind == "time" else "number"
    if way == "number":
        plain = column if column.kind != "time" else column._replace(way=())
        return number_reader(plain, gaps, frozenset())
    read = _times.reader(way)

    def moment(field: str) -> float | None:
        value = read(field)
        return NAN if value is None and field.lower() in gaps else value

    return moment


def moment_reader(
    times: Sequence[Column], gaps: frozenset[str]
) -> Callable[[Sequence[str]], float | None]:
    """Of the time of a row, from one column or a date and a time of day; None if unreadable."""
    readers = [(column.number, time_reader(column, gaps)) for column in times]

    def moment(fields: Sequence[str]) -> float | None:
        total = 0.0
        for number, read in readers:
            value = read(fields[number].strip())
            if value is None:
                return None
            total += value
        return total

    return moment


def boolean_reader(column: Column, gaps: frozenset[str]) -> Read:
    no, yes = column.values
    words = {no: 0.0, yes: 1.0}

    def boolean(field: str) -> float | None:
        word = field.lower()
        value = words.get(word)
        return NAN if value is None and word in gaps else value

    return boolean


class ClassReader:
    """A value to indicators; zeros alone for one that is not known ("other") or is missing.

    Attributes:
        known: the place of every value.
        others: values that have no place, counted.
    """

    def __init__(self, column: Column, gaps: frozenset[str]):
        self.known = {value: i for i, value in enumerate(column.values)}
        self.others: dict[str, int] = {}
        self._room = column.room
        self._gaps = gaps

    def __call__(self, field: str) -> list[float]:
        place = self.known.get(field)
        if place is None and field.lower() not in self._gaps:
            if len(self.known) < self._room:
                place = self.known[field] = len(self.known)
            elif field in self.others or len(self.others) < 1000:
                self.others[field] = self.others.get(field, 0) + 1
        indicators = [0.0] * self._room
        if place is not None:
            indicators[place] = 1.0
        return indicators


def reader_of(column: Column, gaps: frozenset[str], exact: frozenset[str]) -> Read:
    if column.kind == "class":
        return ClassReader(column, gaps)
    if column.kind == "boolean":
        return boolean_reader(column, gaps)
    if column.kind == "time":
        return time_reader(column, gaps)
    return number_reader(column, gaps, exact)


def names_of(column: Column) -> list[str]:
    """The names of the numbers that a column becomes."""
    if column.kind != "class":
        return [column.name]
    unseen = [f"#{i + 1}" for i in range(len(column.values), column.room)]
    return [f"{column.name}={value}" for value in (*column.values, *unseen)]
