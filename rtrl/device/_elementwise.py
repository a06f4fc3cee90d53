"""What JAX's primitives do to numbers one by one, and to which families the others belong."""

from typing import Any

import numpy as np

from rtrl.device._complex import COMPLEX, Pair, Value, pair
from rtrl.device._graph import Graph
from rtrl.device._node import Node
from rtrl.device._reductions import PLANEWISE, REDUCTIONS, dot_general
from rtrl.device._shapes import SHAPES, align, kind_of

#: Primitives of real numbers that are one scalar function, by its name in the table of functions.
SCALAR = {
    **{name: name for name in (
        "add", "sub", "mul", "div", "rem", "neg", "square", "one_minus_square", "abs", "sign",
        "floor", "ceil", "sqrt", "rsqrt", "cbrt", "exp", "exp2", "expm1", "log",
        "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf", "erfc",
        "logistic", "atan2", "max", "min",
        "nextafter", "shift_left", "shift_right_logical", "eq", "ne", "lt", "le", "gt",
        "ge", "and", "or", "xor", "not", "is_finite",
    )},
    "add_any": "add",
}  # fmt: skip


def apply(g: Graph, eqn: Any, name: str, operands: list[Any]) -> Any:
    is_complex = any(isinstance(o, Pair) for o in operands) or name == "complex"
    if name in SHAPES:
        return _planes(g, SHAPES[name], eqn, operands)
    if name in PLANEWISE:
        return _planes(g, REDUCTIONS[name], eqn, operands)
    if name == "dot_general":
        return dot_general(g, eqn, *operands)
    if name in REDUCTIONS:
        return REDUCTIONS[name](g, eqn, *operands)
    if name not in _ONE_BY_ONE:
        raise NotImplementedError
    operands = [_aligned(g, eqn, o, v.aval) for o, v in zip(operands, eqn.invars, strict=True)]
    small = {kind_of(v.aval) for v in eqn.invars} & {"ushort", "schar"}
    if small and name not in _OF_ANY:
        raise NotImplementedError("of numbers of fewer than 32 bits")
    if name == "select_n":
        return select(g, operands)
    if name == "convert_element_type":
        return _convert(g, eqn, operands[0])
    if is_complex:
        if name not in COMPLEX:
            raise NotImplementedError("of complex numbers")
        more = [eqn.params["y"]] if name == "integer_pow" else []
        return COMPLEX[name](g, *(pair(g, o) for o in operands), *more)
    if name in SCALAR:
        return g.map(SCALAR[name], *operands)
    if name in _REAL:
        return _REAL[name](g, eqn, *operands)
    raise NotImplementedError


def _planes(g: Graph, rule: Any, eqn: Any, operands: list[Value]) -> Any:
    """Apply a rule to the real parts, and to the imaginary ones if there are any."""
    if not any(isinstance(o, Pair) for o in operands):
        return rule(g, eqn, *operands)

    def part(o, v, i):
        if np.issubdtype(v.aval.dtype, np.complexfloating):
            return pair(g, o)[i]
        return o  # an index

    re, im = (
        rule(g, eqn, *(part(o, v, i) for o, v in zip(operands, eqn.invars, strict=True)))
        for i in (0, 1)
    )
    if isinstance(re, list):
        return [Pair(a, b) for a, b in zip(re, im, strict=True)]
    return Pair(re, im)


def _aligned(g: Graph, eqn: Any, x: Value, aval: Any) -> Value:
    """An operand of an elementwise operation, repeated along the axes that it has once."""
    after = eqn.outvars[0].aval.shape
    if isinstance(x, Pair):
        return Pair(*(align(g, part, aval.shape, after) for part in x))
    return align(g, x, aval.shape, after)


def select(g: Graph, operands: list[Value]) -> Value:
    which, *cases = operands
    if any(isinstance(c, Pair) for c in cases):
        parts = [pair(g, c) for c in cases]
        return Pair(*(_choice(g, which, [p[i] for p in parts]) for i in (0, 1)))
    return _choice(g, which, cases)


def _choice(g: Graph, which: Any, cases: list[Any]) -> Node:
    """``cases[which]``, for a truth value or a number."""
    if len(cases) == 1:
        return cases[0]
    if which.dtype != "bool":
        if which.op == "map" and which.what == "to_int" and which.operands[0].dtype == "bool":
            which = which.operands[0]
        elif which.op == "const":
            return cases[int(np.clip(which.what[0], 0, len(cases) - 1))]
        else:
            result = cases[-1]
            for i in range(len(cases) - 2, -1, -1):
                here = g.map("le" if i == 0 else "eq", which, g.const(i, which.dtype))
                result = g.map("select", here, cases[i], result)
            return result
    return g.map("select", which, cases[1], cases[0])


def _convert(g: Graph, eqn: Any, a: Value) -> Value:
    before, after = (np.dtype(v.aval.dtype).name for v in (eqn.invars[0], eqn.outvars[0]))
    if before == "bfloat16" != after:
        if after != "float32" or isinstance(a, Pair):
            raise NotImplementedError(f"from bfloat16 to {after}")
        bits = g.map("shift_left", g.map("to_uint", a), g.const(16, "uint"))
        return g.map("as_float", bits)
    if after == "bfloat16" != before:
        raise NotImplementedError(f"from {before} to bfloat16")
    if np.issubdtype(eqn.outvars[0].aval.dtype, np.complexfloating):
        return pair(g, a)
    if isinstance(a, Pair):
        a = a.re
    return g.map(f"to_{kind_of(eqn.outvars[0].aval)}", a)


def _integer_pow(g: Graph, eqn: Any, a: Node) -> Node:
    return _power(g, a, eqn.params["y"])


def _power(g: Graph, a: Node, y: int) -> Node:
    if y < 0:
        return g.map("div", g.const(1, a.dtype), _power(g, a, -y))
    if y == 0:
        return g.const(1, a.dtype)
    if y == 1:
        return a
    half = g.map("square", _power(g, a, y // 2))
    return g.map("mul", half, a) if y % 2 else half


def _pow(g: Graph, eqn: Any, a: Node, y: Node) -> Node:
    return g.map("pow", a, g.map("to_float", y))


def _clamp(g: Graph, eqn: Any, low: Node, a: Node, high: Node) -> Node:
    return g.map("min", g.map("max", a, low), high)


def _bitcast(g: Graph, eqn: Any, a: Node) -> Node:
    kinds = a.dtype, kind_of(eqn.outvars[0].aval)
    if kinds == ("ushort", "ushort"):
        return a
    if kinds not in (("uint", "float"), ("float", "uint")):
        raise NotImplementedError(f"from {kinds[0]} to {kinds[1]}")
    return g.map(f"as_{kinds[1]}", a)


_REAL: dict[str, Any] = {
    "integer_pow": _integer_pow,
    "pow": _pow,
    "clamp": _clamp,
    "bitcast_convert_type": _bitcast,
    "round": lambda g, eqn, a: g.map("round", a),
}

#: Those that take numbers of fewer than 32 bits: C would compute with them as ``int``.
_OF_ANY = {"select_n", "convert_element_type", "bitcast_convert_type"}
#: Primitives whose operands are repeated along axes that they have once.
_ONE_BY_ONE = {"select_n", "convert_element_type", *SCALAR, *COMPLEX, *_REAL}
