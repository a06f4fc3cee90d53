"""The first rows: whether they begin with names, and what is in each column."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

from rtrl.tables._decide import Sample
from rtrl.tables._dialect import MISSING, is_header, is_missing, is_value, names_row
from rtrl.tables._lines import Record
from rtrl.validate import require

HEAD = 100  # rows in which a header and a good row are looked for
NAMED = 5  # rows that have names of their own: fewer may have a field too many by mistake
_ENDS = re.compile(r"\r\n|\n|\r")
SAMPLE = 1000  # rows that decide what a column is


class Head(NamedTuple):
    """The first rows of a table.

    Attributes:
        names: of the columns, None without a header.
        rows: the rows read, header apart.
        count: fields of a row.
        from_text: whether the names are a row of the text.
        begins: the line behind them.
        above: the line of the names, if others stand above it.
        whole: whether there are no more rows, or so many that they speak for the others.
    """

    names: list[str] | None
    rows: list[Record]
    count: int
    from_text: bool = False
    begins: int = 0
    above: int = 0
    whole: bool = False


def read_head(records: Any, header: bool | None, look: int | None) -> Head:
    """Read the rows that are there, at least the first good one, and find the header.

    Or wait for the first ``look`` good ones.
    """
    rows: list[Record] = []
    good, named, ended = 0, 0, True
    for record in records:
        rows.append(record)
        good += record.fields is not None
        if good == 1 and record.fields is not None:
            named = header or (header is None and is_header(record.fields))
        enough = good >= (look or 1) + named
        if look is None:
            stop = len(rows) > SAMPLE or (enough or len(rows) > HEAD) and not records.ready()
        else:
            stop = enough or len(rows) > look + HEAD
        if stop:
            ended = len(rows) > HEAD or (look is None and not records.live)
            break
    found = f"nothing but {len(rows)} unreadable rows" if rows else "nothing"
    require(good > 0, "source", "a header or a row of numbers", found)
    at = next(i for i, record in enumerate(rows) if record.fields is not None)
    first = rows[at].fields or []
    if header is None and (below := _names_below(rows, at)) > at:
        at = below
        first = rows[at].fields or []
    names = first if header or (header is None and _is_names(first, rows[at + 1 :])) else None
    if names is not None:
        names = [_unquoted(name) for name in names]
    begins = above = 0
    if names is not None:
        begins = rows[at].line + 1 + len(_ENDS.findall(rows[at].text))
        above = rows[at].line if at else 0
        rows = rows[at + 1 :]
    counts = Counter(len(r.fields) for r in rows if r.fields is not None)
    count = len(names) if names is not None else len(first) if counts[len(first)] > 1 else 0
    common = counts.most_common(1)[0][0] if counts else len(first)
    if names is not None and common == count + 1:
        if ends_empty(rows, common):  # every line but the header ends with a separator
            names, count = [*names, ""], common
        elif _have_names(rows, count, records.separator):
            names, count = ["", *names], common  # the names of rows have none, as R writes them
    return Head(names, rows, count or common, names is not None, begins, above, ended)


def _unquoted(name: str) -> str:
    quoted = len(name) > 2 and name[0] == name[-1] == "'"
    return name[1:-1] if quoted else name


def _names_below(rows: list[Record], at: int) -> int:
    """Where the names are, if names of groups or text and a blank are above them; else ``at``."""
    if len(rows) > at + 2 and _merged(*(r.fields or [] for r in rows[at : at + 3])):
        return at + 1
    for i in range(at, min(at + 10, len(rows) - 1)):
        here, below = rows[i], rows[i + 1]
        if here.fields is None or below.fields is None or sum(map(is_value, here.fields)) > 1:
            return at
        apart = below.line - here.line > 1 + len(_ENDS.findall(here.text))
        if apart and is_header(here.fields) and not any(map(is_value, below.fields)):
            return i + 1
    return at


def _merged(groups: list[str], names: list[str], values: list[str]) -> bool:
    """Whether the first row holds names of groups of columns, and the second those of columns."""
    text = "" in groups[1:] and is_header(groups) and not any(map(is_value, names))
    return text and any(map(is_value, values))


def _have_names(rows: list[Record], count: int, separator: str) -> bool:
    """Whether the rows, one field longer than the names, begin with names of their own."""
    longer = [r.text for r in rows if fitting([r], count + 1)]
    sure = len(longer) >= max(NAMED, 10 * len(fitting(rows, count)))
    return sure and all(names_row(text, separator) for text in longer)


def ends_empty(rows: list[Record], count: int) -> bool:
    """Whether a separator ends every row."""
    return not any(fields[-1] for fields in fitting(rows, count))


def fitting(rows: list[Record], count: int) -> list[list[str]]:
    """The fields of the rows that have as many as there are columns."""
    return [r.fields for r in rows if r.fields is not None and len(r.fields) == count]


def _is_names(first: list[str], rest: list[Record]) -> bool:
    """Whether the first row holds names: text where the rows below hold values.

    Where all is text, or nothing is below, it does if it holds no number at all, and not mostly
    numbers.
    """
    if all(map(is_value, first)):
        return False
    if _counts_up(first):
        return True
    below = [r.fields for r in rest if r.fields is not None and len(r.fields) == len(first)]
    speaking = 0
    for i, field in enumerate(first):
        column = [fields[i] for fields in below if not is_missing(fields[i])][:50]
        if column and sum(map(is_value, column)) >= 0.5 * len(column):
            speaking += -1 if is_value(field) and not is_missing(field) else 1
    if speaking:
        return speaking > 0
    values = sum(is_value(field) and not is_missing(field) for field in first)
    return 2 * values < len(first)


def _counts_up(first: list[str]) -> bool:
    """Whether the numbers among the fields are names that go on evenly: 1960, 1961, 1962."""
    numbers = [int(f) for f in first if f.isascii() and f.isdigit()]
    steps = {b - a for a, b in pairwise(numbers)}
    values = sum(is_value(field) for field in first)
    return len(numbers) > 2 and len(numbers) == values and len(steps) == 1 and 0 not in steps


def samples_of(rows: list[Record], count: int, gaps: frozenset[str]) -> list[Sample]:
    """The fields of every column in rows of the right length, missing ones apart."""
    fields: list[list[str]] = [[] for _ in range(count)]
    missing = [Counter() for _ in range(count)]
    for row in fitting(rows, count):
        for i, field in enumerate(row):
            if field.lower() in gaps:
                missing[i][field] += 1
            else:
                fields[i].append(field)
    order: Callable[[Counter], tuple] = lambda c: tuple(f for f, _ in c.most_common(3))  # noqa: E731
    return [Sample(f, order(m), len(f) + m.total()) for f, m in zip(fields, missing, strict=True)]


def gaps_of(more: Any) -> frozenset[str]:
    return MISSING | {str(m).strip().lower() for m in more}
