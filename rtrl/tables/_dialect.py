"""What the first lines tell of a text: comments, the separator, lines that stand before the table.

A file is looked at for `LOOK` lines. On a live pipe nothing is waited for but what the user says:
what is there tells, its first line or the first two where the first may be a header.
"""

import itertools
import re
from collections import Counter
from typing import NamedTuple

from rtrl.tables import _numbers, _times
from rtrl.tables._lines import QUOTED_LINES, Lines, split

SEPARATORS = ("\t", ";", "|", ",", " ")  # in the order in which they are tried
LOOK = 60
MISSING = frozenset(
    "- -- ? . * na n/a n.a. #n/a <na> nan nat null none nil missing \\n #n/a! #div/0! #value! "
    "#ref! #num! #null! #name? (null) (na) [null] <null> --- n.d. unavailable".split()
) | {""}  # fmt: skip


class Dialect(NamedTuple):
    """How a text is divided.

    Attributes:
        separator: between fields.
        comment: the last line of comment above the first row.
        skipped: lines passed over before the table, with their numbers.
    """

    separator: str
    comment: str | None
    skipped: tuple[int, ...] = ()


def is_missing(field: str) -> bool:
    return field.lower() in MISSING


def is_value(field: str) -> bool:
    """Whether a field is a number, missing, or a date: no name of a column, most likely."""
    return is_missing(field) or _numbers.is_number(field) or is_time(field)


def is_time(field: str) -> bool:
    ways = ("iso", "day-first", "month-first", "named", "month", "clock")
    return any(_times.reader(way)(field) is not None for way in ways)


def is_header(fields: list[str]) -> bool:
    """Whether some field is neither a number, nor missing, nor a date or a time."""
    return not all(map(is_value, fields))


def find_dialect(lines: Lines, separator: str | None, least: int) -> Dialect:
    """The separator, and where the table begins; leaves the lines as they were from there on.

    ``least`` lines are waited for, up to `LOOK`.
    """
    comment = _skip_comments(lines)
    first = next(lines, None)
    if first is None:
        return Dialect(separator or ",", comment)
    if said := re.fullmatch(r"sep=(.)\s*", first[1], re.IGNORECASE):  # as spreadsheets write it
        return Dialect(separator or said[1], comment)
    lines.hand_back([first])
    seen = _look(lines, least)
    if len(seen) < 3:
        return Dialect(separator or sniff_separator(lines), comment)
    found, skip = _consistent(seen, separator)
    if found is None:
        return Dialect(separator or sniff_separator(lines), comment)
    passed = []
    for _ in range(skip):
        passed += [number for number, line in _whole_record(lines) if line.strip()]
    return Dialect(found, comment, tuple(passed))


def _skip_comments(lines: Lines) -> str | None:
    """Pass over lines with # in front of the first row; return the last one, without its #."""
    comment = None
    for number, line in lines:
        if line.startswith("#") and not line.lower().startswith(("#n/a", "#div", "#value", "#num")):
            comment = line.lstrip("#").strip()
        elif line.strip():
            lines.hand_back([(number, line)])
            break
    return comment


def _look(lines: Lines, least: int) -> list[str]:
    """The first rows that are there, their lines handed back; a quote may hold several lines."""
    taken = []
    while len(taken) < LOOK and (len(taken) < least or lines.ready()):
        numbered = next(lines, None)
        if numbered is None:
            break
        taken.append(numbered)
    lines.hand_back(taken)
    ahead, rows = Lines(text for _, text in taken), []
    while record := _whole_record(ahead):
        rows.append(_joined(record))
    return [row for row in rows if row]


def _consistent(texts: list[str], separator: str | None) -> tuple[str | None, int]:
    """The separator that divides the lines alike, and how many lines stand before the table.

    A separator must divide at least nine in ten of the lines into the same number of fields. That
    the first line is divided so too counts more than the order of the separators: it is a header
    then, or a row, and nothing is passed over.
    """
    found = []
    for candidate in [separator] if separator else SEPARATORS:
        counts = [_count(text, candidate) for text in texts]
        common, _ = Counter(counts[len(counts) // 2 :]).most_common(1)[0]
        start = next((i for i, n in enumerate(counts) if n == common), 0)
        if counts[0] == common - 1 and _one_more(texts, candidate):
            start = 0  # the names are one fewer than the fields
        rows = len(counts) - start
        alike = sum(n == common for n in counts[start:]) / rows
        least = 0.6 if start == 0 and rows < 20 else 0.9
        if common > 1 and alike >= least and (start == 0 or rows >= 5):
            found.append((candidate, start, common))
    if whole := [f for f in found if f[1] == 0]:
        return whole[0][:2]
    bare = [text.strip().strip('"') for text in texts]
    alone = sum(_numbers.is_number(text) or is_time(text) for text in bare)
    if separator is None and alone >= 0.9 * (len(texts) - 1):
        return ("\t" if any("," in text for text in bare) else None), 0  # one column, as 1,5
    if not found:
        return None, 0
    best = max(found, key=lambda f: f[2])
    return best[:2] if best[0] != " " else (None, 0)


def _one_more(texts: list[str], separator: str) -> bool:
    """Whether every row but the first ends with a separator, or begins with a name of its own."""
    first, rows = texts[0], texts[1:]
    end = sum(t.rstrip(" \r\n").endswith(separator) for t in rows)
    own = sum(names_row(t, separator) for t in rows)
    named = own >= 0.9 * len(rows) and _count(first, separator) > 1
    return named or end >= 0.9 * len(rows)


def names_row(text: str, separator: str) -> bool:
    """Whether the first field of a row is its name: in quotes, or no value."""
    return not is_value(text.lstrip(" ").split(separator, 1)[0].strip())


def sniff_separator(lines: Lines) -> str:
    """Which separator the text uses, from its first row, or first two if the first is a header.

    No more than that is read: on a live pipe the rest is not there yet.
    """
    first = _whole_record(lines)
    kept = list(first)
    text = _joined(first)
    found = [s for s in SEPARATORS if s in _outside_quotes(text)]
    choice = next((s for s in found if s != " "), ",")
    if numeric := [s for s in found if not is_header(split([text], s)[0] or [text])]:
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
    return len(_outside_quotes(text).split(None if separator == " " else separator))


def _joined(numbered: list[tuple[int, str]]) -> str:
    return "".join(line for _, line in numbered if line.strip())


def _outside_quotes(text: str) -> str:
    text = text.strip(" \r\n").replace('\\"', "")
    return text if '"' not in text else re.sub(r'"[^"]*"', "q", text)


def header_in(comment: str | None, separator: str, count: int) -> list[str] | None:
    """The names in a line of comment, if it has as many as there are columns."""
    names = split([comment], separator)[0] if comment else None
    return names if names and len(names) == count > 1 and is_header(names) else None
