"""A bar with the live metric and the speed on a terminal, else a line now and then."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Bar:
    """Told how far a run is; shows it where that makes sense."""

    def __init__(self, console: Any, title: str, total: int | None, began: int, unit: str):
        self.console, self.title, self.total, self.unit = console, title, total, unit
        self._began = self._next = began
        self._start = 0.0
        self._first = began
        self._bar: Any = None
        self._task: Any = None

    def update(self, done: int, note: Any) -> None:
        """Say how far it is; ``note`` becomes text only where that is shown."""
        now = time.monotonic()
        if self._start == 0.0:  # the first step compiles
            self._start, self._first = now, done
        shown = self._bar is not None
        if not shown and done < self._next and done != self.total:
            return
        unit = "" if shown else f" {self.unit}"
        text = f"{note}  {self.speed(done):,.0f}{unit}/s" if done > self._first else str(note)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=text)
        else:
            of = "" if self.total is None else f" of {self.total:,}"
            self.console.print(f"{self.title}: {done:,}{of} {self.unit}  {text}", soft_wrap=True)
            tenth = max(1, (self.total or 0) // 10)
            self._next = done // tenth * tenth + tenth if self.total else max(10 * done, 10)

    def speed(self, done: int) -> float:
        """Steps a second, compilation left out."""
        elapsed = time.monotonic() - self._start
        return (done - self._first) / elapsed if self._start and elapsed > 0 else float("nan")


@contextmanager
def progress(
    console: Any, title: str, total: int | None, began: int, unit: str, live: bool = True
) -> Iterator[Bar]:
    """A `Bar`; on a terminal it redraws itself, unless ``live`` is false."""
    bar = Bar(console, title, total, began, unit)
    if not (console.is_terminal and live):
        yield bar
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    note, narrow = TextColumn("{task.fields[note]}"), console.width < 110
    columns = [BarColumn(10 if narrow else 24), MofNCompleteColumn(), note]
    columns += [] if narrow else [Remaining()]
    columns = [TextColumn("{task.description}"), *columns]
    title = title.partition(",")[0] if narrow else title
    with Progress(*columns, console=console) as shown:
        bar._bar = shown
        bar._task = shown.add_task(title, total=total, completed=began, note="compiling")
        yield bar


def output_console() -> Any:
    """Standard output; once its reader has left, nothing is printed any more, nor said about it."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return Output(highlight=False, markup=False)


def error_console() -> Any:
    """Where everything goes that is not a result."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False, markup=False)
