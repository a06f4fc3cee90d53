"""A program as a graph of real arrays: the same expression is the same node.

Axes of length 1 do not exist here (an array of one number has the shape ``()``), and an array
whose numbers are all the same is a number. Nodes are made by `Graph`, which leaves out what
changes nothing: ``x + 0``, ``1 * x``, a choice that is already made.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rtrl.device._functions import COMMUTATIVE, PREDICATES, function

DTYPES = {"float": np.float32, "int": np.int32, "uint": np.uint32, "bool": np.bool_}


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
        dtype: ``float``, ``int``, ``uint`` or ``bool``.
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
        simple = _simplified(self, name, operands)
        if simple is not None:
            return simple
        if name in COMMUTATIVE:  # one order for each; 2.0f * x, but x + 2.0f
            first = name == "mul"
            operands = tuple(sorted(operands, key=lambda o: ((o.op == "const") != first, o.number)))
        shape = max((o.shape for o in operands), key=len)
        assert all(o.shape in ((), shape) for o in operands), (name, operands)
        return self._node("map", shape, _dtype(name, operands), operands, name)

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
        if x.op == "iota" and not shape:
            return self.const(axes[0].offset, x.dtype)
        return self._node("view", shape, x.dtype, (x,), tuple(axes))

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


def natural_strides(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def value_of(node: Node) -> Any:
    """The number that a constant is."""
    return DTYPES[node.dtype](node.what[0])


def _dtype(name: str, operands: Sequence[Node]) -> str:
    if name in PREDICATES:
        return "bool"
    if name.startswith("to_"):
        return name.removeprefix("to_")
    return operands[-1].dtype


def _is(node: Node, value: float) -> bool:
    return node.op == "const" and node.what[0] == value


def _simplified(g: Graph, name: str, operands: Sequence[Node]) -> Node | None:
    """A node that is there already and gives the same, if there is one.

    ``0 * x`` is 0: the zeros of a program are those of its structure (the imaginary part of a real
    number, the state before the first timestep), not values that happen to be zero.
    """
    a = operands[0]
    fold = function(name, a.dtype).fold
    if fold is not None and all(o.op == "const" for o in operands):
        with np.errstate(all="ignore"):
            return g.const(fold(*(value_of(o) for o in operands)), _dtype(name, operands))
    if name in ("to_float", "to_int", "to_uint", "to_bool"):
        return a if a.dtype == name.removeprefix("to_") else None
    if len(operands) == 1:
        if name == "neg" and a.op == "map" and a.what == "neg":
            return a.operands[0]
        if name == "not" and a.op == "map" and a.what == "not" and a.dtype == "bool":
            return a.operands[0]
        if name == "square" and a.op == "map" and a.what in ("abs", "neg"):
            return g.map("square", a.operands[0])
        return None
    b = operands[1]
    if name == "select":
        if a.op == "const":
            return b if a.what[0] else operands[2]
        if a.op == "map" and a.what == "not":
            return g.map("select", a.operands[0], operands[2], b)
        if b is operands[2]:
            return b
        for arm, at in ((b, 1), (operands[2], 2)):  # the same choice within the choice
            if arm.op == "map" and arm.what == "select" and arm.operands[0] is a:
                return g.map("select", a, *(arm.operands[at] if o is arm else o
                                            for o in operands[1:]))  # fmt: skip
        return None
    if name == "mul":
        for one, other in ((a, b), (b, a)):
            if _is(one, 1):
                return other
            if _is(one, 0):
                return one
            if _is(one, -1):
                return g.map("neg", other)
            if one.op == "map" and one.what == "neg" and other.op == "const":
                return g.map("mul", one.operands[0], g.map("neg", other))
    if name == "add":
        for one, other in ((a, b), (b, a)):
            if _is(one, 0):
                return other
            if one.op == "map" and one.what == "neg":
                return g.map("sub", other, one.operands[0])
            if one.op == "map" and one.what == "mul" and one.operands[0].op == "const":
                factor, x = one.operands
                if factor.dtype == "float" and factor.what[0] < 0 and other.op != "const":
                    return g.map("sub", other, g.map("mul", g.map("neg", factor), x))
    if name == "sub":
        if _is(b, 0):
            return a
        if _is(a, 0):
            return g.map("neg", b)
        if b.op == "map" and b.what == "neg":
            return g.map("add", a, b.operands[0])
    if name == "div" and _is(b, 1):
        return a
    if a.dtype == "bool" and name in ("and", "or"):
        for one, other in ((a, b), (b, a)):
            if one.op == "const":
                return other if bool(one.what[0]) == (name == "and") else one
        if a is b:
            return a
    return None


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
