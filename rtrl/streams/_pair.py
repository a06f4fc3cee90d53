"""Numbers of about 48 bits as pairs of float32: raw data where there is no float64."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rtrl.validate import require

LARGEST = 1e18

Pairs = Float[Array, "*shape 2"]


def split(values: np.ndarray) -> np.ndarray:
    """Give float64 numbers as the float32 nearest to them, and what that leaves.

    ::

        values = pair[..., 0] + pair[..., 1]    to a relative 2^-48

    What is not finite, or beyond 1e18, whose square float32 can't hold, becomes NaN: missing.

    Args:
        values: float64 of any shape.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        high = values.astype(np.float32)
        low = (values - high).astype(np.float32)
    pair = np.stack([high, low], -1)
    pair[~(np.abs(high) <= LARGEST)] = np.nan
    return pair


def join(pair: np.ndarray) -> np.ndarray:
    """Give pairs as float64 again."""
    return pair[..., 0].astype(np.float64) + pair[..., 1]


def minus(a: Pairs, b: Pairs) -> Float[Array, "*shape"]:
    """a - b as one float32: exact to rounding where both are large and close to each other."""
    return (a[..., 0] - b[..., 0]) + (a[..., 1] - b[..., 1])


def plus(a: Pairs, step: Float[Array, "*shape"]) -> Pairs:
    """a + step, as a pair.

    Source: Knuth, "The Art of Computer Programming", volume 2, 4.2.2, theorem B (two sums).
    """
    high, low = _two_sum(a[..., 0], step)
    return jnp.stack(_two_sum(high, low + a[..., 1]), -1)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def as_pair(value: Float[Array, "*shape"]) -> Pairs:
    """A float32 as a pair."""
    return jnp.stack([value, jnp.zeros_like(value)], -1)


def as_numbers(value: Any, argument: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """As float64: raw units may not fit the device's precision."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument}: expected numbers, got {value!r}.") from error
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    expected = ", ".join("time" if size is None else str(size) for size in shape)
    require(fits, argument, f"an array ({expected})", array.shape)
    return array
