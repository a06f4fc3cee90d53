"""What is left out of an expression changes nothing, whatever the numbers: also inf, NaN, -0.0."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from rtrl.device._functions import FUNCTIONS
from rtrl.device._graph import Graph
from rtrl.device._node import DTYPES, Node, value_of
from rtrl.device._simplify import dtype_of

SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, -0.3, 3e38, -3e38, 1e-40, np.inf, -np.inf, np.nan]
SIZE = 3  # numbers of an input, so that sums have something to add

UNARY = ["neg", "square", "abs", "sqrt", "exp", "logistic", "sign"]
BINARY = ["add", "sub", "mul", "div", "max", "min"]
COMPARE = ["eq", "ne", "lt", "le", "gt", "ge"]

# An expression is a tuple: its function and its operands; a number; or the name of an input.
_constants = st.sampled_from(SPECIAL)
_floats = st.deferred(
    lambda: st.one_of(
        st.sampled_from("abc"),
        _constants,
        st.tuples(st.sampled_from(UNARY), _floats),
        st.tuples(st.sampled_from(BINARY), _floats, _floats),
        st.tuples(st.just("mul"), st.sampled_from([0.0, -0.0, 1.0, -1.0]), _floats),
        st.tuples(st.sampled_from(["add", "sub"]), _floats, st.sampled_from([0.0, -0.0])),
        st.tuples(st.just("sub"), st.sampled_from([0.0, -0.0]), _floats),
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
        kind = "bool" if expression in "pq" else "float"
        return g.input(expression, (SIZE,), kind)
    if isinstance(expression, float):
        return g.const(expression, "float")
    name, *operands = expression
    operands = [node_of(g, o) for o in operands]
    if name == "sum":
        x = g.broadcast(operands[0], (SIZE,)) if not operands[0].shape else operands[0]
        return g.broadcast(g.reduce("sum", x, (0,)), (SIZE,))
    return g.map(name, *operands)


def plainly(expression, inputs):
    """The value of an expression, as it is written."""
    if isinstance(expression, str):
        return inputs[expression]
    if isinstance(expression, float):
        return np.float32(expression)
    name, *operands = expression
    values = [plainly(o, inputs) for o in operands]
    if name == "sum":
        return _summed(values[0])
    return _applied(name, values)


def value(node: Node, inputs):
    """The value of a node of the graph."""
    if node.op == "input":
        return inputs[node.what]
    if node.op == "const":
        return value_of(node)
    values = [value(o, inputs) for o in node.operands]
    if node.op == "view":
        assert node.what == () or len(node.what) == 1
        return values[0]
    if node.op == "reduce":
        return _summed(values[0]) if node.what[0] == "sum" else np.broadcast_to(values[0], 3).all()
    assert dtype_of(node.what, node.operands) == node.dtype
    return _applied(node.what, values)


def _summed(a):
    total = np.float32(0)
    for number in np.broadcast_to(a, SIZE):
        total = np.float32(total + number)
    return total


def _applied(name, values):
    fold = FUNCTIONS[name].fold
    assert fold is not None
    return fold(*values)


def same(a, b, dtype) -> bool:
    """The same bits, but for those within a NaN."""
    a, b = (np.broadcast_to(np.asarray(x, DTYPES[dtype]), SIZE).copy() for x in (a, b))
    if dtype == "float":
        a, b = (np.where(np.isnan(x), np.float32(np.nan), x) for x in (a, b))
    return a.tobytes() == b.tobytes()


_numbers = st.lists(_constants, min_size=SIZE, max_size=SIZE).map(lambda x: np.array(x, "f4"))
_bits = st.lists(st.booleans(), min_size=SIZE, max_size=SIZE).map(np.array)
_inputs = st.fixed_dictionaries({**dict.fromkeys("abc", _numbers), **dict.fromkeys("pq", _bits)})
_ALL = {
    **dict.fromkeys("abc", np.array([np.inf, np.nan, -0.0], "f4")),
    **dict.fromkeys("pq", np.array([True, False, True])),
}


@given(st.one_of(_floats, _truths), _inputs)
@example(("mul", 0.0, "a"), _ALL)
@example(("add", "a", 0.0), _ALL)
@example(("sub", 0.0, ("neg", "a")), _ALL)
@example(("is_finite", ("sum", ("mul", 0.0, ("abs", "a")))), _ALL)
@example(("is_finite", ("add", "b", ("mul", 0.0, "a"))), _ALL)
def test_a_simplified_expression_has_the_same_value(expression, inputs):
    with np.errstate(all="ignore"):
        node = node_of(Graph(), expression)
        assert same(value(node, inputs), plainly(expression, inputs), node.dtype), node


def test_a_rule_that_holds_for_finite_numbers_alone_is_seen():
    with np.errstate(all="ignore"):
        assert not same(np.float32(0), plainly(("mul", 0.0, "a"), _ALL), "float")
        assert not same(_ALL["a"], plainly(("add", "a", 0.0), _ALL), "float")
        assert not same(np.float32(0), plainly(("sub", "a", "a"), _ALL), "float")
