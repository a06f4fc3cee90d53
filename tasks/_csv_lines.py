"""Comma-separated text taken apart: lines, records, and what the first of them tell."""

import csv
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

SEPARATORS = ("\t", ";", "|", ",", " ")  # in the order in which they are tried
QUOTED_LINES = 32  # a quoted field does not span more lines: an open quote must not eat the file
MISSING = frozenset("- -- ? na n/a #n/a <na> nan null none".split()) | {""}

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([T ].*)?"
    r"|\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?",
    re.ASCII,
)


class Record(NamedTuple):
    """A row of the file, not yet numbers: the line it starts on, its fields or what is wrong."""

    line: int
    text: str
    fields: list[str] | None
    error: str = ""


class Lines:
    """The lines of a text with their numbers from 1; lines can be handed back."""

    def __init__(self, source: Iterable[str]):
        self._numbered = enumerate(source, 1)
        self._returned: deque[tuple[int, str]] = deque()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self

    def __next__(self) -> tuple[int, str]:
        if self._returned:
            return self._returned.popleft()
        number, line = next(self._numbered)
        return number, line.removeprefix("\ufeff") if number == 1 else line

    def hand_back(self, lines: Iterable[tuple[int, str]]) -> None:
        self._returned.extendleft(reversed(list(lines)))


class Records:
    """The rows of a text, blank lines left out; a line that cannot be read is a row of its own.

    A quote that is not closed within `QUOTED_LINES` lines, or is closed in a way that makes no
    sense, or spans a line that `is_row` by itself, spoils the line it stands on and no other:
    reading goes on with the next line.
    """

    def __init__(self, lines: Lines, separator: str):
        self._lines = lines
        self._separator = separator
        self.is_row: Callable[[Record], bool] = lambda record: False

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        blank = " \r\n" if self._separator == "\t" else None  # a row of tabs has fields
        number, line = next(numbered for numbered in self._lines if numbered[1].strip(blank))
        taken = [line]
        fields, error = _fields(taken, self._separator)
        more: list[tuple[int, str]] = []
        while error == OPEN_QUOTE and len(taken) < QUOTED_LINES:
            following = next(self._lines, None)
            if following is None:
                break
            more.append(following)
            taken.append(following[1])
            fields, error = _fields(taken, self._separator)
        if more and fields is not None and any(self._is_row(*other) for other in more[:-1]):
            fields = None
        if fields is None and more:
            self._lines.hand_back(more)
            return Record(number, line.rstrip("\r\n"), None, OPEN_QUOTE)
        return Record(number, "".join(taken).rstrip("\r\n"), fields, error)

    def _is_row(self, number: int, line: str) -> bool:
        fields, _ = _fields([line], self._separator)
        return fields is not None and self.is_row(Record(number, line, fields))


OPEN_QUOTE = "a quote that is not closed"


def _fields(lines: list[str], separator: str) -> tuple[list[str] | None, str]:
    """The fields of a record, or what is wrong with it."""
    if separator == " ":  # any number of spaces is one separator
        lines = [lines[0].lstrip(" "), *lines[1:]]
        lines[-1] = lines[-1].rstrip(" \r\n")
    try:
        rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return None, OPEN_QUOTE
        if "expected after" in str(error):
            return None, "text after a closing quote"
        return None, str(error)
    if len(rows) != 1:
        return None, "more than one row"
    return [field.strip() for field in rows[0]], ""


def skip_comments(lines: Lines) -> str | None:
    """Pass over lines with # in front of the first row; return the last one, without its #."""
    comment = None
    for number, line in lines:
        if line.startswith("#") and not line.lower().startswith("#n/a"):
            comment = line.lstrip("#").strip()
        elif line.strip():
            lines.hand_back([(number, line)])
            break
    return comment


def sniff_separator(lines: Lines) -> str:
    """Which separator the text uses, from its first row, or first two if the first is a header.

    No more than that is read: on a live pipe the rest is not there yet.
    """
    first = _whole_record(lines)
    kept = list(first)
    text = _joined(first)
    found = [s for s in SEPARATORS if s in _outside_quotes(text)]
    choice = next((s for s in found if s != " "), ",")
    if numeric := [s for s in found if not is_header(_fields([text], s)[0] or [text])]:
        choice = numeric[0]
    elif found:
        second = _whole_record(lines)
        kept += second
        if second:
            counts = [[_count(_joined(row), s) for row in (first, second)] for s in found]
            agree = [s for s, (a, b) in zip(found, counts, strict=True) if a == b > 1]
            if agree:
                choice = agree[0]
            elif found == [" "] and counts[0][1] > 1:  # and not one column with a long name
                choice = " "
    lines.hand_back(kept)
    return choice


def _whole_record(lines: Lines) -> list[tuple[int, str]]:
    """The lines of the next row, blank ones in front of it included, judged by counting quotes."""
    taken: list[tuple[int, str]] = []
    for numbered in itertools.islice(lines, 10 * QUOTED_LINES):
        taken.append(numbered)
        text = _joined(taken)
        if text.strip() and text.count('"') % 2 == 0:
            return taken
        if len(taken) >= QUOTED_LINES and text.strip():
            break
    full = next((i for i, (_, line) in enumerate(taken, 1) if line.strip()), len(taken))
    lines.hand_back(taken[full:])
    return taken[:full]


def _count(text: str, separator: str) -> int:
    """How many fields a row has, also where its quotes are wrong."""
    fields, _ = _fields([text], separator)
    return len(_outside_quotes(text).split(separator) if fields is None else fields)


def _joined(numbered: list[tuple[int, str]]) -> str:
    return "".join(line for _, line in numbered if line.strip())


def _outside_quotes(text: str) -> str:
    return re.sub(r'"[^"]*"', "q", text).strip(" \r\n")


def is_header(fields: list[str]) -> bool:
    """Whether some field is neither a number, nor missing, nor a date or a time."""
    return not all(
        is_missing(f) or is_date(f) or _NUMBER.fullmatch(f.replace(",", ".")) for f in fields
    )


def header_in(comment: str | None, separator: str, count: int) -> list[str] | None:
    """The names in a line of comment, if it has as many as there are columns."""
    names = _fields([comment], separator)[0] if comment else None
    return names if names and len(names) == count > 1 and is_header(names) else None


def is_missing(field: str) -> bool:
    return field.lower() in MISSING


def is_date(field: str) -> bool:
    return _DATE.fullmatch(field) is not None


def to_number(field: str, decimal: str) -> float | None:
    """A field as a finite number, None if it is something else. `decimal` holds the marks."""
    if "," in field:
        if "," not in decimal or "." in field:
            return None
        field = field.replace(",", ".")
    elif "." in field and "." not in decimal:
        return None
    if not _NUMBER.fullmatch(field):
        return None
    value = float(field)
    return value if abs(value) != float("inf") else None


def to_seconds(field: str) -> float | None:
    """An ISO date and time as seconds since 1970 (UTC where it names no zone), an ISO time as
    seconds since midnight, else None."""
    for text in (field, "1970-01-01T" + field):
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
    return None
