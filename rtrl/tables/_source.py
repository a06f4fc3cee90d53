"""From bytes to lines: files, pipes, archives and encodings; what is there, and what is awaited."""

import io
import math
import os
import re
import select
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from rtrl.tables._archives import Unpacker, unpacker_of
from rtrl.tables._encoding import Decoder
from rtrl.validate import require

CHUNK = 1 << 16
GRACE = 0.5  # seconds in which what a pipe or an iterator already holds may come in, once

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)")


class Patience:
    """Whether to ask a source for more that cannot say whether there is more.

    All of a list is there. An iterator is asked for half a second from its first item on: a live
    one is late by an item at most, once. Where the user says how many rows to look at, none is
    asked for besides those.
    """

    def __init__(self, there: bool, look: int | None):
        self._seconds = math.inf if there else GRACE if look is None else 0.0
        self._until = math.nan

    def __call__(self) -> bool:
        now = time.monotonic()
        if math.isnan(self._until):
            self._until = now + self._seconds
        return now < self._until


class ByteLines:
    """The lines of a file or of a pipe, as text, their ends kept.

    Attributes:
        encoding: as given or found so far.
        archive: the name of the compression, empty if there is none.
        fault: why reading ended early (a damaged archive), empty if all is well.
    """

    def __init__(self, file: IO[bytes], encoding: str | None, live: bool):
        self._file = file
        self.live = live
        self._text = ""
        self._lines: deque[str] = deque()
        self.fault = ""
        head = self._first_bytes()
        self._unpack: Unpacker | None = unpacker_of(head)
        self.archive = self._unpack.name if self._unpack else ""
        self._decoder = Decoder(encoding)
        self._take(head)

    @property
    def encoding(self) -> str:
        return self._decoder.encoding

    def _first_bytes(self) -> bytes:
        """What is there within a moment of the first bytes; of a file all that is wanted."""
        head, until = self._read(), time.monotonic() + GRACE
        while not self._ended and len(head) < CHUNK and (left := until - time.monotonic()) > 0:
            if not _readable(self._file, left):
                break
            head += self._read()
        return head

    def _read(self) -> bytes:
        read: Callable[[int], bytes] = getattr(self._file, "read1", self._file.read)
        data = read(CHUNK)
        self._ended = not data
        return data

    def _take(self, data: bytes) -> None:
        """Turn bytes into lines; no bytes: the end."""
        final = self._ended
        if self._unpack is not None:
            data, self.fault = self._unpack(data, final)
            final = final or bool(self.fault)
        text = self._text + self._decoder(data, final)
        if "\r" not in text:
            *lines, self._text = text.split("\n")
            self._lines.extend([line + "\n" for line in lines])
        else:
            whole = _LINE.findall(text, 0, len(text) - text.endswith("\r"))  # \n may follow
            self._lines.extend(whole)
            self._text = text[sum(map(len, whole)) :]
        if final:
            self._ended = True
            self._lines.append(self._text)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not self._lines:
            if self._ended:
                raise StopIteration
            self._take(self._read())
        return self._lines.popleft()

    def ready(self) -> bool:
        """Whether the next line can be had without waiting for someone to write it."""
        while not self._lines and not self._ended:
            if self.live and not _readable(self._file, 0):
                return False
            self._take(self._read())
        return bool(self._lines)

    def close(self) -> None:
        if self._file is not getattr(sys.stdin, "buffer", None):
            self._file.close()


def _readable(file: IO[bytes], seconds: float) -> bool:
    try:
        return bool(select.select([file], [], [], seconds)[0])
    except (OSError, ValueError, io.UnsupportedOperation):  # no pipe that could be asked
        return False


class GivenLines:
    """Lines that a program gives: those of a list are there, an iterator may still be waiting."""

    encoding, archive, fault = "", "", ""

    def __init__(self, lines: Iterable[str], look: int | None):
        there = isinstance(lines, (list, tuple, io.StringIO)) or _is_regular(lines)
        self.live = not there
        self._patient = Patience(there, look)
        self._lines = iter(lines)
        self._next: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._next.pop() if self._next else next(self._lines)
        require(isinstance(line, str), "source", "lines of text", line)
        return line

    def ready(self) -> bool:
        if not self._next and self._patient():
            self._next = [line for line in [next(self._lines, None)] if line is not None]
        return bool(self._next)

    def close(self) -> None:
        pass


def open_lines(source: Any, encoding: str | None, look: int | None) -> ByteLines | GivenLines:
    """The lines of a path, of "-" for standard input, of an open file, or of any lines."""
    if isinstance(source, str) and source == "-":
        bytes_of = getattr(sys.stdin, "buffer", None)
        if bytes_of is None:  # a program has put a text in its place
            return GivenLines(sys.stdin, look)
        return ByteLines(bytes_of, encoding, live=not _is_regular(bytes_of))
    if isinstance(source, (str, Path)):
        file = open(source, "rb")
        try:
            return ByteLines(file, encoding, live=not _is_regular(file))
        except BaseException:
            file.close()
            raise
    readable = isinstance(source, (io.RawIOBase, io.BufferedIOBase))
    if readable:
        return ByteLines(source, encoding, live=not _is_regular(source))  # type: ignore[arg-type]
    lines = isinstance(source, Iterable) and not isinstance(source, (bytes, dict))
    require(lines, "source", 'a path, "-", an open file, lines, dicts or a frame', type(source))
    return GivenLines(source, look)


def _is_regular(file: Any) -> bool:
    """Whether all of a file is there: no pipe, no terminal."""
    try:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except (OSError, ValueError, AttributeError, io.UnsupportedOperation):
        return isinstance(file, io.BytesIO)
