"""Compressed files, unpacked as they come; and files that are no tables of text at all."""

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from rtrl.validate import require

#: First bytes of a file, and what makes an unpacker of one part of it.
PACKED: dict[bytes, tuple[str, Callable[[], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda: zlib.decompressobj(31)),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMADecompressor),
    b"\x28\xb5\x2f\xfd": ("zstd", lambda: _zstd()),
}

#: First bytes of what is no text, and what to do with it.
OTHER = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV",
    b"\x89HDF": "an HDF5 file: write the table as CSV or Parquet",
    b"CDF": "a NetCDF file: write the table as CSV or Parquet",
    b"SQLite format 3": "a SQLite database: write the table as CSV",
    b"\x93NUMPY": "a NumPy file: give its rows from Python",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"ARROW1": "an Arrow file: write the table as Parquet or CSV",
    b"<!DOCTYPE": "a web page, no file of data",
    b"<!doctype": "a web page, no file of data",
    b"<html": "a web page, no file of data",
    b"<?xml": "an XML document: write the table as CSV",
    b"version https://git-lfs": "the place of a file that Git LFS has not fetched (git lfs pull)",
    b"ORC": "an ORC file: write the table as Parquet or CSV",
}

PIECE = 64  # bytes unpacked at once: so many are lost in front of a damage
FAULTS = (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError)


class Unpacker:
    """Bytes of an archive in, bytes of its content out; archives behind each other are one."""

    def __init__(self, name: str, make: Callable[[], Any]):
        self.name = name
        self._make = make
        self._part = make()
        self._begun = False  # whether the part holds anything yet

    def __call__(self, data: bytes, final: bool) -> tuple[bytes, str]:
        """What comes out, and what is wrong with the archive, empty if nothing is."""
        out, at = [], 0
        try:
            while at < len(data):
                self._begun = True
                piece = data[at : at + PIECE]
                out.append(self._part.decompress(piece))
                at += len(piece)
                if self._part.eof:
                    at -= len(self._part.unused_data)
                    self._part, self._begun = self._make(), False
                    if not data[at:].strip(b"\0"):
                        break  # padding
        except FAULTS as error:
            return b"".join(out), f"the {self.name} archive is damaged ({error})"
        except Exception as error:  # of the zstandard package
            return b"".join(out), f"the {self.name} archive is damaged ({error})"
        cut = final and self._begun
        return b"".join(out), f"the {self.name} archive ends too early" if cut else ""


def unpacker_of(head: bytes) -> Unpacker | None:
    """What unpacks a file that begins so; refuses what is no text."""
    for magic, what in OTHER.items():
        require(not head.startswith(magic), "source", "a table of text", what)
    for magic, (name, make) in PACKED.items():
        if head.startswith(magic):
            return Unpacker(name, make)
    return None


def _zstd() -> Any:
    for module, make in (("compression.zstd", "ZstdDecompressor"), ("zstandard", "")):
        try:
            library = importlib.import_module(module)
        except ImportError:
            continue
        return getattr(library, make)() if make else library.ZstdDecompressor().decompressobj()
    raise ValueError(
        "source: expected the package that unpacks .zst (pip install 'rtrl[tables]'), got none."
    )
