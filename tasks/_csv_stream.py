"""A CSV file, or one that is still being written, as a stream."""

import io
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Float64

from rtrl.tasks import _csv_lines
from rtrl.tasks._csv_columns import (
    Column,
    Columns,
    Numbers,
    Problem,
    pick_columns,
)
from rtrl.tasks._csv_lines import Lines, Record, Records
from rtrl.tasks._data import Stream, check_count
from rtrl.validate import require

HEAD = 100  # rows in which a header and a good row are looked for
KEPT_PROBLEMS = 10_000

Row = tuple[Float64[np.ndarray, " in_size"], Float64[np.ndarray, " out_size"] | None]


def csv(
    source: str | Path | Iterable[str],
    target: Column | Sequence[Column],
    *,
    horizon: int = 1,
    inputs: Sequence[Column] | None = None,
    header: bool | None = None,
    time: Column | None = None,
    use_time: bool = False,
    separator: str | None = None,
    decimal: str | None = None,
    missing: Sequence[str] = (),
    on_problem: Callable[[Problem], None] | None = None,
) -> "CsvStream":
    """Read a stream from a file of comma-separated values, or from standard input as it comes.

    With a horizon of 1 or more, forecast: the target of a row is the value of the target columns
    `horizon` rows later. With a horizon of 0 the target is that of the same row, and is no input.

    Args:
        source: the path of a file, "-" for standard input, an open text file, or any lines.
        target: the column to predict, or several. A column is its name, or its number from 0;
            -1 is the last. "2" is a number too where no column has that name.
        horizon: rows.
        inputs: the columns to learn from. By default all but the time and those without a name,
            and at horizon 0 the target. A column of text must be left out, else every row is
            reported.
        header: whether the first row holds names. By default it does if some field is neither a
            number, nor missing, nor a date or a time; a last line of comment in front of the
            numbers (# time, speed) counts too.
        time: the column of times, no input. By default every column that holds a date or a time in
            the first row of data, or else the first one that is called time, timestamp, date or
            datetime.
        use_time: make the time an input after all, counted from the first row: in seconds for ISO
            dates, in its own unit for numbers. Listing it in `inputs` does the same.
        separator: by default a tab, ; | , or spaces, whatever splits the first row (or first two).
        decimal: the decimal mark, "." or ",". By default either, unless the comma separates.
        missing: more ways to say that a value is missing, such as "-999". An empty field, NA, N/A,
            nan, null, none, ? and - always do. Such values are NaN.
        on_problem: called for every row that is skipped, at once.

    Shapes: x (in_size,) and y (out_size,) float64 per row, in the data's own units. Iterating gives
    (x, y) row by row as `OnlineLearner.stream` takes it with `delay=horizon`; `CsvStream.arrays`
    gives all rows at once.

    A row with a wrong number of fields, with text where a number is needed, or with a quote that
    does not close, is skipped and reported with its line: to `on_problem`, and in ``problems``. It
    does not count for the horizon. Blank lines, and lines with # in front of the first row, are no
    rows.

    Raises:
        ValueError: an argument out of its range; there is no such column, no row of numbers, or
            nothing to learn from.
        OSError: the file can't be opened.

    Floors: none is known for data of your own; `rtrl.tasks.baselines` gives them for
    `arrays().series(horizon)` where there is a single column.

    Source: your file.
    """
    check_count("horizon", horizon, least=0)
    require(header in (None, True, False), "header", "True, False or None", header)
    one = separator is None or (isinstance(separator, str) and len(separator) == 1)
    require(one and separator not in ('"', "\n", "\r"), "separator", "one character", separator)
    require(decimal in (None, ".", ","), "decimal", "'.' or ','", decimal)
    text, close = open_lines(source)
    try:
        lines = Lines(text)
        comment = _csv_lines.skip_comments(lines)
        separator = separator or _csv_lines.sniff_separator(lines)
        records = Records(lines, separator)
        names, pending, first = _head(records, header)
        if names is None and header is None:
            names = _csv_lines.header_in(comment, separator, len(first))
        columns = pick_columns(names, first, target, horizon, inputs, time, use_time)
    except BaseException:
        close()
        raise
    gaps = _csv_lines.MISSING | {str(m).strip().lower() for m in missing}
    numbers = Numbers(columns, decimal or ("." if separator == "," else ".,"), gaps)
    records.is_row = numbers.can_read
    return CsvStream(
        columns, horizon, separator, itertools.chain(pending, records), numbers, on_problem, close
    )


