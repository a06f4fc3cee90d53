"""One array of a program: how it is made of others."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rtrl.device._functions import function

DTYPES = {
    "float": np.float32, "int": np.int32, "uint": np.uint32, "bool": np.bool_,
    "ushort": np.uint16, "schar": np.int8,
}  # fmt: skip


class Axis(NamedTuple):
    """Where an operand of a view is read along one of its axes: ``offset + stride * i[axis]``."""

    axis: int | None
    stride: int = 1
    offset: int = 0


class Node:
    """One array of the program.

    Attributes:
        op: ``input``, ``const``, ``table``, ``map``, ``view``, ``reduce``, ``flat``, ``concat``,
            ``iota`` or ``take``.
        shape: its axes, those longer than 1.
        dtype: ``float``, ``int``, ``uint``, ``bool``, ``ushort`` (the bits of bfloat16, too) or
            ``schar``.
        operands: the nodes it is made of.
        what: what `op` needs to know beside them.
        number: in the order in which nodes were made.
        origin: where in the source it comes from.
        part: ``re`` or ``im`` of a complex array.
    """

    __slots__ = ("op", "shape", "dtype", "operands", "what", "number", "origin", "part")

    def __init__(self, op, shape, dtype, operands, what, number, origin):
        self.op: str = op
        self.shape: tuple[int, ...] = shape
        self.dtype: str = dtype
        self.operands: tuple[Node, ...] = operands
        self.what: Any = what
        self.number: int = number
        self.origin: Any = origin
        self.part = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __repr__(self) -> str:
        operands = ", ".join(f"#{o.number}" for o in self.operands)
        return f"#{self.number} {self.op} {self.what} {self.dtype}{list(self.shape)} ({operands})"


def natural_strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def value_of(node: Node) -> Any:
    """The number that a constant is."""
    return DTYPES[node.dtype](node.what[0])


def known(node: Node) -> np.ndarray | None:
    """The numbers of an array that needs no input; ``None`` if it needs one."""
    if node.op in ("const", "table"):
        return value_of(node) if node.op == "const" else _numbers(node)
    if node.op == "iota":
        return np.arange(node.size, dtype=DTYPES[node.dtype])
    operands = [known(o) for o in node.operands]
    if node.op not in ("map", "view", "concat") or any(o is None for o in operands):
        return None
    found: list[np.ndarray] = [np.asarray(o) for o in operands]
    if node.op == "map":
        fold = function(node.what, node.operands[0].dtype).fold
        return None if fold is None else np.asarray(fold(*found), DTYPES[node.dtype])
    if node.op == "concat":
        whole = node.shape[node.what]
        sized = [a if a.ndim == len(node.shape) else np.expand_dims(a, node.what) for a in found]
        joined = np.concatenate(sized, node.what)
        return joined if joined.shape[node.what] == whole else None
    grid = np.indices(node.shape)
    places = tuple(
        np.full(node.shape, a.offset) if a.axis is None else a.offset + a.stride * grid[a.axis]
        for a in node.what
    )
    return found[0][places] if places else np.broadcast_to(found[0], node.shape)


def _numbers(node: Node) -> np.ndarray:
    return np.frombuffer(node.what, DTYPES[node.dtype]).reshape(node.shape)
