"""What JAX's primitives do to the course of a program: choices, and loops of known length."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rtrl.device._complex import Pair, Value, pair
from rtrl.device._elementwise import select
from rtrl.device._graph import Graph
from rtrl.device._node import Axis, Node
from rtrl.device._refused import Refused
from rtrl.device._shapes import join_rows, squeezed
from rtrl.engine import scan_layout

#: Gives the outputs of a closed jaxpr for its arguments.
Walk = Callable[[Graph, Any, list[Any]], list[Any]]
ROUNDS = 64  # of a loop that is written out


def _platform_index(g: Graph, eqn: Any, operands: list[Any], walk: Walk) -> list[Any]:
    """The program for any machine: what suits XLA on a CPU does not suit C."""
    platforms = eqn.params["platforms"]
    return [g.const(next(i for i, p in enumerate(platforms) if p is None), "int")]


def _cond(g: Graph, eqn: Any, operands: list[Any], walk: Walk) -> list[Any]:
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
        next((c for c in cases if isinstance(c, Refused)), None) or select(g, [which, *cases])
        for cases in zip(*results, strict=True)
    ]


def _while(g: Graph, eqn: Any, operands: list[Any], walk: Walk) -> list[Any]:
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


def _scan(g: Graph, eqn: Any, operands: list[Any], walk: Walk) -> list[Any]:
    p = eqn.params
    (n, m), length = scan_layout(eqn), p["length"]
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
    stacked = [_stacked(g, [out[i] for out in outs], v.aval) for i, v in enumerate(eqn.outvars[m:])]
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


def _stacked(g: Graph, rows: list[Any], aval: Any) -> Value:
    if any(isinstance(r, Pair) for r in rows):
        parts = [pair(g, r) for r in rows]
        return Pair(*(join_rows(g, [p[i] for p in parts], aval.shape) for i in (0, 1)))
    return join_rows(g, rows, aval.shape)


CONTROL: dict[str, Any] = {
    "platform_index": _platform_index,
    "cond": _cond,
    "while": _while,
    "scan": _scan,
}
