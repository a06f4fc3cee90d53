"""How loops run: which statements share one, which axes need none of their own."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from rtrl.device._node import Node
from rtrl.device._order import Group
from rtrl.device._reads import INNER, Affine, Index, operand_index
from rtrl.device._statements import Statement


def alike(s: Statement, together: list[Statement]) -> bool:
    made = {m.target for m in together}
    return s.inner == together[0].inner and not any(r.node in made for r in s.reads)


def repeated(items: list[Statement], name: Callable[[Node], Any]) -> set[tuple[Node, Index]]:
    """Parts of expressions that are worth a name, as they come up more than once."""
    seen: Counter = Counter()

    def visit(node: Node, index: Index, first: bool = False) -> None:
        if node.op not in ("map", "view") or (not first and name(node) is not None):
            return
        if node.op == "map" and not first:
            seen[node, index] += 1
            if seen[node, index] > 1:
                return
        for operand in node.operands:
            visit(operand, operand_index(node, operand, index))

    for s in items:
        visit(s.value, s.index, s.first)
    return {key for key, times in seen.items() if times > 1}


def merged(group: Group) -> frozenset[int]:
    """Axes that need no loop of their own, as memory runs through them in one go."""
    if any(s.inner for s in group.items):
        return frozenset()
    places = [s.where for s in group.items]
    for s in group.items:
        places += [r.where or Affine(0, ((i, 3 + i) for i in range(9))) for r in s.reads]  # type: ignore[arg-type]
        if _counts(s.value):
            return frozenset()
    return _run_through(group.shape, places, 0)


def merged_inner(items: list[Statement]) -> frozenset[int]:
    places = [r.where for s in items for r in s.reads]
    if any(p is None for p in places) or any(_counts(s.value) for s in items):
        return frozenset()
    return _run_through(items[0].inner, places, INNER)  # type: ignore[arg-type]


def _run_through(shape: tuple[int, ...], places: list[Affine], base: int) -> frozenset[int]:
    merged = set()
    for i in range(len(shape) - 1):
        if all(p.factor(base + i) == shape[i + 1] * p.factor(base + i + 1) for p in places):
            merged.add(i)
    return frozenset(merged)


def extents(shape: tuple[int, ...], merged: frozenset[int]) -> list[int]:
    extents, run = [], 1
    for i, n in enumerate(shape):
        run *= n
        extents.append(run)
        if i not in merged:
            run = 1
    return extents


def _counts(node: Node) -> bool:
    """Whether an expression uses the numbers of the loop themselves."""
    waiting, seen = [node], set()
    while waiting:
        n = waiting.pop()
        if n in seen:
            continue
        seen.add(n)
        if n.op in ("iota", "take"):
            return True
        if n.op in ("map", "view"):
            waiting += n.operands
    return False
