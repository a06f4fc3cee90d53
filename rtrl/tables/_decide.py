"""What every column of a table is, decided from its first rows."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from rtrl.tables import _numbers, _times
from rtrl.tables._column import KINDS, Column
from rtrl.validate import require

ENOUGH = 20  # rows from which on something is said of what never happened
CLASSES = 12  # values of a text that become indicators unasked
FORCED_CLASSES = 100  # and at the user's word
SENTINELS = (
    -999.0,
    -9999.0,
    -99999.0,
    -999999.0,
    -999.9,
    -99.99,
    -9999.9,
    9999.0,
    99999.0,
    999999.0,
)
ROW_NUMBERS = "numbers the rows"
PAIRS = ("true false", "t f", "yes no", "y n", "on off", "ja nein", "oui non", "sí no", "si no",
         "open closed", "high low")  # fmt: skip
ALIASES = {
    "decimal-comma": "number", "decimal-point": "number", "bool": "boolean",
    "percent": "percentage", "category": "class", "date": "time", "currency": "money",
}  # fmt: skip


class Sample(NamedTuple):
    """The first fields of a column.

    Attributes:
        fields: those that are there, in order.
        missing: how the others were written, the commonest first.
        rows: how many rows were looked at.
    """

    fields: list[str]
    missing: tuple[str, ...]
    rows: int = 0


def check_kind(kind: str) -> None:
    known = (*KINDS, *_times.WAYS, *ALIASES)
    require(kind in known, "kinds", f"one of {', '.join(known)}", kind)


def decide(
    names: Sequence[str],
    samples: Sequence[Sample],
    forced: dict[int, str],
    targets: set[int],
    wanted: set[int],
    decimal: str | None,
    separator: str,
) -> list[Column]:
    """What the columns are.

    Args:
        names: of all columns.
        samples: their first fields.
        forced: kinds that the user gives, by the number of the column.
        targets: columns to predict: numbers as they are, if they can be.
        wanted: these and those that the user asks to learn from: never left out.
        decimal: the decimal mark if the user gives it.
        separator: between the fields; a semicolon speaks for decimal commas.
    """
    sure = Counter()
    for sample in samples:
        choice = _numbers.choose(sample.fields, decimal, None)
        if choice is not None and choice.share >= 0.5 and not _as_time(sample):
            mark = _numbers.hint_of(sample.fields)
            sure.update([mark] if mark else [])
    hint = sure.most_common(1)[0][0] if sure else None
    weak = hint or ("," if separator == ";" else None)
    return [
        _decide(i, name, samples[i], forced.get(i), i in targets, i in wanted, decimal, hint, weak)
        for i, name in enumerate(names)
    ]


def _least(count: int) -> float:
    """Which share of the fields must be written alike; the others are reported, row by row."""
    return 0.9 if count >= ENOUGH else 0.5


def _as_time(sample: Sample) -> tuple[str, float, str] | None:
    return _times.choose(sample.fields, _least(len(sample.fields))) if sample.fields else None


def _decide(
    number: int,
    name: str,
    sample: Sample,
    forced: str | None,
    target: bool,
    wanted: bool,
    decimal: str | None,
    hint: str | None,
    weak: str | None,
) -> Column:
    fields = sample.fields
    example = next((f for f in fields if f not in ("0", "0.0", "1")), fields[0] if fields else "")
    column = Column(number, name, "text", missing=sample.missing, example=example)
    way = forced if forced in _times.WAYS else None
    if forced in ("decimal-comma", "decimal-point"):
        decimal = "," if forced == "decimal-comma" else "."
        way, forced = None, "number"
    kind = "time" if way else ALIASES.get(forced or "", forced)
    if kind == "text":
        return column._replace(note="asked for")
    if kind == "class":
        return _class(column, fields, FORCED_CLASSES, asked=True)
    if kind == "time":
        return _time(column, fields, way)
    if kind == "boolean":
        return _boolean(column, fields) or _switch(column, fields)
    if not fields:
        if kind is None and not wanted and sample.rows >= ENOUGH:
            return column._replace(kind="empty", note="nothing in it")
        return column._replace(kind=kind or "number", way=(decimal or hint or "", "", ""))
    if kind is None and (boolean := _boolean(column, fields)):
        return boolean
    if kind is None and _as_time(sample):
        return _time(column, fields, None)
    choice = _numbers.choose(fields, decimal, hint, weak)
    least = 0.0 if target or kind else _least(len(fields))
    if choice is None and kind is not None:
        return column._replace(kind=kind, way=(decimal or hint or "", "", ""))
    if choice is None or choice.share < least:
        return _text(column, fields)
    if kind is None and not wanted and _is_code(fields):
        few = _text(column, fields)
        if few.kind == "class":
            return few
        choice = choice._replace(note="zeros in front: a code?")
    return _number(column, fields, choice, kind, target, wanted)


def _number(
    column: Column,
    fields: list[str],
    choice: _numbers.Choice,
    kind: str | None,
    target: bool,
    wanted: bool,
) -> Column:
    read = _numbers.reader(choice.way)
    pairs = [(f, v) for f in fields if (v := read(f)) is not None]
    values = [v for _, v in pairs]
    unit = choice.way.unit
    found = (
        "percentage" if unit in ("%", "‰") else "money" if unit in _numbers.CURRENCIES else "number"
    )
    example = next((f for f, v in pairs if v not in (0, 1)), column.example)
    column = column._replace(
        kind=kind or found, way=tuple(choice.way), note=choice.note, example=example
    )
    if kind is None and not target and (way := _times.choose_numeric(column.name, values, fields)):
        return column._replace(kind="time", way=(way,), note="")
    if kind is None and (gap := _sentinel(values)) is not None:
        written = Counter(f for f, v in pairs if v == gap).most_common(1)[0][0]
        values = [v for v in values if v != gap]
        note = f"{written} taken as missing"
        column = column._replace(gap=gap, missing=(*column.missing, written), note=note)
        column = column._replace(example=next(f for f, v in pairs if v != gap))
    if kind == "counter":
        return column
    if kind is None and not wanted and any(v > 2**53 and f.isdigit() for f, v in pairs):
        return column._replace(kind="text", way=(), note="longer than a number can be")
    if len(values) < ENOUGH or kind is not None:
        return column
    if min(values) == max(values):
        return column if wanted else column._replace(kind="constant", note="one value only")
    if set(values) == {0.0, 1.0} and not target:
        return column._replace(scaled=True, note=column.note or "0 or 1: not standardised")
    if _grows(values):
        if target:
            return column._replace(note=column.note or "only grows")
        note = _steps(values)
        if wanted and note == ROW_NUMBERS:
            return column
        return column._replace(kind="counter", note=note)
    return column


def _grows(values: list[float]) -> bool:
    different = len(set(values))
    return different >= max(5, len(values) // 20) and all(b >= a for a, b in pairwise(values))


def _steps(values: list[float]) -> str:
    steps = {b - a for a, b in pairwise(values)}
    return ROW_NUMBERS if len(steps) == 1 else "only grows: its steps are learned from"


def _sentinel(values: list[float]) -> float | None:
    """A number that says that a value is missing: -999 where all others are far from it."""
    for gap in SENTINELS:
        others = [v for v in values if v != gap]
        if 0 < len(others) < len(values) and len(others) >= ENOUGH // 2:
            far = max(abs(v) for v in others) * 5 < abs(gap)
            if far and (gap < 0 or len(values) - len(others) > 1):
                return gap
    return None


def _boolean(column: Column, fields: list[str]) -> Column | None:
    words = {f.lower() for f in fields}
    for pair in PAIRS:
        yes, no = pair.split()
        if words and words <= {yes, no} and (len(words) == 2 or yes in ("true", "yes")):
            return column._replace(kind="boolean", values=(no, yes), scaled=True)
        if words == {"false"} and no == "false":
            return column._replace(kind="boolean", values=(no, yes), scaled=True)
    return None


def _switch(column: Column, fields: list[str]) -> Column:
    """Any two values, at the user's word: the one that comes second in the alphabet is 1."""
    words = [word for word, _ in Counter(f.lower() for f in fields).most_common()]
    require(len(words) <= 2, "kinds", f"two values in {column.name!r} for a boolean", words[:5])
    words = sorted(words) if len(words) == 2 else ["0", "1"]
    return column._replace(kind="boolean", values=tuple(words), scaled=True)


