"""One process at a time in the folder of a run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtrl.cli._errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; `UsageError` if another one does.

    The lock is the kernel's (``flock`` of the file ``.lock`` in the folder), so it ends with the
    process, however that ends; the file stays and means nothing by itself. Systems without
    `fcntl` (Windows), and file systems that know no locks, refuse no one.
    """
    try:
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UsageError(f"--out: can't write in {folder}: {error.strerror}.") from error
    try:
        _take(file, folder)
        yield
    finally:
        os.close(file)


def _take(file: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(
            f"--out: another process is at work in {folder}; wait for it, or give another folder."
        ) from error
    except OSError:  # a file system without locks
        return
