"""What need not be computed: ``x + 0``, ``1 * x``, a choice that is already made."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rtrl.device._functions import PREDICATES, function
from rtrl.device._node import Node, value_of


def dtype_of(name: str, operands: Sequence[Node]) -> str:
    if name in PREDICATES:
        return "bool"
    if name.startswith(("to_", "as_")):
        return name[3:]
    return operands[-1].dtype


def _is(node: Node, value: float) -> bool:
    return node.op == "const" and node.what[0] == value


def simplified(g: Any, name: str, operands: Sequence[Node]) -> Node | None:
    """A node that is there already and gives the same, if there is one.

    ``0 * x`` is 0: the zeros of a program are those of its structure (the imaginary part of a real
    number, the state before the first timestep), not values that happen to be zero.
    """
    a = operands[0]
    fold = function(name, a.dtype).fold
    if fold is not None and all(o.op == "const" for o in operands):
        with np.errstate(all="ignore"):
            return g.const(fold(*(value_of(o) for o in operands)), dtype_of(name, operands))
    if name.startswith("to_"):
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
    if a.dtype == "bool" and name in ("eq", "ne") and b.op == "const":
        return a if bool(b.what[0]) == (name == "eq") else g.map("not", a)
    if a.dtype == "bool" and name in ("and", "or"):
        for one, other in ((a, b), (b, a)):
            if one.op == "const":
                return other if bool(one.what[0]) == (name == "and") else one
        if a is b:
            return a
    return None
