"""Comma-separated text taken apart: lines, and the rows that they make."""

import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

QUOTED_LINES = 32  # a quoted field does not span more lines: an open quote must not eat the file
OPEN_QUOTE = "a quote that is not closed"


class Record(NamedTuple):
    """A row of the file, not yet numbers: the line it starts on, its fields or what is wrong."""

    line: int
    text: str
    fields: list[str] | None
    error: str = ""


class Lines:
    """The lines of a text with their numbers from 1; lines can be handed back.

    Attributes:
        live: whether someone may still be writing them.
        taken: the lines taken since it was made a list, without those handed back.
    """

    def __init__(self, source: Iterable[str]):
        self._numbered = enumerate(source, 1)
        self._source = source
        self.live = getattr(source, "live", False)
        self._returned: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] | None = None

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self

    def __next__(self) -> tuple[int, str]:
        if self._returned:
            numbered = self._returned.popleft()
        else:
            numbered = next(self._numbered)
            if numbered[0] == 1:
                numbered = 1, numbered[1].removeprefix("\ufeff")
        if self.taken is not None:
            self.taken.append(numbered)
        return numbered

    def hand_back(self, lines: Iterable[tuple[int, str]]) -> None:
        """Give the lines taken last, which come next then."""
        back = list(lines)
        self._returned.extendleft(reversed(back))
        if self.taken is not None and back:
            del self.taken[-len(back) :]

    def ready(self) -> bool:
        """Whether the next line is there."""
        ready = getattr(self._source, "ready", None)
        return bool(self._returned) or ready is None or ready()


class Records:
    """The rows of a text, blank lines left out; a line that cannot be read is a row of its own.

    A quote that is not closed within `QUOTED_LINES` lines, or is closed in a way that makes no
    sense, or spans a line that `is_row` by itself, spoils the line it stands on and no other:
    reading goes on with the next line.
    """

    def __init__(self, lines: Lines, separator: str):
        self.lines = lines
        self.live = lines.live
        self.separator = separator
        self.blank = " \r\n" if separator == "\t" else None  # a row of tabs has fields
        self.is_row: Callable[[Record], bool] = lambda record: False

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        for number, line in self.lines:
            if line.strip(self.blank):
                return self.record(number, line)
        raise StopIteration

    def ready(self) -> bool:
        return self.lines.ready()

    def record(self, number: int, line: str) -> Record:
        """The row that begins with this line; it may take more of them."""
        if '"' not in line:
            fields = line.split(None if self.separator == " " else self.separator)
            return Record(number, line.rstrip("\r\n"), [field.strip() for field in fields])
        taken = [line]
        fields, error = split(taken, self.separator)
        more: list[tuple[int, str]] = []
        while error == OPEN_QUOTE and len(taken) < QUOTED_LINES:
            following = next(self.lines, None)
            if following is None:
                break
            more.append(following)
            taken.append(following[1])
            fields, error = split(taken, self.separator)
        if more and fields is not None and any(self._is_row(*other) for other in more[:-1]):
            fields = None
        if fields is None and more:
            self.lines.hand_back(more)
            return Record(number, line.rstrip("\r\n"), None, OPEN_QUOTE)
        return Record(number, "".join(taken).rstrip("\r\n"), fields, error)

    def _is_row(self, number: int, line: str) -> bool:
        fields, _ = split([line], self.separator)
        return fields is not None and self.is_row(Record(number, line, fields))


def split(lines: list[str], separator: str) -> tuple[list[str] | None, str]:
    """The fields of a record, or what is wrong with it."""
    if separator == " ":  # any number of spaces is one separator
        lines = [lines[0].lstrip(" "), *lines[1:]]
        lines[-1] = lines[-1].rstrip(" \r\n")
    how: Any = {"delimiter": separator, "skipinitialspace": True, "strict": True}
    if any('\\"' in line for line in lines):  # a quote within quotes, as programmers write it
        with suppress(csv.Error):
            rows = list(csv.reader(lines, doublequote=False, escapechar="\\", **how))
            return [field.strip() for field in rows[0]], ""
    try:
        rows = list(csv.reader(lines, **how))
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return None, OPEN_QUOTE
        if "expected after" in str(error):
            return None, "text after a closing quote"
        return None, str(error)
    if len(rows) != 1:
        return None, "more than one row"
    return [field.strip() for field in rows[0]], ""
