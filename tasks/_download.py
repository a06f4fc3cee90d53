"""Files that a task needs: downloaded once and checked, or read from a folder and checked."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from rtrl.validate import require


class Remote(NamedTuple):
    """A file somewhere, and the hash that it must have: "sha256:..." or "md5:..."."""

    url: str
    hash: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def fetch(task: str, remote: Remote, data_dir: str | Path | None) -> Path:
    """The path of the file, its hash checked.

    With `data_dir`, the file in that folder: nothing is downloaded. With None, the copy in the
    user's cache, downloaded with pooch the first time.

    Raises:
        ValueError: the folder or the cache holds no such file, or one with another hash.
        ImportError: pooch is needed and not installed.
        ConnectionError: the download failed.
    """
    if data_dir is not None:
        path = Path(data_dir).expanduser() / remote.name
        is_file = path.is_file()
        require(is_file, "data_dir", f"a folder with the file {remote.name}", str(data_dir))
        check_hash(path, remote.hash, "data_dir")
        return path
    try:
        import pooch
    except ImportError as error:
        message = f"{task}: the download needs pooch, which is not installed: "
        message += 'pip install "rtrl[tasks]", or put the file '
        raise ImportError(f"{message}{remote.name} in a folder and pass data_dir=.") from error
    cache = Path(pooch.os_cache("rtrl"))
    path = cache / remote.name
    if path.exists():
        # pooch would replace the file without a word.
        check_hash(path, remote.hash, "cache", " Delete it to download it again.")
        return path
    try:
        return Path(pooch.retrieve(remote.url, remote.hash, remote.name, cache))
    except OSError as error:  # what requests raises is one
        raise ConnectionError(
            f"{task}: {remote.url} could not be downloaded ({error}). "
            f"Put the file {remote.name} in a folder and pass data_dir=."
        ) from error


def check_hash(path: Path, expected: str, argument: str, hint: str = "") -> None:
    """Refuse a file whose content is not the expected one."""
    algorithm, _, digest = expected.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != digest:
        raise ValueError(
            f"{argument}: expected {path.name} with {algorithm} {digest}, got {found} for {path} "
            f"({path.stat().st_size} bytes): another version, or an incomplete download.{hint}"
        )