def _time(column: Column, fields: list[str], way: str | None) -> Column:
    note = ""
    if way is None and fields:
        found = _times.choose(fields, 0.5)
        if found is None:
            values = [v for v in map(_numbers.reader(_numbers.Way()), fields) if v is not None]
            numeric = _times.choose_numeric("time", values, fields) or "number"
            require(len(values) > 0, "kinds", f"times in {column.name!r}", fields[0])
            found = numeric, 1.0, ""
        way, _, note = found
    return column._replace(kind="time", way=(way or "iso",), note=note)


def _is_code(fields: list[str]) -> bool:
    """Whether digits are no number: all of one length, some with zeros in front."""
    alike = {len(f) for f in fields} == {len(fields[0])} and len(fields[0]) > 1
    return alike and all(map(str.isdigit, fields)) and any(f[0] == "0" for f in fields)


def _text(column: Column, fields: list[str]) -> Column:
    if "NA" in column.missing and all(len(f) == 2 and f.isupper() for f in fields):
        fields = [*fields, "NA"]  # Namibia, not a missing value
        column = column._replace(missing=tuple(m for m in column.missing if m != "NA"))
    counts = Counter(fields)
    if len(counts) == 1 and len(fields) >= ENOUGH:
        return column._replace(kind="constant", note="one value only")
    if len(fields) >= ENOUGH and len(counts) <= min(CLASSES, len(fields) // 4):
        return _class(column, fields, CLASSES)
    if len(fields) < ENOUGH:
        return column._replace(note=f"only {len(fields)} rows seen")
    return column._replace(note=f"{len(counts)} different texts in {len(fields):,} rows")


def _class(column: Column, fields: list[str], most: int, asked: bool = False) -> Column:
    counts = Counter(fields)
    values = tuple(sorted(value for value, _ in counts.most_common(most)))
    room = CLASSES if asked and len(fields) < ENOUGH else len(values)
    rest = len(counts) - len(values)
    note = f"{rest} rarer values are other" if rest else ""
    if len(values) < room:
        note = f"room for {room - len(values)} values not seen yet"
    room = max(room, len(values))
    return column._replace(kind="class", values=values, room=room, scaled=True, note=note)
