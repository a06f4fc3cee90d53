"""What the columns were taken for, as a table for the eye."""

from rtrl.tables._cells import names_of
from rtrl.tables._column import Column
from rtrl.tables._table import Table

MARKS = {",": "decimal comma"}
THOUSANDS = {",": "1,000", ".": "1.000", " ": "1 000", "'": "1'000"}
HEADINGS = ("column", "taken as", "used as", "missing", "example")


def describe(table: Table) -> list[tuple[str, str, str, str, str]]:
    """A row for every column: its name, what it was taken for, how it is used, how missing values
    are written, and an example. `HEADINGS` stand above them."""
    return [
        (
            _short(column.name, 24) or "(no name)",
            _taken(column),
            _used(table, column),
            " ".join("(empty)" if not text else _short(text, 12) for text in column.missing),
            _short(column.example, 24),
        )
        for column in table.columns
    ]


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _taken(column: Column) -> str:
    kind, more = column.kind, []
    if kind == "class":
        kind = f"class of {len(column.values)}"
    elif kind == "boolean":
        kind = f"boolean ({'/'.join(reversed(column.values))})"
    elif kind == "time":
        more = [column.way[0].replace("-", " ")] if column.way[0] != "number" else []
    elif column.way and kind not in ("constant", "empty"):
        decimal, thousands, unit = column.way
        more = [MARKS[decimal]] if decimal in MARKS else []
        more += [f"thousands as {THOUSANDS[thousands]}"] if thousands else []
        more += ["in k, M, ..."] if unit == "*" else [f"in {unit}"] if unit else []
    return ", ".join([kind, *more, *([column.note] if column.note else [])])


def _used(table: Table, column: Column) -> str:
    count = len(names_of(column))
    several = f" ({count} numbers)" if count > 1 else ""
    if column.role == "both":
        return f"target, feature{several}"
    if column.role in ("target", "feature"):
        return column.role + several
    if column.role == "time":
        more = [name for name, _ in table.plan.cycles] + ["elapsed"] * table.plan.elapsed
        return "time" + (f" ({', '.join(more)})" if more else "")
    return "left out"
