"""A state as bytes, the same on every machine, and back.

Little endian: ``RTRL``, format version, fingerprint of the layout, bytes of what follows the
header (four numbers of 4 bytes, the first spelling the word), a name of 16 bytes; the arrays in
order, 4 bytes a number, then those of 2 and of 1 up to a multiple of 4, then those of 8; the CRC-32
of all before it.
"""

import struct
import zlib
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rtrl.device._layout import KINDS, fingerprint, members, numbers, padding, size_of, stored
from rtrl.validate import require

VERSION = 1
HEADER = 32
_T = TypeVar("_T")


def pack(state: Any, name: str = "learner") -> bytes:
    """Write a learner's state as ``name_load`` of its exported C reads it.

    Args:
        state: of a learner that can be exported.
        name: kept in the header for the reader; the layout alone decides what fits.

    Returns:
        The bytes: a header, every array in little endian, a checksum.

    Raises:
        ValueError: the state holds an array that has no place on a device.
    """
    layout = members(state)
    parts = [
        np.asarray(value).astype(KINDS[m.dtype][1]).tobytes()
        for m, value in zip(layout, numbers(state, layout), strict=True)
    ]
    parts.insert(sum(not m.wide for m in layout), bytes(padding(layout)))
    body = b"".join(parts)
    label = name.encode()[:15]
    head = struct.pack("<4sIII16s", b"RTRL", VERSION, fingerprint(layout), len(body), label)
    return head + body + struct.pack("<I", zlib.crc32(head + body))


def unpack(data: bytes, like: _T) -> _T:
    """Read a state that ``name_save`` of the exported C, or `pack`, wrote.

    Args:
        data: the bytes.
        like: a state of the same learner, such as a fresh one; keys of random numbers and all that
            is no array come from it.

    Raises:
        ValueError: the bytes are no state, are damaged or of a newer version, or those of another
            learner.
    """
    layout = members(like)
    size = size_of(layout)
    require(data[:4] == b"RTRL" and len(data) >= HEADER + 4, "data", "a packed state",
            bytes(data[:16]))  # fmt: skip
    _, version, found, length = struct.unpack("<4sIII", data[:16])
    require(version <= VERSION, "data", f"a state of version {VERSION} or older", version)
    whole = len(data) == HEADER + length + 4
    intact = whole and struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    require(intact, "data", "a packed state as it was written", "one that is damaged")
    fits = found == fingerprint(layout) and length == size
    require(fits, "data", f"a state of {size} bytes with the layout of `like`",
            f"one of {length} bytes with another layout" if length != size
            else "one with another layout")  # fmt: skip
    values: dict[tuple[int, str], np.ndarray] = {}
    offset = HEADER
    for m in layout:
        offset += -offset % 4 if m.wide else 0
        flat = np.frombuffer(data, KINDS[m.dtype][1], m.size, offset).reshape(m.shape)
        native = flat.astype(flat.dtype.newbyteorder("="))
        bits = m.dtype == "bfloat16"
        values[m.leaf, m.part] = native.view(m.dtype) if bits else native.astype(m.dtype)
        offset += flat.nbytes
    old, structure = jax.tree.flatten(like)
    places = iter(range(len(old)))
    return jax.tree.unflatten(
        structure, [_take(leaf, next(places), values) if stored(leaf) else leaf for leaf in old]
    )


def _take(like: Any, leaf: int, values: dict[tuple[int, str], np.ndarray]) -> Any:
    if jnp.issubdtype(like.dtype, jnp.complexfloating):
        value = np.empty(like.shape, like.dtype)
        value.real, value.imag = values[leaf, "re"], values[leaf, "im"]
    else:
        value = values[leaf, ""]
    if isinstance(like, np.generic):
        return value[()]
    return jnp.asarray(value) if isinstance(like, jax.Array | jax.ShapeDtypeStruct) else value
