"""A person's file on the command line: its options, the table of its columns, its odd rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from rtrl.cli._errors import UsageError, refuse
from rtrl.cli._report import note
from rtrl.tables import Problem, Table, describe, read

FIRST = 20  # odd rows that are told one by one

#: Arguments of `rtrl.tables.read`, and the options that set them.
OPTIONS = {
    "features": "--features", "drop": "--drop", "kinds": "--as", "header": "--no-header",
    "encoding": "--encoding", "separator": "--separator", "decimal": "--decimal",
    "missing": "--missing", "time": "--time", "calendar": "--calendar", "elapsed": "--elapsed",
    "gaps": "--gaps", "look": "--look",
}  # fmt: skip


def reading(options: dict[str, Any]) -> dict[str, Any]:
    """What the options of a command say of reading a file, as arguments of `rtrl.tables.read`."""
    found: dict[str, Any] = {name: options.get(name) for name in OPTIONS}
    for name in ("features", "drop"):
        if found[name] is not None:
            found[name] = [column.strip() for column in found[name].split(",")]
    if found["kinds"]:
        found["kinds"] = dict(map(_kind, found["kinds"]))
    if not found["elapsed"]:
        found["elapsed"] = None
    return {name: value for name, value in found.items() if value is not None and value != []}


def _kind(pair: str) -> tuple[str, str]:
    column, equals, kind = pair.rpartition("=")
    if not equals or not column:
        refuse("--as", "COLUMN=KIND, such as weather=class", repr(pair))
    return column.strip(), kind.strip()


@contextmanager
def naming_options(path: str = "FILE") -> Iterator[None]:
    """A file that can't be read is a mistake of the user, named by the option."""
    try:
        yield
    except ValueError as error:
        argument, _, text = str(error).partition(": ")
        option = {"target": "--target", "horizon": "--horizon", **OPTIONS}.get(argument, "FILE")
        raise UsageError(f"{option}: {text}") from error
    except OSError as error:
        raise UsageError(f"FILE: can't read {error.filename or path}: {error.strerror}.") from error
    except (EOFError, ImportError) as error:
        raise UsageError(f"FILE: can't read {path}: {error}.") from error


def refuse_no_target(path: str) -> NoReturn:
    """Say which columns there are to be predicted."""
    with read(path, -1, kinds={-1: "class"}) as table:  # any column can be that
        names = ", ".join(column.name for column in table.columns if column.name)
    raise UsageError(f"--target: name the column to predict: {names}.")


def print_columns(console: Any, table: Table) -> None:
    """What every column was taken for."""
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False)
    for name in ("column", "taken as", "used as", "missing", "example"):
        grid.add_column(name, overflow="fold", no_wrap=name == "column")
    for row in describe(table):
        grid.add_row(*row)
    console.print(grid)
    for remark in table.notes:
        console.print(f"({remark.replace('`look`', '--look')})", soft_wrap=True)


class Reports:
    """Rows that are left out or are odd: the first few one by one, then how many."""

    def __init__(self) -> None:
        self.silent = False
        self._told = 0
        self._more = {True: 0, False: 0}

    def __call__(self, problem: Problem) -> None:
        if self.silent:
            return
        if self._told < FIRST:
            self._told += 1
            note(f"rtrl: {problem} ({'row used' if problem.kept else 'row left out'})")
        else:
            self._more[problem.kept] += 1

    def close(self, table: Table) -> None:
        """Say how many there were besides, and which values of classes were new."""
        for kept, what in ((False, "left out"), (True, "odd but used")):
            if self._more[kept]:
                note(f"rtrl: {self._more[kept]:,} more rows {what}")
        for column, others in table.others().items():
            values = ", ".join(f"{value} ({n:,})" for value, n in list(others.items())[:5])
            note(f"rtrl: values of {column!r} that are other than those known: {values}")
