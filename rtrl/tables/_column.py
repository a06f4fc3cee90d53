"""A column of a table, and what it was taken for."""

from typing import NamedTuple

#: What a column can be taken for; each can be asked for with `--as COLUMN=KIND`.
KINDS = ("number", "percentage", "money", "boolean", "class", "time", "counter", "text")

#: What a column is only ever found to be.
FOUND = ("constant", "empty")


class Column(NamedTuple):
    """What a column is, decided once. All of it can be written as JSON.

    Attributes:
        number: from 0, in the order of the file.
        name: as in the header; "column 3" where there is none.
        kind: one of `KINDS` or `FOUND`.
        role: "feature", "target", "both", "time" or "out".
        way: how it is written: decimal mark, thousands mark and unit of a number, the way of a
            time.
        values: of a class or a boolean; a class without all its values yet has room for more.
        room: how many values a class may have.
        missing: how its missing values were written so far.
        gap: a number that stands for a missing value, such as -999.
        scaled: whether its numbers are on a scale of their own already (0 and 1), and must not be
            standardised: an event of one row in a hundred would be ten deviations.
        example: a field as it is written.
        note: what a reader should know of the decision.
    """

    number: int
    name: str
    kind: str
    role: str = "out"
    way: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    room: int = 0
    missing: tuple[str, ...] = ()
    gap: float | None = None
    scaled: bool = False
    example: str = ""
    note: str = ""

    @property
    def numeric(self) -> bool:
        return self.kind in ("number", "percentage", "money", "counter", "constant")


def as_columns(kept: list) -> list[Column]:
    """Columns from what JSON makes of them."""
    tuples = ("way", "values", "missing")
    columns = [Column(*fields) for fields in kept]
    return [c._replace(**{name: tuple(getattr(c, name)) for name in tuples}) for c in columns]
