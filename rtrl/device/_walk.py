"""From a jaxpr to a graph: calls are entered, choices made early, complex numbers taken apart."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from rtrl.device._complex import COMPLEX, Pair, Value, pair
from rtrl.device._graph import Axis, Graph, Node
from rtrl.device._origin import Origin, origin_of, user_of
from rtrl.device._reductions import PLANEWISE, REDUCTIONS, dot_general
from rtrl.device._shapes import SHAPES, align, join_rows, kind_of, squeezed

#: Primitives of real numbers that are one scalar function, by its name in the table of functions.
SCALAR = {
    **{name: name for name in (
        "add", "sub", "mul", "div", "rem", "neg", "square", "abs", "sign", "floor", "ceil", "sqrt",
        "rsqrt", "cbrt", "exp", "exp2", "expm1", "log", "log1p", "sin", "cos", "tan", "asin",
        "acos", "atan", "sinh", "cosh", "tanh", "erf", "erfc", "logistic", "atan2", "max", "min",
        "nextafter", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not", "is_finite",
    )},
    "add_any": "add",
}  # fmt: skip
#: Primitives that give what they take.
SAME = {"copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision", "pvary"}
#: Primitives that hold a program of their own, and where.
CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_BORROWED = ("jit", "pjit", "custom_jvp_call")
OURS = ("advance_one", "predict_one", "look_ahead")  # compiled functions of this library
ROUNDS = 64  # of a loop that is written out


def walk(
    g: Graph, closed: Any, arguments: Sequence[Value], caller: Origin | None = None
) -> list[Value]:
    """The outputs of a closed jaxpr as nodes; ``caller``: whose it is, if it is not its own.

    What has no form in C is a `Refused`, and so is all that is made of it: what an output needs it
    for is refused by `accept`.
    """
    constants = [constant(g, c) for c in closed.consts]
    return _run(g, closed.jaxpr, [*constants, *arguments], caller)


def constant(g: Graph, value: Any) -> Value:
    if jax.dtypes.issubdtype(getattr(value, "dtype", None), jax.dtypes.prng_key):
        return _KEY  # nothing that is exported may look at it
    value = np.asarray(value)
    if np.iscomplexobj(value):
        return Pair(g.array(value.real, "float"), g.array(value.imag, "float"))
    if value.dtype == np.dtype([("float0", "V")]) or value.dtype.kind == "V":
        return g.const(0, "bool")
    return g.array(value, kind_of(jax.api_util.shaped_abstractify(value)))


_KEY: Any = object()  # a key of random numbers


class Refused(NamedTuple):
    """What has no form in C, and why."""

    reason: str


def accept(value: Any) -> Any:
    """A value that an output is made of.

    Raises:
        ValueError: it has no form in C; the message names the primitive and who used it.
    """
    if isinstance(value, Refused):
        raise ValueError(f"learner: expected operations that have a form in C, got {value.reason}.")
    return value


def _run(
    g: Graph, jaxpr: Any, arguments: Sequence[Value], caller: Origin | None = None
) -> list[Value]:
    values: dict[Any, Value] = dict(
        zip([*jaxpr.constvars, *jaxpr.invars], arguments, strict=True)
    )

    def read(atom: Any) -> Value:
        if isinstance(atom, core.Literal):
            return constant(g, np.asarray(atom.val, atom.aval.dtype))
        return values[atom]

    for eqn in jaxpr.eqns:
        g.origin = caller or origin_of(eqn)
        outs = _equation(g, eqn, [read(a) for a in eqn.invars])
        values.update(zip(eqn.outvars, outs, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _equation(g: Graph, eqn: Any, operands: list[Value]) -> list[Value]:
    name = eqn.primitive.name
    outs = [v.aval for v in eqn.outvars]
    try:
        if name in SAME:
            return list(operands)
        if name in _CONTROL:
            return _CONTROL[name](g, eqn, operands)
        for call in CALLS:
            if call in eqn.params:
                # A function of JAX's own is traced once, wherever it is called from.
                borrowed = str(eqn.params.get("name", "")) not in OURS and name in _BORROWED
                caller = g.origin if borrowed else None
                inner = eqn.params[call]
                if isinstance(inner, core.ClosedJaxpr):
                    return walk(g, inner, operands, caller)
                return _run(g, inner, operands, caller)
        for o in operands:
            if isinstance(o, Refused):
                return [o] * len(outs)
        if any(o is _KEY for o in operands):
            if all(jax.dtypes.issubdtype(v.dtype, jax.dtypes.prng_key) for v in outs):
                return [_KEY] * len(outs)
            raise NotImplementedError("(random numbers)")
        result = _apply(g, eqn, name, operands)
    except NotImplementedError as error:
        reason = f" {error}" if str(error) else ""
        refused = Refused(f"the primitive {name}{reason}, used by {user_of(g.origin)}")
        return [refused] * len(outs)
    results = list(result) if type(result) is list else [result]
    for value in results:
        if isinstance(value, Pair):
            value.re.part, value.im.part = value.re.part or "re", value.im.part or "im"
    return results


def _apply(g: Graph, eqn: Any, name: str, operands: list[Value]) -> Any:
    is_complex = any(isinstance(o, Pair) for o in operands) or name == "complex"
    if name in SHAPES:
        return _planes(g, SHAPES[name], eqn, operands)
    if name in PLANEWISE:
        return _planes(g, REDUCTIONS[name], eqn, operands)
    if name == "dot_general":
        return dot_general(g, eqn, *operands)
    if name in REDUCTIONS:
        return REDUCTIONS[name](g, eqn, *operands)
    operands = [_aligned(g, eqn, o, v.aval) for o, v in zip(operands, eqn.invars, strict=True)]
    if name == "select_n":
        return _select(g, operands)
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


def _select(g: Graph, operands: list[Value]) -> Value:
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


_REAL: dict[str, Any] = {
    "integer_pow": _integer_pow,
    "pow": _pow,
    "clamp": _clamp,
    "round": lambda g, eqn, a: g.map("round", a),
}


def _platform_index(g: Graph, eqn: Any, operands: list[Value]) -> list[Value]:
    """The program for any machine: what suits XLA on a CPU does not suit C."""
    platforms = eqn.params["platforms"]
    return [g.const(next(i for i, p in enumerate(platforms) if p is None), "int")]


def _cond(g: Graph, eqn: Any, operands: list[Value]) -> list[Value]:
    """Every branch is entered; which of its results count is chosen (and skipped, if it can be)."""
    which, *rest = operands
    branches = eqn.params["branches"]
    if isinstance(which, Refused):
        return [which] * len(eqn.outvars)
    assert isinstance(which, Node)
    if which.op == "const":
        return walk(g, branches[int(np.clip(which.what[0], 0, len(branches) - 1))], rest)
    results = [walk(g, branch, rest) for branch in branches]
    return [
        next((c for c in cases if isinstance(c, Refused)), None) or _select(g, [which, *cases])
        for cases in zip(*results, strict=True)
    ]


def _while(g: Graph, eqn: Any, operands: list[Value]) -> list[Value]:
    p = eqn.params
    n, m = p["cond_nconsts"], p["body_nconsts"]
    test, body, carry = operands[:n], operands[n : n + m], operands[n + m :]
    for _ in range(ROUNDS):
        (go,) = walk(g, p["cond_jaxpr"], [*test, *carry])
        if not (isinstance(go, Node) and go.op == "const"):
            raise NotImplementedError("of rounds that are known only when the program runs")
        if not go.what[0]:
            return carry
        carry = walk(g, p["body_jaxpr"], [*body, *carry])
    raise NotImplementedError(f"of more than {ROUNDS} rounds")


def _scan(g: Graph, eqn: Any, operands: list[Value]) -> list[Value]:
    p = eqn.params
    n, m, length = p["num_consts"], p["num_carry"], p["length"]
    if length > ROUNDS:
        raise NotImplementedError(f"of more than {ROUNDS} rounds")
    fixed, carry, rows = operands[:n], operands[n : n + m], operands[n + m :]
    avals = [v.aval for v in eqn.invars[n + m :]]
    outs: list[list[Value]] = []
    order = range(length - 1, -1, -1) if p["reverse"] else range(length)
    for t in order:
        row = [_row(g, x, aval, t) for x, aval in zip(rows, avals, strict=True)]
        after = walk(g, p["jaxpr"], [*fixed, *carry, *row])
        carry, out = after[:m], after[m:]
        outs.append(out)
    if p["reverse"]:
        outs.reverse()
    stacked = [
        _stacked(g, [out[i] for out in outs], v.aval) for i, v in enumerate(eqn.outvars[m:])
    ]
    return [*carry, *stacked]


def _row(g: Graph, x: Value, aval: Any, t: int) -> Value:
    from_axis = {"shape": aval.shape, "t": t}
    if isinstance(x, Pair):
        return Pair(_one_row(g, x.re, **from_axis), _one_row(g, x.im, **from_axis))
    return _one_row(g, x, **from_axis)


def _one_row(g: Graph, x: Node, shape: tuple[int, ...], t: int) -> Node:
    if x.shape == () or shape[0] == 1:
        return x
    rest = squeezed(shape[1:])
    return g.view(x, rest, [Axis(None, 1, t), *(Axis(i) for i in range(len(rest)))])


def _stacked(g: Graph, rows: list[Value], aval: Any) -> Value:
    if any(isinstance(r, Pair) for r in rows):
        parts = [pair(g, r) for r in rows]
        return Pair(*(join_rows(g, [p[i] for p in parts], aval.shape) for i in (0, 1)))
    return join_rows(g, rows, aval.shape)


_CONTROL = {
    "platform_index": _platform_index,
    "cond": _cond,
    "while": _while,
    "scan": _scan,
}
