"""Rows of a batch: what one stream remembers, taken out of what all do and put back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rtrl.engine import kept_in_place
from rtrl.learners import Jitted


@Jitted
def take_rows(slots: Any, carry: Any) -> Any:
    return jax.tree.map(lambda a: a[slots], carry)


def _put(rows: Any, slots: Any, carry: Any) -> Any:
    # Slots beyond the last are there to fill up a block, and are left out.
    carry = jax.tree.map(lambda a, r: a.at[slots].set(r, mode="drop"), carry, rows)
    return kept_in_place(carry)


put_rows = Jitted(_put, donate_last=True)
put_rows_keeping = Jitted(_put)


def filled_up(slots: Any, size: int, filling: int) -> np.ndarray:
    """Slots as an array of a certain size."""
    out = np.full(size, filling, np.int32)
    out[: len(slots)] = slots
    return out


def block_size(count: int, slots: int) -> int:
    """The size of a block of so many slots: few sizes, as a program is compiled for each."""
    size = 16
    while size < count:
        size *= 2
    return size if 2 * size <= slots else slots


def on_device(rows: list[np.ndarray], size: int, structure: Any) -> Any:
    """Rows from disk, filled up to a certain size."""
    full = [np.concatenate([a, np.zeros((size - len(a), *a.shape[1:]), a.dtype)]) for a in rows]
    return jax.tree.unflatten(structure, [jnp.asarray(a) for a in full])
