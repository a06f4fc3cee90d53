"""Arrays that are kept in fewer bits than they are computed in, rounded at random.

::

    bfloat16:  the upper 16 bits of a float32, after r is added to all 32
    int8:      floor(a / scale + r / 2^16),   scale = max |a| / 127 over a row

with r a random number of 16 bits. The mean of what is kept is ``a``: of many steps too small for
the bits that there are, a few are taken whole. Rounding to nearest would lose every one of them.

The random numbers are a hash of counters: of timestep t, array n and place i in it::

    r(t, n, i) = mix(i + mix(t + n 0x9e3779b9))

so they need no state, a resumed run draws the same ones, and any machine with multiplications of 32
bits does. A complex array takes the lower half of the 32 bits for its real part, the upper half for
the other.

Source: Wellons, "Prospecting for hash functions" (2018), lowbias32, for ``mix``; Gupta et al.,
"Deep learning with limited numerical precision" (2015), for learning with stochastic rounding.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, UInt32

WIDTHS = ("float32", "bfloat16", "int8")
_GOLDEN = np.uint32(0x9E3779B9)
_LARGEST = 127  # that int8 holds, with either sign


class Narrow(eqx.Module):
    """An array in fewer bits.

    Attributes:
        real: its numbers, bfloat16, or int8 in units of ``scale``.
        imag: of a complex array the imaginary parts alike, else ``None``.
        scale: of every row (the last axis), with that axis of length 1; ``None`` for bfloat16.
    """

    real: Array
    imag: Array | None
    scale: Float32[Array, "*rows 1"] | None


def is_narrow(node: Any) -> bool:
    return isinstance(node, Narrow)


def widen(tree: Any) -> Any:
    """The arrays of a tree in float32 (complex64); a tree without narrow ones as it is."""
    return jax.tree.map(lambda a: _wide(a) if is_narrow(a) else a, tree, is_leaf=is_narrow)


def _wide(a: Narrow) -> Array:
    real, imag = (None if p is None else p.astype(jnp.float32) for p in (a.real, a.imag))
    if a.scale is not None:
        real, imag = (None if p is None else p * a.scale for p in (real, imag))
    return real if imag is None else jax.lax.complex(real, imag)  # type: ignore[return-value]


def can_narrow(a: Any, dtype: str) -> bool:
    """Whether an array takes less memory so: a row of one number would need a scale for itself."""
    if dtype == "float32" or not eqx.is_inexact_array(a) or a.ndim == 0:
        return False
    return dtype == "bfloat16" or (a.ndim > 1 and a.shape[-1] > 1)


def narrow(a: Array, dtype: str, time: UInt32[Array, ""], number: int) -> Narrow:
    """An array in fewer bits.

    Args:
        a: float32 or complex64.
        dtype: ``"bfloat16"`` or ``"int8"``.
        time: changes with every rounding.
        number: of the array among those rounded at a time.
    """
    assert a.dtype in (jnp.float32, jnp.complex64), a.dtype
    words = random_words(a.shape, time, number)
    parts = [a] if jnp.isrealobj(a) else [jnp.real(a), jnp.imag(a)]
    noise = [words & np.uint32(0xFFFF), words >> np.uint32(16)]
    if dtype == "bfloat16":
        kept = [_to_bfloat16(p, r) for p, r in zip(parts, noise, strict=False)]
        return Narrow(kept[0], kept[1] if len(kept) > 1 else None, None)
    largest = [jnp.abs(p).max(-1, keepdims=True) for p in parts]
    # A product, which compilers leave as it is: they may turn a quotient into one.
    scale = functools.reduce(jnp.maximum, largest) * np.float32(1 / _LARGEST)
    kept = [_units(p, r, scale).astype(jnp.int8) for p, r in zip(parts, noise, strict=False)]
    return Narrow(kept[0], kept[1] if len(kept) > 1 else None, scale)


def _to_bfloat16(a: Float32[Array, "*n"], noise: UInt32[Array, "*n"]) -> Array:
    bits = jax.lax.bitcast_convert_type(a, jnp.uint32)
    # A NaN whose bits are all ones would become zero.
    bits = bits + jnp.where(jnp.isfinite(a), noise, 0)
    return jax.lax.bitcast_convert_type((bits >> np.uint32(16)).astype(jnp.uint16), jnp.bfloat16)


def _units(
    a: Float32[Array, "*n"], noise: UInt32[Array, "*n"], scale: Float32[Array, "*rows 1"]
) -> Float32[Array, "*n"]:
    """Whole numbers that int8 holds: what else becomes of it is another thing in C."""
    # Of a row that is not finite the scale tells; one whose inverse would not be is rounded to 0.
    usable = (scale >= np.float32(2**-120)) & jnp.isfinite(scale)
    units = a * (1 / jnp.where(usable, scale, 1)) + noise.astype(jnp.float32) * np.float32(2**-16)
    units = jnp.clip(jnp.floor(units), -_LARGEST, _LARGEST)
    return jnp.where(usable, units, 0)


def random_words(
    shape: tuple[int, ...], time: UInt32[Array, ""], number: int
) -> UInt32[Array, "*shape"]:
    """32 random bits for every place of an array."""
    place: Any = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = np.uint32(np.prod(shape[axis + 1 :], dtype=np.uint64))
        place = place + stride * jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    offset = np.uint32((number * int(_GOLDEN)) & 0xFFFFFFFF)
    return _mix(place + _mix(time.astype(jnp.uint32) + offset))


def _mix(x: UInt32[Array, "*n"]) -> UInt32[Array, "*n"]:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
