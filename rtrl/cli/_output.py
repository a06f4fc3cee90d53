"""Where the predictions of a stream go: standard output, or a file that has every row once."""

import contextlib
import csv
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from rtrl.cli._errors import UsageError, refuse
from rtrl.cli._report import note


class Output:
    """Lines at once, to standard output (None) or a file.

    The file is on the disk (`settle`) before a state that knows of its rows is saved, so whatever
    ends a run leaves it at or ahead of the state. A run that goes on cuts off what is ahead.
    """

    def __init__(self, path: Path | None, *, go_on: bool):
        self.path = path
        self._file = sys.stdout
        if path is None:
            return
        if path.exists() and not path.is_file():
            refuse("--to", "a file", f"{path}, which is none")
        if not go_on:
            if path.exists() and path.stat().st_size:
                raise UsageError(
                    f"--to: {path} is there and not empty; go on with --resume, or give another "
                    "file."
                )
            self._open(path)

    def _open(self, path: Path) -> None:
        with _naming(path):
            self._file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115

    def write(self, lines: list[list]) -> None:
        """Lines that a reader has at once; `UsageError` if a file can't take them."""
        with _naming(self.path):
            self._file.write(_text(lines))
            self._file.flush()

    def settle(self) -> None:
        """Wait until the lines, and the file's name, would survive a power cut."""
        if self.path is None:
            return
        with _naming(self.path):
            os.fsync(self._file.fileno())
        with contextlib.suppress(OSError):  # where folders can't be opened they need no fsync
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def go_on(self, header: list[str], row: int) -> None:
        """Go on after ``row``, the last that the saved state knows of; a file loses all later ones.

        Raises `UsageError` where the file is of another stream or has fewer rows than that.
        """
        if self.path is None:
            return
        end, more = _end(self.path, _text([header]).encode(), row)
        self._open(self.path)
        with _naming(self.path):
            os.ftruncate(self._file.fileno(), end)
        if more:
            note(
                f"rtrl: {self.path} goes on after row {row:,}, with which the state was saved; "
                f"later rows cut off: {more:,}"
            )
        if end == 0:
            self.write([header])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not sys.stdout:
            with contextlib.suppress(OSError):  # of a full disk has been told
                self._file.close()


def _end(path: Path, header: bytes, row: int) -> tuple[int, int]:
    """The byte behind a row of a file, 0 if there is no header yet; and how many rows follow."""
    end = found = 0
    more = 0
    if path.exists():
        with _naming(path), open(path, "rb") as file:
            first = file.read(len(header))
            if not header.startswith(first):
                names = header.decode().strip()
                raise UsageError(f"--to: {path} is of another stream: it begins not with {names}.")
            end = len(header) if first == header else 0
            while found < row:
                line = file.readline()
                if not (line.startswith(b"%d," % (found + 1)) and line.endswith(b"\n")):
                    break
                found, end = found + 1, end + len(line)
            more = sum(1 for _ in file)
    if found < row:
        raise UsageError(
            f"--to: {path} has {found:,} whole rows in order, but the state to resume was saved "
            f"after row {row:,}: rows are lost, or it is the file of another run."
        )
    return end, more


def _text(lines: list[list]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


@contextlib.contextmanager
def _naming(path: Path | None) -> Iterator[None]:
    """A file that can't be written is a mistake of the user; standard output has its own ways."""
    try:
        yield
    except OSError as error:
        if path is None:
            raise
        raise UsageError(f"--to: can't write {path}: {error.strerror}.") from error
