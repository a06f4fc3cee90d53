"""Scratch memory: values that are not needed at the same time share it."""

from typing import NamedTuple

from rtrl.device._node import Node
from rtrl.device._order import Group
from rtrl.device._statements import Program


class Memory(NamedTuple):
    """Where values are.

    Attributes:
        local: those of one round of a loop, and single numbers: variables.
        offset: of the others, in the scratch memory of their kind.
        size: of the scratch memory of every kind, in numbers.
        outside: single numbers that are set in one block and read in another.
    """

    local: set[Node]
    offset: dict[Node, int]
    size: dict[str, int]
    outside: set[Node]


def allocate(program: Program, groups: list[Group]) -> Memory:
    first: dict[Node, int] = {}
    last: dict[Node, int] = {}
    many: set[Node] = set()  # read elsewhere than where they are made
    for i, group in enumerate(groups):
        for s in group.items:
            if isinstance(s.target, Node) and s.target not in program.home:
                first.setdefault(s.target, i)
                last[s.target] = i
                if s.spread:
                    many.add(s.target)
        for s in group.items:
            for read in s.reads:
                if read.node in first:
                    last[read.node] = max(last[read.node], i)
                    makers = [m for m in group.items if m.target is read.node]
                    if not makers or any(m.where != read.where for m in makers):
                        many.add(read.node)
    local, outside = set(), set()
    for node in first:
        if node.shape == ():
            local.add(node)
        elif node not in many and node.op != "concat":
            local.add(node)
    blocks = _blocks(groups)
    for i, group in enumerate(groups):
        for s in group.items:
            needed = [r.node for r in s.reads]
            if s.guard is not None:
                needed.append(s.guard.predicate)
            for node in needed:
                known = node in local and node.shape == ()
                if known and blocks[i] != blocks[first[node]] and groups[first[node]].guard:
                    outside.add(node)
    offset: dict[Node, int] = {}
    size: dict[str, int] = {}
    placed: list[Node] = []
    arrays = [n for n in first if n not in local]
    for node in sorted(arrays, key=lambda n: (-n.size, n.number)):
        alive = [
            o for o in placed
            if o.dtype == node.dtype and first[o] <= last[node] and first[node] <= last[o]
        ]  # fmt: skip
        here = 0
        for other in sorted(alive, key=lambda o: offset[o]):
            if here + node.size <= offset[other]:
                break
            here = max(here, offset[other] + other.size)
        offset[node] = here
        size[node.dtype] = max(size.get(node.dtype, 0), here + node.size)
        placed.append(node)
    return Memory(local, offset, size, outside)


def _blocks(groups: list[Group]) -> list[int]:
    """Groups that follow each other under the same guard are one block."""
    numbers: list[int] = []
    for i, group in enumerate(groups):
        same = i > 0 and groups[i - 1].guard == group.guard
        numbers.append(numbers[-1] if same else i)
    return numbers
