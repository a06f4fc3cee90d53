"""Rounding at random in plain numpy: what `rtrl.engine` has to give, bit for bit."""

from typing import Any

import numpy as np


def mix(x):
    x = np.asarray(x, np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def words(shape, time, number):
    with np.errstate(over="ignore"):
        seed = mix(np.uint32((time + number * 0x9E3779B9) % 2**32))
        return mix(np.arange(int(np.prod(shape)), dtype=np.uint32) + seed).reshape(shape)


def to_bfloat16(a, noise):
    """The bits, as uint16."""
    bits = np.ascontiguousarray(a, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + noise) >> np.uint64(16)).astype(np.uint16)


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def rounded(a: Any, dtype, time, number):
    """An array after it has been kept in fewer bits; and its unit at every place."""
    a = np.asarray(a)
    r = words(a.shape, time, number)
    parts = [a.real, a.imag] if np.iscomplexobj(a) else [a]
    noise = [r & np.uint32(0xFFFF), r >> np.uint32(16)]
    if dtype == "bfloat16":
        kept = [from_bfloat16(to_bfloat16(p, n)) for p, n in zip(parts, noise, strict=False)]
        units = [2.0 ** (np.floor(np.log2(np.maximum(np.abs(p), 1e-38))) - 7) for p in parts]
    else:
        largest = np.max([np.abs(p).max(-1, keepdims=True) for p in parts], 0)
        scale = (largest * np.float32(1 / 127)).astype(np.float32)
        there = scale >= 2.0**-120  # of less the inverse might be infinite
        inverse = np.where(there, 1 / np.where(there, scale, 1), 0).astype(np.float32)
        kept = [
            np.clip(np.floor(p * inverse + n.astype("f4") * np.float32(2**-16)), -127, 127) * scale
            for p, n in zip(parts, noise, strict=False)
        ]
        units = [np.broadcast_to(scale, a.shape)] * 2
    value = kept[0] if len(kept) == 1 else kept[0] + 1j * kept[1]
    return value, np.maximum(units[0], units[-1])
