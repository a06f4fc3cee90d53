"""A file that takes the place of another, whole or not at all."""

import contextlib
import errno
import os
import platform
import re
import uuid
import zlib
from collections.abc import Iterator
from typing import BinaryIO

_writing: set[str] = set()  # the temporary files that this process is writing now


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends, and vanishes if it fails."""
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "no such folder", folder)
    host = zlib.crc32(platform.node().encode())  # process numbers mean nothing on another host
    prefix = f".{name}.rtrl-{host:08x}-"
    temporary = os.path.join(folder, f"{prefix}{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    _writing.add(temporary)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        _writing.discard(temporary)
    if os.name == "posix":  # Windows cannot open folders, and there os.kill(pid, 0) kills
        with contextlib.suppress(OSError):  # the file is in place, whole, whatever fails here
            _sync_folder(folder)
            _remove_abandoned(folder, prefix)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: str, prefix: str) -> None:
    """Removes the temporary files of processes that were killed while saving to the same path."""
    pattern = re.compile(re.escape(prefix) + r"(\d{1,9})-[0-9a-f]{8}\.tmp")
    for entry in os.listdir(folder):
        match, path = pattern.fullmatch(entry), os.path.join(folder, entry)
        if match and path not in _writing and not _other_process_lives(int(match[1])):
            os.unlink(path)


def _other_process_lives(pid: int) -> bool:
    if pid == os.getpid():  # in containers, a killed process often had the number of the next
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
