"""A state that several processes save together: a part each, and a manifest that makes them one.

The manifest is the file at the path, a small JSON text that names the parts beside it; a part is an
archive as `_archive` describes. The manifest takes its place when all parts are there, whole, and
the parts of the set before go after that: whenever a process is killed, the path holds the set
before or the new one. Names of parts hold the number of their save: none writes into another's.

Why not orbax: told to overwrite (``force=True``) it removes the old folder before it writes the new
one (0.12.8), so that a kill in between leaves neither; it takes three times as long to save and as
long to load (``bench/results/against_orbax.json``), and brings thirty packages.
"""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from rtrl.learners import _archive
from rtrl.learners._archive import Leaf, Piece
from rtrl.learners._processes import together
from rtrl.learners._replace_file import replacing

MANIFEST = "rtrl-manifest"


def spread_over_processes(leaves: list[Any]) -> bool:
    return any(isinstance(a, jax.Array) and not a.is_fully_addressable for a in leaves)


def save_parts(path: str, leaves: list[tuple[str, Any]]) -> None:
    """Save together; every process returns when the set is there, or raises when it is not."""
    with together():
        number = int(multihost_utils.broadcast_one_to_all(np.uint32(secrets.randbits(32))))
    process, count = jax.process_index(), jax.process_count()
    _together(path, lambda: write_part(path, number, process, leaves))
    if process == 0:
        _together(path, lambda: write_manifest(path, number, count, leaves))
        with contextlib.suppress(OSError):  # the set is in place, whole, whatever fails here
            remove_parts(path, number)
    else:
        _together(path, lambda: None)


def _together(path: str, act: Callable[[], None]) -> None:
    """Do something in every process; if it fails in one, it has failed in all."""
    error = None
    try:
        act()
    except Exception as failure:  # the others wait for this one, whatever it is
        error = failure
    with together():
        failed = multihost_utils.process_allgather(np.bool_(error is not None))
    if error is not None:
        raise error
    if np.any(failed):
        raise OSError(f"{path}: another process could not save its part; the last set stays")


def write_part(
    path: str,
    number: int,
    process: int,
    leaves: list[tuple[str, Any]],
    mine: Callable[[Any], bool] = lambda shard: True,
) -> None:
    """Write what this process has of an array, each number once over all processes.

    Args:
        number: of the save, the same for all processes.
        mine: whether a shard that this process has is to be taken for its own.
    """
    pieces = []
    for i, (_, leaf) in enumerate(leaves):
        data = _archive.data_of(leaf)
        if isinstance(data, jax.Array):
            for shard in data.addressable_shards:
                if shard.replica_id == 0 and mine(shard):
                    start = [s.start or 0 for s in shard.index]
                    pieces.append((Piece(i, tuple(start), shard.data.shape), shard.data))
        elif process == 0:
            pieces.append((Piece(i, (0,) * data.ndim, data.shape), data))
    with replacing(_part(path, number, process)) as file:
        described = [_archive.describe(*leaf) for leaf in leaves]
        _archive.write(file, described, pieces, number=number)


def write_manifest(path: str, number: int, count: int, leaves: list[tuple[str, Any]]) -> None:
    """Make the parts of a save, which are all there, the set at the path."""
    parts = [os.path.basename(_part(path, number, p)) for p in range(count)]
    described = [_archive.describe(*leaf) for leaf in leaves]
    header = _archive.header(MANIFEST, described, number=number, parts=parts)
    with replacing(path) as file:
        file.write(json.dumps(header, indent=1).encode())


def remove_parts(path: str, number: int | None) -> None:
    """Remove the parts of other saves to this path than ``number``."""
    folder, name = os.path.split(os.path.realpath(path))
    pattern = re.compile(re.escape(name) + r"-([0-9a-f]{8})-\d{5}\.part")
    for entry in os.listdir(folder):
        match = pattern.fullmatch(entry)
        if match and (number is None or int(match[1], 16) != number):
            os.unlink(os.path.join(folder, entry))


def _part(path: str, number: int, process: int) -> str:
    return f"{os.path.realpath(path)}-{number:08x}-{process:05d}.part"


def read_manifest(path: str) -> dict[str, Any] | None:
    """The manifest at a path, ``None`` if the file there is none."""
    with open(path, "rb") as file:
        if file.read(1) != b"{":
            return None
        file.seek(0)
        try:
            header = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is truncated or damaged: {error}") from error
    return header if header.get("format") == MANIFEST else None


class Parts:
    """The arrays of a set, read by regions."""

    def __init__(self, path: str, header: dict[str, Any], leaves: list[Leaf]):
        folder = os.path.dirname(os.path.realpath(path))
        self.leaves = leaves
        self.archives = []
        self.pieces: list[list[tuple[Any, Piece, int]]] = [[] for _ in leaves]
        for name in header["parts"]:
            archive = _archive.Archive(os.path.join(folder, name))
            self.archives.append(archive)
            if archive.header.get("number") != header["number"]:
                raise ValueError(f"{name} is of another save than the manifest")
            for member, piece in enumerate(archive.pieces):
                self.pieces[piece.leaf].append((archive, piece, member))
        for leaf, pieces in zip(leaves, self.pieces, strict=True):
            missing = leaf.size - sum(piece.size for _, piece, _ in pieces)
            if leaf.key_impl is None and missing:
                raise ValueError(f"{missing} numbers of {leaf} are in no part")

    def region(self, number: int, index: tuple[slice, ...]) -> np.ndarray:
        """A region of an array, put together from the pieces that overlap it."""
        leaf = self.leaves[number]
        pieces = self.pieces[number]
        if leaf.key_impl is not None:
            archive, _, member = pieces[0]
            return archive.read(member, leaf)
        spans = [s.indices(n)[:2] for s, n in zip(index, leaf.shape, strict=True)]
        out: Any = None
        for archive, piece, member in pieces:
            ends = [a + n for a, n in zip(piece.start, piece.shape, strict=True)]
            both = [
                (max(a, start), min(b, end))
                for (a, b), start, end in zip(spans, piece.start, ends, strict=True)
            ]
            if any(a >= b for a, b in both):
                if leaf.shape:
                    continue
            found = archive.read(member, leaf, piece.shape)
            if out is None:
                out = np.empty([b - a for a, b in spans], found.dtype)
            to = tuple(slice(a - s, b - s) for (a, b), (s, _) in zip(both, spans, strict=True))
            of = tuple(slice(a - s, b - s) for (a, b), s in zip(both, piece.start, strict=True))
            out[to] = found[of]
        if out is None:
            out = np.empty([b - a for a, b in spans], leaf.dtype)
        return out

    def close(self) -> None:
        for archive in self.archives:
            archive.close()
