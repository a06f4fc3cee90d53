"""Expressions of the graph as C."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rtrl.device._functions import (
    AND,
    ATOM,
    BITS,
    CHOICE,
    EQUALITY,
    OR,
    ORDER,
    PRODUCT,
    SHIFT,
    SUM,
    UNARY,
    function,
)
from rtrl.device._node import Node
from rtrl.device._reads import INNER, Affine, Index, at, operand_index, place

C_TYPES = {
    "float": "float", "int": "int", "uint": "unsigned", "bool": "int",
    "ushort": "unsigned short", "schar": "signed char",
}  # fmt: skip
LETTERS = "ijklmn"
_SENTENCES = {SHIFT, ORDER, EQUALITY, BITS, AND, OR}  # operators that readers and compilers confuse


def literal(value: Any, dtype: str) -> str:
    if dtype == "double" and np.isfinite(value):
        return repr(float(value))
    dtype = "float" if dtype == "double" else dtype
    if dtype == "float":
        if np.isnan(value):
            return "NAN"
        if np.isinf(value):
            return "INFINITY" if value > 0 else "-INFINITY"
        text = repr(float(str(np.float32(value))))
        return text + "f"
    if dtype == "uint":
        return f"{int(value)}u"
    return str(int(value))


def variable(number: int, outside: int) -> str:
    """The letter of a loop variable, those of a result before those summed over."""
    return LETTERS[number - INNER + outside if number >= INNER else number]


class Printer:
    """Prints expressions.

    Args:
        name: gives what an array or number is called, and whether it is an array; ``None`` for a
            value that is computed where it is used.
        outside: how many variables the loops over the result have.
        merged: loop variables that another one runs for.
    """

    def __init__(self, name: Callable[[Node], tuple[str, bool] | None], outside: int,
                 merged: frozenset[int] = frozenset()):  # fmt: skip
        self.name = name
        self.outside = outside
        self.merged = merged
        self.kept: dict[tuple[Node, Index], str] = {}
        self.helpers: dict[str, str] = {}

    def affine(self, a: Affine) -> tuple[str, int]:
        terms = [t for t in a.terms if t[0] not in self.merged]
        terms.sort(key=lambda t: -abs(t[1]))
        text, binds = "", ATOM
        for v, factor in terms:
            letter = variable(v, self.outside)
            one = letter if abs(factor) == 1 else f"{abs(factor)} * {letter}"
            sign = "-" if factor < 0 else "+"
            if text:
                text, binds = f"{text} {sign} {one}", SUM
            else:
                text = f"-{one}" if factor < 0 else one
                binds = ATOM if one == letter and factor > 0 else PRODUCT
        if not text:
            return str(a.offset), ATOM if a.offset >= 0 else UNARY
        if a.offset:
            return f"{text} {'-' if a.offset < 0 else '+'} {abs(a.offset)}", SUM
        return text, binds

    def element(self, name: str, where: Affine) -> str:
        return f"{name}[{self.affine(where)[0]}]"

    def __call__(self, node: Node, index: Index, first: bool = False) -> str:
        return self.text(node, index, first)[0]

    def text(self, node: Node, index: Index, first: bool = False) -> tuple[str, int]:
        """The expression and how tightly it binds; ``first``: even if the value has a name."""
        if not first:
            if (node, index) in self.kept:
                return self.kept[node, index], ATOM
            found = self.name(node)
            if found is not None:
                name, is_array = found
                return (self.element(name, at(node, index)) if is_array else name), ATOM
        if node.op == "const":
            text = literal(node.what[0], node.dtype)
            return text, UNARY if text.startswith("-") else ATOM
        if node.op == "iota":
            text, binds = self.affine(index[0])
            if node.dtype not in ("float", "uint"):
                return text, binds
            return f"({C_TYPES[node.dtype]}){text if binds == ATOM else f'({text})'}", UNARY
        if node.op == "view":
            operand = node.operands[0]
            return self.text(operand, operand_index(node, operand, index))
        if node.op == "flat":
            found = self.name(node.operands[0])
            assert found is not None and found[1], node
            offset, strides = node.what
            return self.element(found[0], place(strides, index, offset)), ATOM
        if node.op == "take":
            return self._take(node, index), ATOM
        assert node.op == "map", node
        return self._map(node, index)

    def _take(self, node: Node, index: Index) -> str:
        table, which = node.operands
        found = self.name(table)
        assert found is not None and found[1], node
        axis = node.what
        full = (*index[:axis], Affine(0), *index[axis:])
        rest = self.affine(at(table, full))[0]
        stride = int(np.prod(table.shape[axis + 1 :], dtype=int))
        at_run_time, binds = self.text(which, ())
        if stride != 1:
            at_run_time = f"{stride} * {at_run_time if binds > PRODUCT else f'({at_run_time})'}"
        return f"{found[0]}[{at_run_time}{'' if rest == '0' else ' + ' + rest}]"

    def _map(self, node: Node, index: Index) -> tuple[str, int]:
        row = function(node.what, node.operands[0].dtype if node.what != "select" else "bool")
        if row.helper is not None:
            self.helpers[node.what] = row.helper
        parts = []
        for i, operand in enumerate(node.operands):
            text, binds = self.text(operand, operand_index(node, operand, index))
            if row.binds != ATOM and (
                binds < row.binds
                or (binds == row.binds and (i > 0 or row.binds in (UNARY, CHOICE)))
                or _confusing(binds, row.binds)
            ):
                text = f"({text})"
            parts.append(text)
        text = row.c.format(*parts)
        if node.what == "div" and parts[0] == "1.0f":
            return text, PRODUCT
        return text, row.binds


def _confusing(inner: int, outside: int) -> bool:
    """Whether compilers ask for parentheses that the language does not need."""
    if inner == SUM and outside in (SHIFT, BITS):
        return True
    if inner not in _SENTENCES or outside not in _SENTENCES:
        return False
    comparison_in_logic = inner in (ORDER, EQUALITY) and outside in (AND, OR)
    return not comparison_in_logic and not (inner == outside and inner in (AND, OR))
