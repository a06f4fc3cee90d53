"""The rows of a table as they come."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
from jaxtyping import Float64

from rtrl.tables._clock import FILLED
from rtrl.tables._encode import Encoder, Problem, shortened
from rtrl.tables._lines import Lines, Record
from rtrl.tables._open import Opened
from rtrl.tables._plan import Plan
from rtrl.tasks import Stream
from rtrl.validate import require

KEPT_PROBLEMS = 10_000

GAPS = ("hold", "fill", "reset")


class Row(NamedTuple):
    """What a table gives for a row, and all that a learner's ``stream`` takes of it.

    Attributes:
        x: (in_size,) float64 in the data's own units. A value that is missing is the last one known
            of its column, NaN before there is one (and always with ``hold=False``).
        y: (out_size,), the target of the x that came ``horizon`` rows earlier, NaN where it is
            missing; None while there is no such x.
        weight: 1.
        reset: whether the memory should begin anew with this x.
    """

    x: Float64[np.ndarray, " in_size"]
    y: Float64[np.ndarray, " out_size"] | None
    weight: float = 1.0
    reset: bool = False


class Table:
    """The rows of a table as they come, once: see `read`. Close it, or use it in a ``with``.

    Enough rows have been read to decide what the columns are; no further one is read until it is
    asked for, and none waits for the line behind it.

    Attributes:
        columns: what every column was taken for (`Column`).
        features, targets: the names of the numbers in x and in y.
        in_size, out_size: how many these are.
        scaled: (in_size,) which numbers of x are on a scale of their own already (indicators,
            sines) and are best left as they are.
        horizon: rows from an x to its y.
        separator, encoding: as given or found.
        notes: what was found on the way to the first row, in words.
        rows: rows given so far; ``inserted`` of them stand for rows that are missing in a gap.
        filled: whether the last row is such a one.
        elapsed: from the row before to the last one, in seconds (in its own unit, if the time is a
            plain number); NaN where there is no time.
        skipped: rows left out so far, each of them reported.
        remarked: rows that are odd but were used, each of them reported.
        problems: the first 10,000 of both.
        line: the line on which the last row begins.
    """

    def __init__(
        self,
        plan: Plan,
        horizon: int,
        opened: Opened,
        pending: list[Record],
        gaps: str,
        hold: bool,
        on_problem: Callable[[Problem], None] | None,
    ):
        self._encode = Encoder(plan)
        self.plan = plan
        self.columns = plan.columns
        self.features, self.targets = self._encode.x_names, self._encode.y_names
        self.in_size, self.out_size = len(self.features), len(self.targets)
        self.scaled = np.array(self._encode.scaled, bool)
        self.horizon = horizon
        self.separator = plan.separator
        self.encoding = opened.text.encoding
        self.notes = opened.notes
        self.rows = self.inserted = self.skipped = self.remarked = self.line = 0
        self.filled = False
        self.elapsed = float("nan")
        self.problems: list[Problem] = []
        self._gaps = gaps
        self._hold = hold
        self._on_problem = on_problem
        self._text = opened.text
        self._held: np.ndarray | None = None
        opened.records.is_row = self._encode.can_read
        self._records, self._lines = opened.records, opened.lines
        self._pending = deque(pending)
        self._waiting: deque[Row] = deque()  # behind rows that fill a gap
        self._open = True

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        if self._waiting:
            return self._pass(self._waiting.popleft())
        while self._pending and self._open:
            if row := self._of(self._pending.popleft()):
                return row
        if self._open:
            row = self._from_records() if self._lines is None else self._from_lines(self._lines)
            if row is not None:
                return row
            if fault := self._text.fault:
                self._report(Problem(self.line + 1, fault, ""))
        self.close()
        raise StopIteration

    def next_ready(self) -> Row | None:
        """The next row, if it can be had without waiting for someone to write it; else None."""
        source = self._records if self._lines is None else self._lines
        while self._open and (self._waiting or self._pending or source.ready()):
            if self._waiting:
                return self._pass(self._waiting.popleft())
            given = self._pending.popleft() if self._pending else next(source, None)
            if given is None:
                return None
            row = self._of(given) if isinstance(given, Record) else self._of_line(*given)
            if row is not None:
                return row
        return None

    def _from_lines(self, lines: Lines) -> Row | None:
        return next((row for line in lines if (row := self._of_line(*line))), None)

    def _of_line(self, number: int, line: str) -> Row | None:
        simple = self._encode.quick(line)
        if simple is not None:
            self.line = number
            return self._row(*simple, line)
        if line.strip(self._records.blank):
            return self._of(self._records.record(number, line))
        return None

    def _from_records(self) -> Row | None:
        return next((row for record in self._records if (row := self._of(record))), None)

    def _of(self, record: Record) -> Row | None:
        values = self._encode(record)
        if isinstance(values, Problem):
            self._report(values)
            return None
        self.line = record.line
        return self._row(values, record.fields or [], record.text)

    def _row(self, values: list[float], fields: list[str], text: str) -> Row:
        """The next row of what was read: of a gap in front of it, if that is to be filled."""
        tick = self._encode.advance(values, fields)
        row = np.array(values)
        x, y, reset = row[: self.in_size], row[self.in_size :], False
        if tick is not None:
            self.elapsed = tick.elapsed
            if tick.remark:
                self._report(Problem(self.line, tick.remark, shortened(text.strip()), True))
            reset = tick.missing > 0 and self._gaps == "reset"
            if self._gaps == "fill" and tick.missing and self._held is not None:
                self._waiting.extend(self._fill(tick.missing, self._held))
        total = sum(values)
        if total != total:
            x = self._known(x)
        else:
            self._held = x
        if self._waiting:
            self._waiting.append(Row(x, y))
            return self._pass(self._waiting.popleft())
        self.rows += 1
        return Row(x, y if self.rows > self.horizon else None, 1.0, reset)

    def _pass(self, row: Row) -> Row:
        """One of the rows that fill a gap, or the one behind them."""
        self.filled = bool(self._waiting)
        self.inserted += self.filled
        self.rows += 1
        return row if self.rows > self.horizon else row._replace(y=None)

    def _known(self, x: np.ndarray) -> np.ndarray:
        """A row with the last known values in place of those that are missing, if so wished."""
        held = x if self._held is None else np.where(np.isfinite(x), x, self._held)
        self._held = held
        return held if self._hold else x

    def _fill(self, missing: int, held: np.ndarray) -> Iterator[Row]:
        """Rows that pass the time of a gap: the last known values, and no target."""
        nothing = np.full(self.out_size, np.nan)
        first = self.in_size - len(self._encode.waves) - self.plan.elapsed
        usual, now = self._encode.clock.usual, self._encode.clock.last
        for step in range(min(missing, FILLED), 0, -1):
            x = held.copy()
            waves = self._encode.waves_at(now - step * usual)
            x[first : first + len(waves)] = waves
            yield Row(x, nothing)

    def arrays(self) -> Stream:
        """All rows from here to the end: ys[t] is the target of xs[t], `horizon` rows later.

        The last `horizon` rows are no xs, as their targets are not known. Raises `ValueError` where
        there are too few rows, or where gaps begin the memory anew, which arrays cannot say.
        """
        require(self._gaps != "reset", "gaps", "'hold' or 'fill' for arrays", self._gaps)
        given = list(self)
        bad = next((p for p in self.problems if not p.kept), None)
        found = f"{len(given)} rows, {self.skipped} left out" + (f" (first {bad})" if bad else "")
        require(len(given) > self.horizon, "source", f"more than {self.horizon} rows", found)
        xs = np.array([row.x for row in given[: len(given) - self.horizon]])
        ys = np.array([row.y for row in given[self.horizon :]])
        return Stream(xs, ys)

    def decisions(self) -> dict[str, Any]:
        """All that was decided, for JSON; `read` takes it back as ``decided``."""
        plan = self.plan
        return {
            **plan._asdict(),
            "columns": [list(column) for column in plan.columns],
            "gaps": sorted(plan.gaps),
        }

    def memory(self) -> dict[str, Any]:
        """What has come of the rows so far, for JSON; `recall` takes it back."""
        return {
            "rows": self.rows,
            "inserted": self.inserted,
            "held": _texts(self._held),
            "waiting": [[_texts(row.x), _texts(row.y)] for row in self._waiting],
            "encoder": self._encode.memory(),
        }

    def recall(self, memory: dict[str, Any]) -> None:
        """Go on where another table stopped, whose rows are not read again."""
        self._encode.recall(memory["encoder"])
        self.rows, self.inserted = memory["rows"], memory["inserted"]
        self._held = None if memory["held"] is None else np.array(memory["held"], float)
        waiting = (np.array(part, float) for row in memory["waiting"] for part in row)
        self._waiting.extend(Row(x, y) for x, y in zip(waiting, waiting, strict=True))

    def values(self, name: str) -> list[str]:
        """The values of a class or a boolean that are known so far, in the order of its numbers."""
        column = next(c for c in self.columns if c.name == name)
        reader = self._encode.classes.get(column.number)
        return list(column.values if reader is None else reader.known)

    def others(self) -> dict[str, dict[str, int]]:
        """Values of classes that were not known, by column, with how often they came."""
        found = {n: r.others for n, r in self._encode.classes.items() if r.others}
        return {self.columns[n].name: dict(others) for n, others in found.items()}

    def close(self) -> None:
        """Close the file if it was opened here; asking for more rows then ends the stream."""
        self._text.close()
        self._open = False
        self._waiting.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_text"):
            self._text.close()

    def _report(self, problem: Problem) -> None:
        if problem.kept:
            self.remarked += 1
        else:
            self.skipped += 1
        if len(self.problems) < KEPT_PROBLEMS:
            self.problems.append(problem)
        if self._on_problem is not None:
            self._on_problem(problem)


def _texts(values: np.ndarray | None) -> list[str] | None:
    return None if values is None else list(map(repr, values.tolist()))
