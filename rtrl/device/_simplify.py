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


def _signed(zero: Node) -> bool:
    """Whether a constant zero is -0.0."""
    return zero.dtype == "float" and bool(np.signbit(zero.what[0]))


def _never_minus_zero(x: Node) -> bool:
    """Whether ``x + 0.0`` is ``x``: it is not for -0.0."""
    if x.dtype != "float":
        return True
    if x.op == "map" and x.what == "add":  # -0.0 only of two of them
        return any(map(_has_no_sign, x.operands))
    if x.op == "reduce":
        return x.what[0] == "sum"  # which begins with 0.0
    return _has_no_sign(x)


def _has_no_sign(x: Node, deep: int = 4) -> bool:
    """Whether a number is known to be 0.0, more, or NaN; looks no deeper than ``deep`` operands."""
    if x.op == "const":
        return not np.signbit(x.what[0])
    if x.op != "map" or deep == 0:
        return False
    if x.what in ("add", "mul", "div", "select"):
        operands = x.operands[1:] if x.what == "select" else x.operands
        return all(_has_no_sign(o, deep - 1) for o in operands)
    if x.what == "to_float":
        return x.operands[0].dtype == "bool"
    return x.what in ("square", "abs", "exp", "exp2", "logistic", "cosh", "hypot")


def _vanishes(x: Node) -> bool:
    """Whether a number is zero, or NaN, by the way it is made."""
    if x.op in ("view", "reduce"):
        return (x.op == "view" or x.what[0] == "sum") and _vanishes(x.operands[0])
    if x.op == "map" and x.what == "add":
        return all(map(_vanishes, x.operands))
    return _is(x, 0) or (x.op == "map" and x.what == "mul" and any(_is(o, 0) for o in x.operands))


def _judged(g: Any, x: Node) -> Node | None:
    """Whether a number is finite, by those that it is made of.

    A sum of ``0 * x`` is finite where every ``x`` is. In C it may not stay a sum: compilers take
    ``0 * x`` for 0 where they need not keep the sign of a zero (gcc 12 at -O2).
    """
    if x.op == "map" and x.what in ("abs", "neg"):
        return g.map("is_finite", x.operands[0])
    if not _vanishes(x):
        return None
    if x.op in ("view", "reduce"):
        each = g.map("is_finite", x.operands[0])
        if not each.shape:  # the same for all
            return each
        return g.view(each, x.shape, x.what) if x.op == "view" else g.reduce("and", each, x.what[1])
    one, other = x.operands
    if x.what == "mul":
        return g.map("is_finite", other if _is(one, 0) else one)
    return g.map("both", g.map("is_finite", one), g.map("is_finite", other))


def simplified(g: Any, name: str, operands: Sequence[Node]) -> Node | None:
    """A node that is there already and gives the same, if there is one.

    The same for every number, also where it is infinite, NaN or a zero with a sign: whether an
    update is finite is asked by ``0 * x``, which is NaN where ``x`` is not finite.
    """
    a = operands[0]
    fold = function(name, a.dtype).fold
    if fold is not None and all(o.op == "const" for o in operands):
        with np.errstate(all="ignore"):
            return g.const(fold(*(value_of(o) for o in operands)), dtype_of(name, operands))
    if name.startswith("to_"):
        return a if a.dtype == name.removeprefix("to_") else None
    if len(operands) == 1:
        if name == "is_finite":
            return _judged(g, a)
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
            if _is(one, 0) and one.dtype != "float":
                return one
            if _is(one, -1):
                return g.map("neg", other)
            if one.op == "map" and one.what == "neg" and other.op == "const":
                return g.map("mul", one.operands[0], g.map("neg", other))
    if name == "add":
        for one, other in ((a, b), (b, a)):
            if _is(one, 0) and (_signed(one) or _never_minus_zero(other)):
                return other
            if one.op == "map" and one.what == "neg":
                return g.map("sub", other, one.operands[0])
            if one.op == "map" and one.what == "mul" and one.operands[0].op == "const":
                factor, x = one.operands
                if factor.dtype == "float" and factor.what[0] < 0 and other.op != "const":
                    return g.map("sub", other, g.map("mul", g.map("neg", factor), x))
    if name == "sub":
        if _is(b, 0) and (not _signed(b) or _never_minus_zero(a)):
            return a
        if _is(a, 0) and (_signed(a) or a.dtype != "float"):
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
