"""Complex arithmetic in real numbers: a complex array is a pair of real ones."""

from collections.abc import Callable
from typing import NamedTuple

from rtrl.device._graph import Graph
from rtrl.device._node import Node


class Pair(NamedTuple):
    """A complex array: its real and its imaginary part."""

    re: Node
    im: Node


Value = Node | Pair


def pair(g: Graph, a: Value) -> Pair:
    return a if isinstance(a, Pair) else Pair(g.map("to_float", a), g.const(0, "float"))


def real(a: Pair) -> bool:
    """Whether a complex number has no imaginary part, whatever its numbers."""
    return _nothing(a.im)


def _nothing(part: Node) -> bool:
    return part.op == "const" and part.what[0] == 0


def _multiply(g: Graph, a: Pair, b: Pair) -> Pair:
    """The product; without ``0 * inf`` where a factor is real or imaginary (C99, annex G)."""
    m = g.map
    for one, other in ((a, b), (b, a)):
        if real(one):
            im = one.im if real(other) else m("mul", one.re, other.im)
            return Pair(m("mul", one.re, other.re), im)
        if _nothing(one.re) and not real(other):
            im = one.re if _nothing(other.re) else m("mul", one.im, other.re)
            return Pair(m("neg", m("mul", one.im, other.im)), im)
    return Pair(
        m("sub", m("mul", a.re, b.re), m("mul", a.im, b.im)),
        m("add", m("mul", a.re, b.im), m("mul", a.im, b.re)),
    )


def _add(g: Graph, a: Pair, b: Pair) -> Pair:
    """The sum, by the parts that are there."""

    def part(x: Node, y: Node) -> Node:
        return y if _nothing(x) else x if _nothing(y) else g.map("add", x, y)

    return Pair(part(a.re, b.re), part(a.im, b.im))


def _subtract(g: Graph, a: Pair, b: Pair) -> Pair:
    return _add(g, a, Pair(*(x if _nothing(x) else g.map("neg", x) for x in b)))


def _divide(g: Graph, a: Pair, b: Pair) -> Pair:
    m = g.map
    if real(b):
        return Pair(m("div", a.re, b.re), a.im if real(a) else m("div", a.im, b.re))
    norm = m("add", m("square", b.re), m("square", b.im))
    top = _multiply(g, a, Pair(b.re, m("neg", b.im)))
    return Pair(m("div", top.re, norm), m("div", top.im, norm))


def _exp(g: Graph, a: Pair) -> Pair:
    m = g.map
    radius = m("exp", a.re)
    return Pair(m("mul", radius, m("cos", a.im)), m("mul", radius, m("sin", a.im)))


def _log(g: Graph, a: Pair) -> Pair:
    return Pair(g.map("log", g.map("hypot", *a)), g.map("atan2", a.im, a.re))


def _sqrt(g: Graph, a: Pair) -> Pair:
    m, half = g.map, g.const(0.5, "float")
    radius = m("hypot", *a)
    zero = g.const(0, "float")
    re = m("sqrt", m("mul", half, m("max", m("add", radius, a.re), zero)))
    im = m("sqrt", m("mul", half, m("max", m("sub", radius, a.re), zero)))
    return Pair(re, m("select", m("lt", a.im, zero), m("neg", im), im))


def _tanh(g: Graph, a: Pair) -> Pair:
    """``(sinh 2x + i sin 2y) / (cosh 2x + cos 2y)``; for large x the limit, not inf / inf."""
    m, two = g.map, g.const(2, "float")
    x, y = m("mul", two, a.re), m("mul", two, a.im)
    x = m("min", m("max", x, g.const(-40, "float")), g.const(40, "float"))
    below = m("add", m("cosh", x), m("cos", y))
    return Pair(m("div", m("sinh", x), below), m("div", m("sin", y), below))


def _each(name: str) -> Callable[..., Pair]:
    def rule(g: Graph, *operands: Pair) -> Pair:
        return Pair(g.map(name, *(o.re for o in operands)), g.map(name, *(o.im for o in operands)))

    return rule


def _both(join: str, name: str) -> Callable[..., Node]:
    def rule(g: Graph, *operands: Pair) -> Node:
        return g.map(
            join,
            g.map(name, *(o.re for o in operands)),
            g.map(name, *(o.im for o in operands)),
        )

    return rule


def _power(g: Graph, a: Pair, y: int) -> Pair:
    one = Pair(g.const(1, "float"), g.const(0, "float"))
    result, square = one, a
    n = abs(y)
    while n:
        if n % 2:
            result = square if result is one else _multiply(g, result, square)
        square, n = (_multiply(g, square, square), n // 2) if n > 1 else (square, 0)
    return result if y >= 0 else _divide(g, one, result)


#: What JAX's primitives do to complex numbers; the operands are pairs.
COMPLEX: dict[str, Callable[..., Value]] = {
    "add": _add,
    "add_any": _add,
    "sub": _subtract,
    "neg": _each("neg"),
    "mul": _multiply,
    "div": _divide,
    "exp": _exp,
    "log": _log,
    "sqrt": _sqrt,
    "tanh": _tanh,
    "square": lambda g, a: _multiply(g, a, a),
    "abs": lambda g, a: g.map("hypot", a.re, a.im),
    "real": lambda g, a: a.re,
    "imag": lambda g, a: a.im,
    "conj": lambda g, a: Pair(a.re, g.map("neg", a.im)),
    "complex": lambda g, re, im: Pair(re.re, im.re),
    "eq": _both("and", "eq"),
    "ne": _both("or", "ne"),
    "is_finite": _both("and", "is_finite"),
    "integer_pow": _power,
}
