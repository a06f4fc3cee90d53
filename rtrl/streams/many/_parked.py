"""What streams remember while they have no slot: records of one size in a file on disk."""

import json
import os
import zlib
from collections.abc import Hashable, Sequence

import numpy as np

FIRST = 64  # records that a file begins with; it doubles when they are taken


class Parked:
    """Rows of memory on disk, by the name of their stream; they come back bit for bit.

    A record that the last save refers to is not written over before the next save: whenever a
    process is killed, that save finds what it left. The file is mapped, so that only what is read
    or written is in memory.

    Args:
        path: of the file; an existing one is gone on with.
        rows: one row of every array, for shapes and dtypes.
        records: which record every stream has, from the last save.
    """

    def __init__(self, path: str, rows: Sequence[np.ndarray], records: dict[Hashable, int]):
        self.path = path
        fields = [(f"{i}", a.dtype, a.shape) for i, a in enumerate(rows)]
        self._fields = len(fields)
        self.dtype = np.dtype([("crc", np.uint32), *fields])
        self.records = dict(records)
        self._saved = set(records.values())
        self._file = self._map()
        self._free = [i for i in range(len(self._file))[::-1] if i not in self._saved]

    def __contains__(self, name: Hashable) -> bool:
        return name in self.records

    def put(self, names: Sequence[Hashable], rows: Sequence[np.ndarray]) -> None:
        """Write one row of every array for every name."""
        while len(self._free) < len(names):
            self._grow()
        places = [self._free.pop() for _ in names]
        block = np.zeros(len(names), self.dtype)
        for i, a in enumerate(rows):
            block[f"{i}"] = a[: len(names)]
        for name, record in zip(names, block, strict=True):
            record["crc"] = _crc(name, record)
        self._file[places] = block
        self.records.update(zip(names, places, strict=True))

    def take(self, names: Sequence[Hashable]) -> list[np.ndarray]:
        """The rows of these names, one array for each of those put in; they are no longer here.

        Raises:
            ValueError: a record is not what was written for that name.
        """
        block = np.asarray(self._file[[self.records[name] for name in names]])
        for name, record in zip(names, block, strict=True):
            if record["crc"] != _crc(name, record):
                raise ValueError(f"{self.path}: what stream {name!r} had remembered is damaged")
        for name in names:
            self.drop(name)
        return [block[f"{i}"] for i in range(self._fields)]

    def drop(self, name: Hashable) -> None:
        """Forget what a stream had here, if anything."""
        place = self.records.pop(name, None)
        if place is not None and place not in self._saved:
            self._free.append(place)

    def flush(self) -> None:
        """Have everything on disk."""
        self._file.flush()

    def saving(self) -> None:
        """What is here now is about to be saved: it stays as well, whether that succeeds or not."""
        self._saved = self._saved | set(self.records.values())

    def saved(self) -> None:
        """What is here now has been saved: what the save before needed may be written over."""
        now = set(self.records.values())
        free = self._saved - now
        # In this order: what is interrupted here leaves a record unused, and never one twice free.
        self._saved = now
        self._free += free

    def _map(self) -> np.memmap:
        size = os.path.getsize(self.path) if os.path.exists(self.path) else 0
        count = max(size // self.dtype.itemsize, FIRST)
        _make_room(self.path, count * self.dtype.itemsize)
        return np.memmap(self.path, self.dtype, "r+", shape=(count,))

    def _grow(self) -> None:
        count = len(self._file)
        self._file.flush()
        _make_room(self.path, 2 * count * self.dtype.itemsize)
        self._file = self._map()
        self._free = [*range(2 * count)[: count - 1 : -1], *self._free]


def _make_room(path: str, size: int) -> None:
    """Take the space now: to write to a map of a file for which there is none ends a process."""
    with open(path, "ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _crc(name: Hashable, record: np.void) -> int:
    """Of a record and whose it is: that of another stream is as wrong as a damaged one."""
    whose = json.dumps(int(name) if isinstance(name, int) else name)  # True is 1, as in a dict
    return zlib.crc32(record.tobytes()[4:], zlib.crc32(whose.encode()))
