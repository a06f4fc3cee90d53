"""What is left out of an expression changes nothing, whatever the numbers: also inf, NaN, -0.0."""

import itertools
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rtrl.device._functions import FUNCTIONS
from rtrl.device._graph import Graph
from rtrl.device._node import DTYPES, Axis, Node, value_of

SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, -0.3, 3e38, -3e38, 1e-40, np.inf, -np.inf, np.nan]
#: Inputs hold all pairs of them: within a row (that is what is summed) and at the same place.
ROWS = np.array([*itertools.product(SPECIAL, SPECIAL)], "f4")
SHAPE = ROWS.shape
INPUTS = {
    "a": ROWS,
    "b": ROWS[:, ::-1],
    "c": np.roll(ROWS, 5, 0),
    "p": ROWS > 0,
    "q": np.roll(ROWS, 7, 0) >= 1,
}

UNARY = ["neg", "square", "abs", "sqrt", "exp", "logistic", "sign"]
BINARY = ["add", "sub", "mul", "div"]
COMPARE = ["eq", "ne", "lt", "le", "gt", "ge"]

# An expression is a tuple: its function and its operands; a number; or the name of an input.
_floats = st.deferred(
    lambda: st.one_of(
        st.sampled_from("abc"),
        st.sampled_from(SPECIAL),
        st.tuples(st.sampled_from(UNARY), _floats),
        st.tuples(st.sampled_from(BINARY), _floats, _floats),
        st.tuples(st.just("select"), _truths, _floats, _floats),
        st.tuples(st.just("to_float"), _truths),
        st.tuples(st.just("sum"), _floats),
    )
)
_truths = st.deferred(
    lambda: st.one_of(
        st.sampled_from("pq"),
        st.tuples(st.sampled_from(COMPARE), _floats, _floats),
        st.tuples(st.just("is_finite"), _floats),
        st.tuples(st.just("not"), _truths),
        st.tuples(st.sampled_from(["and", "or"]), _truths, _truths),
    )
)


def node_of(g, expression) -> Node:
    if isinstance(expression, str):
        return g.input(expression, SHAPE, "bool" if expression in "pq" else "float")
    if isinstance(expression, float):
        return g.const(expression, "float")
    name, *operands = expression
    operands = [node_of(g, o) for o in operands]
    if name == "sum":  # over a row, and both numbers of the row get it
        row = g.reduce("sum", g.broadcast(operands[0], SHAPE), (1,))
        return g.view(row, SHAPE, [Axis(0)])
    return g.map(name, *operands)


def plainly(expression):
    """The value of an expression, as it is written."""
    if isinstance(expression, str):
        return INPUTS[expression]
    if isinstance(expression, float):
        return np.float32(expression)
    name, *operands = expression
    values = [plainly(o) for o in operands]
    return _summed(values[0])[:, None] if name == "sum" else _applied(name, values)


def value(node: Node) -> Any:
    """The value of a node of the graph."""
    if node.op == "input":
        return INPUTS[node.what]
    if node.op == "const":
        return value_of(node)
    values = [value(o) for o in node.operands]
    if node.op == "view":
        return values[0][:, None] if node.what else values[0]
    if node.op == "reduce":
        over = {"sum": _summed, "and": lambda a: _whole(a).all(1)}
        return over[node.what[0]](values[0])
    return _applied(node.what, values)


def _whole(a):
    return np.broadcast_to(a, SHAPE)


def _summed(a):
    a = _whole(a)
    return np.float32(0) + a[:, 0] + a[:, 1]


def _applied(name, values) -> Any:
    fold = FUNCTIONS[name].fold
    assert fold is not None
    return fold(*values)


def same(a, b, dtype) -> bool:
    """The same bits, but for those within a NaN."""
    a, b = (np.array(_whole(np.asarray(x, DTYPES[dtype]))) for x in (a, b))
    if dtype == "float":
        a[np.isnan(a)] = b[np.isnan(b)] = np.nan
    return a.tobytes() == b.tobytes()


def holds(expression) -> bool:
    with np.errstate(all="ignore"):
        node = node_of(Graph(), expression)
        return same(value(node), plainly(expression), node.dtype)


@settings(max_examples=40)
@given(st.one_of(_floats, _truths))
def test_a_simplified_expression_has_the_same_value(expression):
    assert holds(expression)


def test_no_rule_is_false_for_any_special_number():
    """Every function of every function of a few numbers, and what asks whether they are finite."""
    ends = ["a", 0.0, -0.0, 1.0, -1.0, -2.0]
    one = [(f, x) for f, x in itertools.product(UNARY, ends)]
    one += [(f, x, y) for f, x, y in itertools.product(BINARY, ["b", *ends], ends)]
    one += [("select", "p", x, y) for x, y in itertools.product(ends, ends)]
    one += [("sum", "a"), ("to_float", "p"), ("to_float", ("to_float", "p"))]
    two = [(f, x, y) for f, x in itertools.product(BINARY, one) for y in ends]
    two += [(f, y, x) for f, x in itertools.product(BINARY[:3], one) for y in ends[:5]]
    two += [("add", ("sub", x, y), 0.0) for x, y in itertools.product(one[:30], one[:30])]
    below = ("sub", ("square", "a"), ("square", "b"))
    two += [("add", ("mul", below, ("square", "c")), 0.0)]
    nothing = [("mul", 0.0, x) for x in ["a", "b", ("abs", "a"), ("square", "b")]] + ["c", -0.0]
    asked = [*one, *nothing, *(("sum", x) for x in nothing)]
    asked += [("add", x, y) for x, y in itertools.product(nothing, nothing)]
    asked += [("sum", ("add", x, ("neg", y))) for x, y in itertools.product(nothing, nothing)]
    wrong = [e for e in [*two, *(("is_finite", e) for e in asked)] if not holds(e)]
    assert not wrong, wrong[:10]


def test_a_rule_that_holds_for_finite_numbers_alone_is_seen():
    with np.errstate(all="ignore"):
        for rule, expression in (
            (np.float32(0), ("mul", 0.0, "a")),
            (INPUTS["a"], ("add", "a", 0.0)),
            (np.float32(0), ("sub", "a", "a")),
            (np.float32(1), ("div", "a", "a")),
        ):
            assert not same(rule, plainly(expression), "float")
