"""Numbers as people write them, and which way a whole column does.

A cell alone cannot tell: ``1,250`` is 1250 in one country and 1.25 in another. So the way is chosen
once for a column (`choose`), and a cell that is not written that way is no number (`reader`).
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

#: What is taken off both ends of a number.
CURRENCIES = (
    "US$ A$ C$ R$ NZ$ HK$ S$ $ € £ ¥ ₹ ₩ ₽ ₺ ₴ ₪ ฿ ₫ ¢ zł Kč kr Ft Fr. CHF USD EUR GBP JPY CNY RMB "
    "INR AUD CAD NZD SEK NOK DKK PLN CZK HUF BRL MXN ZAR KRW TRY RUB SGD HKD Rs. Rs"
).split()
SUFFIXES = {"k": 1e3, "K": 1e3, "M": 1e6, "m": 1e6, "mn": 1e6, "B": 1e9, "bn": 1e9, "T": 1e12}

_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_FRAME = re.compile(
    r"(?P<open>\(?)\s*(?P<sign>[+\-\u2212]?)\s*(?P<before>[^\d\s.,'+\-\u2212()]{1,4}\.?)?\s*"
    r"(?P<inner>[+\-\u2212]?)(?P<digits>[.,]?\d(?:[\d.,'\u2019]|[ \u00a0\u202f](?=\d{3}))*"
    r"(?:[eE][+-]?\d+)?)\s*(?P<after>(?:[^\d\s+\-\u2212()][^\d()]{0,11}[23]?)?)"
    r"(?P<minus>-?)\s*(?P<close>\)?)",
    re.ASCII,
)
_SPACES = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2019": "'"})


class Way(NamedTuple):
    """How the numbers of a column are written.

    Attributes:
        decimal: the decimal mark; empty if none has been seen, then either will do where it can be
            nothing else (1,25 but not 1,250).
        thousands: the mark between groups of digits, empty if there is none.
        unit: what stands behind or in front of every number; "*" for factors such as k and M.
    """

    decimal: str = ""
    thousands: str = ""
    unit: str = ""


class Pieces(NamedTuple):
    """A number taken apart: its digits with their marks, what stands around them."""

    negative: bool
    digits: str
    unit: str


def take_apart(field: str) -> Pieces | None:
    """The digits of a field and its unit, currency or percent sign; None if it is no number."""
    found = _FRAME.fullmatch(field)
    if found is None:
        return None
    bracket = found["open"] == "(" and found["close"] == ")"
    signs = [s for s in (found["sign"], found["inner"], found["minus"]) if s]
    if (found["open"] != "") != (found["close"] != "") or len(signs) + bracket > 1:
        return None
    before, after = (found["before"] or "").strip(), found["after"].strip()
    if before and after:
        return None
    if before and before not in CURRENCIES:
        return None
    known = after in CURRENCIES or after[:1].isalpha() or after[:1] in "%‰°"
    if after and (not known or after in "eExX"):
        return None
    negative = bracket or (bool(signs) and signs[0] != "+")
    return Pieces(negative, found["digits"].translate(_SPACES), before or after)


def _patterns(decimal: str, thousands: str) -> re.Pattern[str]:
    d, t = re.escape(decimal), re.escape(thousands)
    exponent = r"([eE][+-]?\d+)?"
    if not thousands:
        return re.compile(rf"(\d+{d}?\d*|{d}\d+){exponent}", re.ASCII)
    western, indian = rf"\d{{1,3}}({t}\d{{3}})+", rf"\d{{1,2}}({t}\d{{2}})+{t}\d{{3}}"
    return re.compile(rf"(({western}|{indian}|\d+)({d}\d*)?|{d}\d+)", re.ASCII)


MARKS = [(".", ""), (",", ""), (".", ","), (",", "."), (".", "'"), (".", " "), (",", " ")]
PATTERNS = {marks: _patterns(*marks) for marks in MARKS}
_UNCLEAR = re.compile(r"((?!\d{1,3},\d{3}$)\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)


class Choice(NamedTuple):
    """The way of a column, how many of its fields are written so, and what was ambiguous."""

    way: Way
    share: float
    note: str = ""


def choose(
    fields: Sequence[str], decimal: str | None, hint: str | None, weak: str | None = None
) -> Choice | None:
    """The way in which the fields of a column are written; None if they are no numbers.

    ``decimal`` is what the user says. ``hint``, the mark of other columns, and ``weak``, what the
    separator makes likely, count only where the fields themselves leave it open.
    """
    pieces = [p for p in map(take_apart, fields) if p is not None]
    if not pieces:
        return None
    units = Counter(p.unit for p in pieces)
    way_unit = _unit(units)
    pieces = [p for p in pieces if way_unit == "*" or p.unit in (way_unit, "")]
    digits = Counter(p.digits for p in pieces)
    fits = {
        marks: sum(n for text, n in digits.items() if PATTERNS[marks].fullmatch(text))
        for marks in MARKS
        if decimal is None or marks[0] == decimal
    }
    most = max(fits.values())
    if most == 0:
        return None
    able = [marks for marks, n in fits.items() if n == most]
    preferred = decimal or hint or weak
    if (preferred, "") in able:
        able.sort(key=lambda marks: marks != (preferred, ""))
    fitting = [text for text in digits if any(PATTERNS[marks].fullmatch(text) for marks in able)]
    marks, note = _settle(able, fitting, decimal or hint, preferred)
    return Choice(Way(*marks, way_unit), most / len(fields), note)


def _unit(units: Counter[str]) -> str:
    named = [unit for unit in units if unit]
    if len(named) > 1 and all(unit in SUFFIXES for unit in named):
        return "*"
    return max(units, key=lambda unit: units[unit])


def _settle(
    able: list[tuple[str, str]], digits: list[str], sure: str | None, hint: str | None
) -> tuple[tuple[str, str], str]:
    """One of several ways that all fit; the simplest that uses every mark there is."""
    found = {mark for mark in ",.' " if any(mark in text for text in digits)}
    if not found:
        return (sure or "", ""), ""
    able = [m for m in able if found <= {*m}] or able[:1]
    able = [m for m in able if m[1] == "" or m[1] in found] or able
    if len(able) == 1 or not (found == {","} or found == {"."}):
        return able[0], ""
    mark = found.pop()  # the only one there is: decimal mark or thousands mark?
    other = "." if mark == "," else ","
    marked = [text for text in digits if mark in text]
    example = marked[0]
    zero = any(re.match(rf"0?{re.escape(mark)}|00", text) for text in marked)
    if zero or (mark, "") == able[0] and (other, mark) not in able:
        return (mark, ""), ""
    if hint == mark and mark == ",":
        return (mark, ""), f"{example}: {mark} taken as the decimal mark"
    if hint == other or mark == ",":
        return (other, mark), f"{example}: {mark} taken as a thousands mark"
    return (mark, ""), ""


def hint_of(fields: Sequence[str]) -> str | None:
    """The decimal mark of a column where its fields leave no doubt."""
    marks = set()
    for pieces in map(take_apart, fields):
        if pieces is None:
            continue
        able = {m[0] for m in MARKS if PATTERNS[m].fullmatch(pieces.digits)}
        if len(able) == 1:
            marks |= able
    return marks.pop() if len(marks) == 1 else None


def reader(way: Way) -> Callable[[str], float | None]:
    """What reads a field of a column that is written in this way: None if it is not."""
    if way in (Way(""), Way(".")):
        return _open if way == Way("") else _plain
    pattern = PATTERNS[way.decimal, way.thousands] if way.decimal else _UNCLEAR

    def read(field: str) -> float | None:
        pieces = take_apart(field)
        if pieces is None or not pattern.fullmatch(pieces.digits):
            return None
        factor = 1.0
        if way.unit == "*":
            if pieces.unit and pieces.unit not in SUFFIXES:
                return None
            factor = SUFFIXES.get(pieces.unit, 1.0)
        elif pieces.unit not in (way.unit, ""):
            return None
        text = pieces.digits.replace(way.thousands, "") if way.thousands else pieces.digits
        value = float(text.replace(way.decimal or ",", ".")) * factor
        if not math.isfinite(value):
            return None
        return -value if pieces.negative else value

    return read


def _plain(field: str) -> float | None:
    if not _PLAIN.fullmatch(field):
        return _signed(field)
    value = float(field)
    return value if math.isfinite(value) else None


def _open(field: str) -> float | None:
    value = _plain(field)
    if value is None and "," in field and _UNCLEAR.fullmatch(field.lstrip("+-")):
        return _plain(field.replace(",", "."))
    return value


def _signed(field: str) -> float | None:
    """A bracket, a minus behind the number or a typographic one."""
    pieces = take_apart(field) if field and field[-1] in ")-0123456789." else None
    if pieces is None or pieces.unit or not PATTERNS[".", ""].fullmatch(pieces.digits):
        return None
    value = float(pieces.digits)
    return (-value if pieces.negative else value) if math.isfinite(value) else None


def is_number(field: str) -> bool:
    """Whether a field could be a number, however it is written."""
    pieces = take_apart(field)
    return pieces is not None and any(p.fullmatch(pieces.digits) for p in PATTERNS.values())
