"""A program as a graph of real arrays: the same expression is the same node.

Axes of length 1 do not exist here (an array of one number has the shape ``()``), and an array
whose numbers are all the same is a number. Nodes are made by `Graph`, which leaves out what
changes nothing: ``x + 0``, ``1 * x``, a choice that is already made.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rtrl.device._functions import COMMUTATIVE
from rtrl.device._node import DTYPES, Axis, Node, natural_strides
from rtrl.device._simplify import dtype_of, simplified


class Graph:
    """Makes nodes, each once."""

    def __init__(self):
        self._made: dict[Any, Node] = {}
        self.origin: Any = None  # of what is being made

    def _node(self, op, shape, dtype, operands=(), what=None) -> Node:
        key = (op, tuple(shape), dtype, tuple(o.number for o in operands), what)
        if key not in self._made:
            number = len(self._made)
            self._made[key] = Node(op, tuple(shape), dtype, operands, what, number, self.origin)
        return self._made[key]

    def input(self, name: str, shape: Sequence[int], dtype: str) -> Node:
        return self._node("input", [n for n in shape if n != 1], dtype, (), name)

    def const(self, value: Any, dtype: str) -> Node:
        number = DTYPES[dtype](value)
        return self._node("const", (), dtype, (), (number.item(), repr(number)))

    def array(self, value: np.ndarray, dtype: str) -> Node:
        """A constant array; a number if all are the same."""
        value = np.asarray(value, DTYPES[dtype])
        value = value.reshape([n for n in value.shape if n != 1])
        bits = value.tobytes()
        if value.size and bits == value.size * bits[: value.itemsize]:
            return self.const(value.flat[0], dtype)
        return self._node("table", value.shape, dtype, (), bits)

    def map(self, name: str, *operands: Node) -> Node:
        """A scalar function of arrays of one shape and of single numbers."""
        simple = simplified(self, name, operands)
        if simple is not None:
            return simple
        if name in COMMUTATIVE:  # one order for each; 2.0f * x, but x + 2.0f
            first = name == "mul"
            operands = tuple(sorted(operands, key=lambda o: ((o.op == "const") != first, o.number)))
        shape = max((o.shape for o in operands), key=len)
        assert all(o.shape in ((), shape) for o in operands), (name, operands)
        return self._node("map", shape, dtype_of(name, operands), operands, name)

    def view(self, x: Node, shape: Sequence[int], axes: Sequence[Axis]) -> Node:
        """Read ``x`` at other places: ``axes`` says where, for each of its own axes."""
        assert len(axes) == len(x.shape), (x, axes)
        if not x.shape:
            return x
        shape = tuple(shape)
        plain = tuple(Axis(i) for i in range(len(shape)))
        if shape == x.shape and tuple(axes) == plain:
            return x
        if x.op == "view":  # a view of a view is a view
            axes = tuple(
                a
                if a.axis is None
                else Axis(
                    axes[a.axis].axis,
                    a.stride * axes[a.axis].stride,
                    a.offset + a.stride * axes[a.axis].offset,
                )
                for a in x.what
            )
            return self.view(x.operands[0], shape, axes)
        if x.op == "concat" and axes[x.what].axis is None:  # of one piece
            return self._of_piece(x, shape, axes)
        if x.op == "iota" and not shape:
            return self.const(axes[0].offset, x.dtype)
        return self._node("view", shape, x.dtype, (x,), tuple(axes))

    def _of_piece(self, x: Node, shape: tuple[int, ...], axes: Sequence[Axis]) -> Node:
        place, rest = axes[x.what].offset, [a for i, a in enumerate(axes) if i != x.what]
        for piece in x.operands:
            row = len(piece.shape) < len(x.shape)
            size = 1 if row else piece.shape[x.what]
            if place < size:
                one = rest if row else [*rest[: x.what], Axis(None, 1, place), *rest[x.what :]]
                return self.view(piece, shape, one)
            place -= size
        raise AssertionError("a view beyond its array")

    def broadcast(self, x: Node, shape: Sequence[int]) -> Node:
        """A number as an array, which only some operations need."""
        if x.shape == tuple(shape):
            return x
        assert x.shape == (), (x, shape)
        return self._node("view", tuple(shape), x.dtype, (x,), ())

    def reduce(self, name: str, x: Node, axes: Sequence[int]) -> Node:
        """Sum, product, maximum, minimum, ``and``, ``or`` over some axes."""
        axes = tuple(axes)
        if not axes:
            return x
        whole = len(axes) == len(x.shape)
        if whole and name in ("sum", "and", "or"):
            parts = self._parts(x)
            if len(parts) > 1 or parts[0] is not x:
                join = {"sum": "add"}.get(name, name)
                total = None
                for part in parts:
                    one = self.reduce(name, part, range(len(part.shape)))
                    total = one if total is None else self.map(join, total, one)
                assert total is not None
                return total
        shape = [n for i, n in enumerate(x.shape) if i not in axes]
        return self._node("reduce", shape, x.dtype, (x,), (name, axes))

    def _parts(self, x: Node) -> list[Node]:
        """Arrays that hold the numbers of ``x`` together, in any order."""
        if x.op == "concat" and len(x.shape) == 1:
            return [p for o in x.operands for p in self._parts(o)]
        if x.op == "flat" and x.size == x.operands[0].size:
            return self._parts(x.operands[0])
        if x.op == "map":
            arrays = [o for o in x.operands if o.shape]
            if len(arrays) == 1:
                parts = self._parts(arrays[0])
                if len(parts) > 1 or parts[0] is not arrays[0]:
                    return [
                        self.map(x.what, *(part if o is arrays[0] else o for o in x.operands))
                        for part in parts
                    ]
        return [x]

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        shape = tuple(n for n in shape if n != 1)
        if x.shape in ((), shape):
            return x
        if x.op == "table":
            dtype = DTYPES[x.dtype]
            return self.array(np.frombuffer(x.what, dtype).reshape(shape), x.dtype)
        if x.op == "flat" and x.size == x.operands[0].size:
            return self.reshape(x.operands[0], shape)
        return self.flat(x, shape, 0, natural_strides(shape))

    def flat(self, x: Node, shape: Sequence[int], offset: int, strides: Sequence[int]) -> Node:
        """Read the memory of an array at ``offset + sum of strides * index``."""
        return self._node("flat", shape, x.dtype, (x,), (offset, tuple(strides)))

    def concat(self, pieces: Sequence[Node], axis: int, shape: Sequence[int]) -> Node:
        """Arrays one after the other along an axis of the result."""
        if len(pieces) == 1:
            return pieces[0]
        if all(p is pieces[0] and p.shape == () for p in pieces):
            return pieces[0]
        if all(p.op in ("const", "table") for p in pieces):
            dtype = DTYPES[pieces[0].dtype]
            sizes = [n for i, n in enumerate(shape) if i != axis]
            whole = [
                np.full(sizes, p.what[0], dtype).reshape(-1)
                if p.op == "const"
                else np.frombuffer(p.what, dtype)
                for p in pieces
            ]
            blocks = [w.reshape(*sizes[:axis], -1, *sizes[axis:]) for w in whole]
            return self.array(np.concatenate(blocks, axis), pieces[0].dtype)
        return self._node("concat", shape, pieces[0].dtype, tuple(pieces), axis)

    def iota(self, shape: Sequence[int], axis: int, dtype: str) -> Node:
        x = self._node("iota", (shape[axis],), dtype)
        return self.view(x, shape, (Axis(axis),))

    def take(self, x: Node, index: Node, axis: int, limit: int) -> Node:
        """A slice of length 1 at a place known only when the program runs, kept in range."""
        index = self.map("min", self.map("max", index, self.const(0, "int")),
                         self.const(limit, "int"))  # fmt: skip
        if index.op == "const":
            kept = [i for i in range(len(x.shape)) if i != axis]
            at = [Axis(None, 1, index.what[0]) if i == axis else Axis(kept.index(i))
                  for i in range(len(x.shape))]  # fmt: skip
            return self.view(x, [x.shape[i] for i in kept], at)
        shape = [n for i, n in enumerate(x.shape) if i != axis]
        return self._node("take", shape, x.dtype, (x, index), axis)
