"""Any source, opened: the records in it, whatever they are written in."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rtrl.tables import _objects
from rtrl.tables._dialect import find_dialect
from rtrl.tables._lines import Lines, Records
from rtrl.tables._source import ByteLines, GivenLines, Patience, open_lines


class NoText:
    """What stands for the text of rows that come from none."""

    encoding = archive = fault = ""

    def close(self) -> None:
        pass


class Opened(NamedTuple):
    """A source with its records.

    Attributes:
        records: an iterator of `Record`.
        lines: the numbered lines, where a record is a line of text.
        names: of the columns, where the source itself has them.
        comment: the last line of comment above the first row.
        notes: what was found on the way, in words.
        text: what is to be closed, and knows the encoding.
    """

    records: Any
    lines: Lines | None
    names: list[str] | None
    comment: str | None
    notes: list[str]
    text: ByteLines | GivenLines | NoText


def open_records(
    source: Any,
    encoding: str | None,
    separator: str | None,
    names: list[str] | None,
    look: int | None,
    *,
    middle: bool = False,
) -> Opened:
    """Open a source; ``names`` are those that dictionaries are known to have from before, ``look``
    how many rows decide what the columns are.

    In the ``middle`` of a table, where another reader stopped, every line is a row.
    """
    rows = _objects.frame_rows(source)
    if rows is None and _is_parquet(source):
        rows = _objects.parquet_rows(source)
    if rows is not None:
        records = _objects.ObjectRecords(rows, False, names, Patience(True, look), look)
        return _of_objects(records, [], NoText())
    there, source = _peek(source)
    if isinstance(there, Mapping):
        all_there = isinstance(source, (list, tuple))
        patient = Patience(all_there, look)
        records = _objects.ObjectRecords(enumerate(source, 1), not all_there, names, patient, look)
        return _of_objects(records, [], NoText())
    text = open_lines(source, encoding, look)
    try:
        return _of_text(text, separator, names, look, middle)
    except BaseException:
        text.close()
        raise


def _of_text(
    text: ByteLines | GivenLines,
    separator: str | None,
    names: list[str] | None,
    look: int | None,
    middle: bool,
) -> Opened:
    lines, notes = Lines(text), []
    if text.archive:
        notes.append(f"unpacked from {text.archive}")
    if _is_json(lines):
        records = _objects.json_lines(lines, text.live, names, look)
        return _of_objects(records, notes, text)
    if middle and separator:
        return Opened(Records(lines, separator), lines, None, None, notes, text)
    dialect = find_dialect(lines, separator, look or 0)
    if text.encoding not in ("", "utf-8", "utf-8-sig"):
        notes.append(f"encoding {text.encoding}")
    if dialect.skipped:
        passed = ", ".join(map(str, dialect.skipped))
        notes.append(f"passed over what stands above the table (line {passed})")
    return Opened(Records(lines, dialect.separator), lines, None, dialect.comment, notes, text)


def _of_objects(records: _objects.ObjectRecords, notes: list[str], text: Any) -> Opened:
    return Opened(records, None, records.names, None, notes, text)


def _is_parquet(source: Any) -> bool:
    if not isinstance(source, (str, Path)) or source == "-" or not Path(source).is_file():
        return False
    with open(source, "rb") as file:
        return file.read(4) == b"PAR1"


def _peek(source: Any) -> tuple[Any, Any]:
    """The first item of rows that a program gives, and the rows with it."""
    if isinstance(source, (list, tuple)):
        return (source[0] if source else None), source
    if isinstance(source, Iterator) and not hasattr(source, "read"):
        first = next(source, None)
        return first, itertools.chain([] if first is None else [first], source)
    if isinstance(source, Iterable) and not hasattr(source, "read") and not isinstance(
        source, (str, bytes, Path, Mapping)
    ):  # fmt: skip
        return _peek(iter(source))
    return None, source


def _is_json(lines: Lines) -> bool:
    """Whether the first line that is not blank begins an object, or a list of objects."""
    seen = []
    for numbered in lines:
        seen.append(numbered)
        if numbered[1].strip():
            break
    lines.hand_back(seen)
    text = "".join(text.strip() for _, text in seen[-1:])
    return text.startswith("{") or text in ("[", "[{") or text.startswith('[{"')
