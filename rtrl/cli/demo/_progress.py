"""A live bar on a terminal; elsewhere lines."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def progress(console: "Console", title: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A live bar on a terminal; elsewhere a line for every tenth of the way."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    note = TextColumn("{task.fields[note]}")
    columns = (TextColumn(title), BarColumn(24), MofNCompleteColumn(), note)
    if console.is_terminal:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total, note="compiling")
            yield lambda done, note: bar.update(task, completed=done, note=note)
        return
    console.print(f"{title}: compiling")
    tenths = 0

    def line(done: int, note: str) -> None:
        nonlocal tenths
        if done * 10 // total > tenths:
            tenths = done * 10 // total
            console.print(f"{title}: {done:,} of {total:,}  {note}")

    yield line