class CsvStream:
    """The rows of a file as they come, once: see `csv`. Close it, or use it in a `with`.

    The first rows have been read, to learn the columns; nothing further is until it is asked for.
    It is made by `csv`, not by hand.

    Attributes:
        columns: the names of all columns ("column 0" and so on where there is no header).
        inputs, targets, left_out: the names of those in x, of those in y, and of the others.
        in_size, out_size: numbers in x and in y.
        horizon: rows from an x to its y.
        separator: the one between fields, as given or found.
        rows: rows given so far.
        skipped: rows reported so far.
        problems: the first 10,000 of these.
        line: the line on which the last row begins.
    """

    def __init__(
        self,
        columns: Columns,
        horizon: int,
        separator: str,
        records: Iterator[Record],
        numbers: Callable[[Record], Float64[np.ndarray, " numbers"] | Problem],
        on_problem: Callable[[Problem], None] | None,
        close: Callable[[], None],
    ):
        self.columns = columns.names
        self.inputs = [columns.names[i] for i in columns.inputs]
        self.targets = [columns.names[i] for i in columns.targets]
        used = {*columns.inputs, *columns.targets}
        self.left_out = [name for i, name in enumerate(columns.names) if i not in used]
        self.in_size, self.out_size = len(self.inputs), len(self.targets)
        self.horizon = horizon
        self.separator = separator
        self.rows = self.skipped = self.line = 0
        self.problems: list[Problem] = []
        self._records = records
        self._numbers = numbers
        self._on_problem = on_problem
        self._close = close

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        """The next row as (x, y): y is the target of the x that came `horizon` rows earlier.

        y is None while there is no such x.
        """
        for record in self._records:
            values = self._numbers(record)
            if isinstance(values, Problem):
                self._report(values)
                continue
            self.rows += 1
            self.line = record.line
            x, y = values[: self.in_size], values[self.in_size :]
            return x, y if self.rows > self.horizon else None
        self.close()
        raise StopIteration

    def arrays(self) -> Stream:
        """All rows from here to the end: ys[t] is the target of xs[t], ``horizon`` rows later.

        The last ``horizon`` rows are no xs, as their targets are not known.

        Returns:
            A `Stream` in float64, (rows - horizon, in_size) and (rows - horizon, out_size).

        Raises:
            ValueError: there are no more rows than ``horizon``.
        """
        given = list(self)
        found = f"{len(given)} rows, {self.skipped} skipped"
        found += f" (first {self.problems[0]})" if self.problems else ""
        require(len(given) > self.horizon, "source", f"more than {self.horizon} rows", found)
        xs = np.array([x for x, _ in given[: len(given) - self.horizon]])
        ys = np.array([y for _, y in given[self.horizon :]])
        return Stream(xs, ys)

    def close(self) -> None:
        """Close the file if it was opened here; asking for more rows then ends the stream."""
        self._close()
        self._records = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._close()

    def _report(self, problem: Problem) -> None:
        self.skipped += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(problem)
        if self._on_problem is not None:
            self._on_problem(problem)


def _head(
    records: Records, header: bool | None
) -> tuple[list[str] | None, list[Record], list[str]]:
    """Names if there are any, the rows read after them, the fields of the first good one if any."""
    names: list[str] | None = None
    pending: list[Record] = []
    for record in itertools.islice(records, HEAD):
        fields = record.fields
        if fields is not None and names is None and header is not False:
            if header or _csv_lines.is_header(fields):
                names = fields
                continue
        pending.append(record)
        if fields is not None and len(fields) == len(names or fields):
            return names, pending, fields
    found = f"nothing but {len(pending)} unreadable rows" if pending else "nothing"
    require(names is not None, "source", "a header or a row of numbers", found)
    return names, pending, []


def open_lines(source: str | Path | Iterable[str]) -> tuple[Iterable[str], Callable[[], None]]:
    """Give the lines of a source, and what closes it if it was opened here.

    Args:
        source: the path of a file, "-" for standard input, an open text file, or any lines.

    Returns:
        The lines, and a function of no arguments. A file opened here is read as UTF-8, or as UTF-16
        where it says so, with what is neither replaced.

    Raises:
        ValueError: the source is none of these.
        OSError: the file can't be opened.
    """
    if isinstance(source, str) and source == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            # Keeps the line ends that quoted fields may hold, and what is not UTF-8 does no harm.
            with suppress(io.UnsupportedOperation):  # reading has begun
                sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace", newline="")
        return sys.stdin, _nothing
    if isinstance(source, (str, Path)):
        file = open(source, "rb")
        start = file.peek(2)[:2]
        encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")
        return text, text.close
    lines = isinstance(source, Iterable) and not isinstance(source, (bytes, dict))
    require(lines, "source", 'a path, "-", an open text file or lines of text', type(source))
    return source, _nothing


def _nothing() -> None:
    pass
