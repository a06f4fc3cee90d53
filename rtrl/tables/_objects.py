"""Rows that come as objects: dictionaries, data frames, Parquet, JSON lines."""

import importlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import Any

from rtrl.tables._head import SAMPLE
from rtrl.tables._lines import Lines, Record
from rtrl.validate import require

OBJECT_LINES = 200  # an object of JSON does not span more lines


class ObjectRecords:
    """Records of dictionaries: the keys of the first ones name the columns.

    A value becomes the text that its column would hold in a file, so that everything goes through
    the same decisions: numbers exactly as they are, true and false, times in ISO form, "" where a
    key is missing, None or NaN. A key that the first rows have not had is reported. ``more`` says
    whether to ask for another row before the first is given.
    """

    separator = ","

    def __init__(
        self,
        source: Iterable[tuple[int, Any]],
        live: bool,
        names: list[str] | None,
        more: Callable[[], bool],
        look: int | None,
    ):
        self._source = iter(source)
        self.live = live
        self._read: list[tuple[int, Any]] = []
        self.names = names or self._names(more, look)

    def _names(self, more: Callable[[], bool], look: int | None) -> list[str]:
        names: dict[str, None] = {}
        for numbered in self._source:
            self._read.append(numbered)
            if isinstance(numbered[1], Mapping):
                names |= dict.fromkeys(map(str, numbered[1]))
            if len(self._read) >= (look or SAMPLE) or (look is None and not more()):
                break
        require(bool(names), "source", "rows with names", "none")
        self._read.reverse()
        return list(names)

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        number, row = self._read.pop() if self._read else next(self._source)
        if isinstance(row, Mapping):
            unknown = [str(key) for key in row if key not in self._known]
            if unknown:
                return Record(number, str(row), None, f"a column not seen before: {unknown[0]!r}")
            return Record(number, str(row), [as_text(row.get(name)) for name in self.names])
        if isinstance(row, Sequence) and not isinstance(row, (str, bytes)):
            return Record(number, str(row), list(map(as_text, row)))
        reason = row.reason if isinstance(row, _Unreadable) else "expected a row with names"
        return Record(number, str(row), None, reason)

    @property
    def names(self) -> list[str]:
        return self._order

    @names.setter
    def names(self, names: list[str]) -> None:
        self._order, self._known = names, frozenset(names)

    def ready(self) -> bool:
        return bool(self._read)


class _Unreadable:
    def __init__(self, text: str, reason: str):
        self.text, self.reason = text, reason

    def __str__(self) -> str:
        return self.text


def as_text(value: Any) -> str:
    """What a value would be in a file."""
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return "true" if value else "false"
    if isinstance(value, date):
        return value.isoformat()
    for method in ("isoformat", "item"):  # a time of day; a number of NumPy's
        if hasattr(value, method):
            return as_text(getattr(value, method)())
    text = repr(value) if isinstance(value, (int, float)) else str(value)
    return "" if text in ("<NA>", "NaT") else text


def json_lines(
    lines: Lines, live: bool, names: list[str] | None, look: int | None
) -> ObjectRecords:
    """Records of a text that holds an object a line."""

    def objects() -> Iterator[tuple[int, Any]]:
        for number, line in lines:
            text = line.strip().rstrip(",")
            if text in ("", "[", "]"):
                continue
            if text.endswith(("{", "[")):  # written over several lines
                text = _object(lines, text)
            try:
                found = json.loads(text)
                for row in found if isinstance(found, list) else [found]:
                    yield number, row
            except (ValueError, RecursionError) as error:
                yield number, _Unreadable(text, f"no JSON ({error})")

    return ObjectRecords(objects(), live, names, lines.ready, look)


def _object(lines: Lines, text: str) -> str:
    """The lines of one object, joined; its first line alone if it does not end."""
    taken: list[tuple[int, str]] = []
    for numbered in itertools.islice(lines, OBJECT_LINES):
        taken.append(numbered)
        whole = (text + "".join(line for _, line in taken)).rstrip().rstrip(",")
        with suppress(ValueError, RecursionError):
            json.loads(whole)
            return whole
    lines.hand_back(taken)
    return text


def frame_rows(frame: Any) -> Iterator[tuple[int, Any]] | None:
    """The rows of a pandas or polars frame as dictionaries; None if it is neither."""
    if hasattr(frame, "iter_rows"):  # polars
        return enumerate(frame.iter_rows(named=True), 1)
    if hasattr(frame, "itertuples"):  # pandas
        names = [str(name) for name in frame.columns]
        if getattr(frame.index, "inferred_type", "").startswith("datetime"):
            names = [str(frame.index.name or "time"), *names]
            rows = frame.itertuples(index=True, name=None)
        else:
            rows = frame.itertuples(index=False, name=None)
        return enumerate((dict(zip(names, row, strict=True)) for row in rows), 1)
    return None


def parquet_rows(path: Any) -> Iterator[tuple[int, Any]]:
    """The rows of a Parquet file, batch by batch."""
    try:
        library = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        text = "source: Parquet needs pyarrow: pip install 'rtrl[tables]'."
        raise ValueError(text) from error

    def rows() -> Iterator[tuple[int, Any]]:
        number = 0
        with library.ParquetFile(path) as file:
            for batch in file.iter_batches(4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row

    return rows()
