"""Rows in buffers of a fixed size: one program takes one row or many."""

import numpy as np

BLOCK = 256  # rows that go in at once, at most
NUMBERS = 1 << 16  # and numbers, of a table with many columns


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """The array at the beginning of zeros of this length."""
    whole = np.zeros((size, *array.shape[1:]), array.dtype)
    whole[: len(array)] = array
    return whole
