"""Sums and products over axes, and products of matrices: a product is a sum over an axis more."""

from collections.abc import Callable
from typing import Any

from rtrl.device._complex import Pair, Value, pair, real
from rtrl.device._graph import Graph
from rtrl.device._node import Axis, Node
from rtrl.device._shapes import kept, squeezed, whole


def _reduce(name: str) -> Callable[..., Node]:
    def rule(g: Graph, eqn: Any, x: Node) -> Node:
        shape = eqn.invars[0].aval.shape
        axes = [kept(shape).index(a) for a in eqn.params["axes"] if shape[a] != 1]
        if x.op == "const" and name != "sum" and name != "prod":
            return x
        return g.reduce(name, whole(g, x, eqn.invars[0].aval), axes)

    return rule


REDUCTIONS: dict[str, Callable[..., Node]] = {
    f"reduce_{name}": _reduce(name) for name in ("sum", "prod", "max", "min", "and", "or")
}
#: Those that a complex array goes through part by part.
PLANEWISE = {"reduce_sum"}


def dot_general(g: Graph, eqn: Any, a: Value, b: Value) -> Value:
    if not isinstance(a, Pair) and not isinstance(b, Pair):
        return _contract(g, eqn, a, b)
    a, b = pair(g, a), pair(g, b)
    m = g.map

    def part(x: Node, y: Node) -> Node:
        return _contract(g, eqn, x, y)

    if real(a) or real(b):  # as in a product of two numbers
        none = g.const(0, "float")
        im = none if real(a) and real(b) else part(a.im, b.re) if real(b) else part(a.re, b.im)
        return Pair(part(a.re, b.re), im)
    return Pair(
        m("sub", part(a.re, b.re), part(a.im, b.im)), m("add", part(a.re, b.im), part(a.im, b.re))
    )


def _contract(g: Graph, eqn: Any, a: Node, b: Node) -> Node:
    (sums_a, sums_b), (same_a, same_b) = eqn.params["dimension_numbers"]
    shape_a, shape_b = (v.aval.shape for v in eqn.invars)
    free_a = [i for i in range(len(shape_a)) if i not in (*sums_a, *same_a)]
    free_b = [i for i in range(len(shape_b)) if i not in (*sums_b, *same_b)]
    # The axes of everything that is multiplied: those of the result, then those summed over.
    space = [*(shape_a[i] for i in (*same_a, *free_a)), *(shape_b[i] for i in free_b)]
    result = squeezed(tuple(space))
    space = [*space, *(shape_a[i] for i in sums_a)]
    place = {axis: i for i, axis in enumerate(kept(tuple(space)))}
    lead, left, right = len(same_a), len(free_a), len(free_b)
    first_sum = lead + left + right

    def spread(x: Node, shape: tuple[int, ...], same: Any, free: Any, offset: int, sums: Any):
        if x.shape == ():
            return x
        at = {
            **{axis: i for i, axis in enumerate(same)},
            **{axis: offset + i for i, axis in enumerate(free)},
            **{axis: first_sum + i for i, axis in enumerate(sums)},
        }
        return g.view(x, squeezed(tuple(space)), [Axis(place[at[i]]) for i in kept(shape)])

    product = g.map(
        "mul",
        spread(a, shape_a, same_a, free_a, lead, sums_a),
        spread(b, shape_b, same_b, free_b, lead + left, sums_b),
    )
    if product.shape == () and squeezed(tuple(space)):
        product = g.broadcast(product, squeezed(tuple(space)))
    return g.reduce("sum", product, range(len(result), len(squeezed(tuple(space)))))
