"""Expressions keep their meaning and their order of rounding, with no parentheses to spare."""

import pytest

from rtrl.device._expressions import Printer
from rtrl.device._graph import Graph

G = Graph()
A, B, C = (G.input(name, (), "float") for name in "abc")
P, Q = (G.input(name, (), "bool") for name in "pq")


def m(name, *operands):
    return G.map(name, *operands)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (m("sub", A, m("sub", B, C)), "a - (b - c)"),
        (m("sub", m("sub", A, B), C), "a - b - c"),
        (m("div", A, m("mul", B, C)), "a / (b * c)"),
        (m("mul", A, m("add", B, C)), "a * (b + c)"),
        (m("add", A, m("mul", B, C)), "a + b * c"),
        (m("neg", m("mul", A, B)), "-(a * b)"),
        (m("select", P, m("select", Q, A, B), C), "p ? (q ? a : b) : c"),
        (m("or", P, m("and", Q, m("lt", A, B))), "p || (q && a < b)"),
        (m("to_float", m("lt", A, B)), "(float)(a < b)"),
        (m("add", A, m("mul", G.const(-2, "float"), B)), "a - 2.0f * b"),
        (m("mul", A, G.const(0, "float")), "0.0f * a"),
        (m("sub", A, G.const(float("inf"), "float")), "a - INFINITY"),
    ],
)
def test_an_expression_reads_as_a_person_would_write_it(node, text):
    names = {A: "a", B: "b", C: "c", P: "p", Q: "q"}
    printer = Printer(lambda n: (names[n], False) if n in names else None, 0)
    assert printer(node, ()) == text
