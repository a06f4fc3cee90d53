"""A person's file, or rows that a program has, as a stream."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rtrl.tables._decide import ENOUGH, check_kind
from rtrl.tables._dialect import header_in
from rtrl.tables._encode import Encoder, Problem
from rtrl.tables._head import Head, gaps_of, read_head
from rtrl.tables._open import Opened, open_records
from rtrl.tables._plan import Asked, Plan, make_plan, plan_from
from rtrl.tables._roles import Name
from rtrl.tables._table import GAPS, Table
from rtrl.validate import require, require_integer


def read(
    source: Any,
    target: Name | Sequence[Name],
    *,
    horizon: int = 1,
    features: Sequence[Name] | None = None,
    drop: Sequence[Name] = (),
    kinds: Mapping[Any, str] | None = None,
    header: bool | None = None,
    time: Name | None = None,
    calendar: bool | None = None,
    elapsed: bool = False,
    gaps: str = "fill",
    hold: bool = True,
    separator: str | None = None,
    decimal: str | None = None,
    missing: Sequence[str] = (),
    encoding: str | None = None,
    look: int | None = None,
    on_problem: Callable[[Problem], None] | None = None,
    decided: dict[str, Any] | None = None,
) -> Table:
    """Read a stream from a file of a person's, from standard input as it comes, or from rows.

    What every column is (a number and how it is written, a class, a time, a counter, ...) is
    decided once, from the first rows (``look``), and can be seen in ``columns`` (`describe` makes a
    table of them). A later row that does not fit is left out and reported; it changes no decision.

    With a horizon of 1 or more, forecast: the target of a row is the value of the target columns
    `horizon` rows later. With a horizon of 0 the target is that of the same row, and is no feature.

    Args:
        source: the path of a file, "-" for standard input, an open file, or any lines of text;
            compressed files (gz, bz2, xz, zst), JSON lines and Parquet are known by their first
            bytes. Or an iterable of dictionaries, a pandas or a polars frame.
        target: the column to predict, or several. A column is its name, or its number from 0;
            -1 is the last. "2" is a number too where no column has that name. A class becomes an
            indicator for each of its values.
        horizon: rows.
        features: the columns to learn from. By default all that hold numbers or classes and have a
            name, and at horizon 0 not the target. The time listed here counts from the first row.
        drop: columns not to learn from.
        kinds: what columns are, by name or number, where that is not to be guessed: number,
            percentage, money, boolean, class, time, counter or text; decimal-comma or
            decimal-point; for a time iso, day-first, month-first, named, compact, month, clock,
            year, excel, epoch-s, epoch-ms, epoch-us or epoch-ns.
        header: whether the first row holds names. By default it does where it holds text above
            columns of values; a last line of comment in front of the numbers (# time, speed) counts
            too.
        time: the column of times, no feature. By default the first that holds dates or times, or
            else the first one that is called time, timestamp, date or datetime.
        calendar: whether the hour, the weekday and the day of the year are learned from, as sines
            and cosines, as far as they vary from row to row. By default where rows are a day or
            more apart: there it made forecasts of real series better, and worse where they are an
            hour apart (bench/table_times.py).
        elapsed: whether the logarithm of (1 + the time since the row before) is learned from.
        gaps: what a gap in the times does that is longer than usual (see `Clock`): "fill" it with
            rows that have the last values and no target, so that the memory decays as it would
            have, and no target is learned across the gap; "hold" the memory as it was, as if
            nothing were missing; or "reset" it. On real series with gaps made into them "fill" was
            best (bench/table_times.py).
        hold: whether a missing value of x is the last one known of its column, rather than NaN, by
            which a learner would leave out the whole row. Missing targets are NaN all the same.
        separator: by default a tab, ; | , or spaces, whatever divides the first lines alike.
        decimal: the decimal mark, "." or ",". By default decided column by column.
        missing: more ways to say that a value is missing, such as "-999". An empty field, NA, N/A,
            nan, null, none, ? . and - always do.
        encoding: by default by byte order mark, UTF-8, or what the bytes make likely.
        look: how many rows decide what the columns are; they are waited for. By default the first
            1,000 of a file, a list or a frame. A pipe is not waited for: what it holds half a
            second after its first bytes decides, were it a single row, too few to tell a class from
            other text. Nor is an iterator, but it does not say whether its next item is there: for
            half a second from its first one on it is read ahead, up to 1,000 items, so that a live
            one gives its first row an item late; ``look=1`` reads nothing ahead.
        on_problem: called for every row that is left out, or is odd, at once.
        decided: `Table.decisions` of an earlier run, instead of deciding anew.

    Shapes: x (in_size,) and y (out_size,) float64 per row, in the data's own units. Iterating gives
    `Row`s as `OnlineLearner.stream` takes them with `delay=horizon`; `arrays` gives all at once.

    A row with a wrong number of fields, with text where a number is needed, or with a quote that
    does not close, is left out and reported with its line: to `on_problem`, and in `problems`. It
    does not count for the horizon. Blank lines, and lines with # in front of the first row, are no
    rows.

    Raises:
        ValueError: what was asked for is not in the file, or there is no table in it.
    """
    require_integer(horizon, "horizon", 0, "(rows)")
    require(header in (None, True, False), "header", "True, False or None", header)
    one = separator is None or (isinstance(separator, str) and len(separator) == 1)
    require(one and separator not in ('"', "\n", "\r"), "separator", "one character", separator)
    require(decimal in (None, ".", ","), "decimal", "'.' or ','", decimal)
    require(gaps in GAPS, "gaps", f"one of {', '.join(GAPS)}", gaps)
    if look is not None:
        require_integer(look, "look", 1, "(rows)")
    for kind in (kinds or {}).values():
        check_kind(kind)
    separator = separator or (decided or {}).get("separator")
    names = None if decided is None else [column[1] for column in decided["columns"]]
    begins = decided is None or (decided["header"] if header is None else header)
    opened = open_records(source, encoding, separator, names, look, middle=not begins)
    try:
        if decided is not None:
            plan, pending = plan_from(decided), []
            if begins:
                next((r for r in opened.records if r.fields is not None), None)
        else:
            if opened.lines is not None:
                opened.lines.taken = []
            head = _head_of(opened, header, look)
            asked = Asked(
                target, horizon, features, drop, kinds or {}, time, calendar, elapsed, decimal,
                gaps_of(missing),
            )  # fmt: skip
            try:
                plan, pending = make_plan(head, asked, opened.records.separator), head.rows
            except ValueError as error:  # were the names among what was passed over?
                notes = (f"({note})" for note in opened.notes)
                raise ValueError(" ".join([str(error), *notes])) from None
            if head.above:
                opened.notes.append(f"the names are in line {head.above}")
            if look is None and len(head.rows) < ENOUGH and not head.whole:
                opened.notes.append(_few(len(head.rows)))
            if opened.lines is not None:  # now that rows are known from quotes that are not closed
                again = [line for line in opened.lines.taken or [] if line[0] >= head.begins]
                opened.lines.taken = None
                opened.lines.hand_back(again)
                pending = []
            _require_rows(plan, head)
    except BaseException:
        opened.text.close()
        require(not opened.text.fault, "source", "a file that can be read", opened.text.fault)
        raise
    return Table(plan, horizon, opened, pending, gaps, hold, on_problem)


def _require_rows(plan: Plan, head: Head) -> None:
    """Refuse a file whose first rows are all of no use; on a pipe there may be none yet."""
    require(bool(head.rows) or not head.whole, "source", "rows below the names", "none")
    encode = Encoder(plan)
    found = [encode(record) for record in head.rows]
    if head.whole and found and all(isinstance(row, Problem) for row in found):
        lost = f"{len(found)} rows that cannot be used (first {found[0]})"
        require(False, "source", "rows that fit their columns", lost)


def _few(rows: int) -> str:
    decided = f"the first {rows} rows" if rows > 1 else "the first row" if rows else "no row"
    return f"what the columns are was decided from {decided}; `look` waits for more"


def _head_of(opened: Opened, header: bool | None, look: int | None) -> Head:
    """The first rows, with the names that the source has, or a line of comment above them."""
    head = read_head(opened.records, False if opened.names else header, look)
    if opened.names:
        return head._replace(names=opened.names, count=len(opened.names))
    if head.names is None and header is None:
        names = header_in(opened.comment, opened.records.separator, head.count)
        return head._replace(names=names)
    return head
