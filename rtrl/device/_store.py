"""Which values get memory, and which are computed where they are used."""

from collections.abc import Iterable

from rtrl.device._functions import function
from rtrl.device._node import Node

_ALWAYS = {"reduce", "concat"}
#: Of a matrix with several users, a number that costs more is probably stored: a gradient, from
#: which new parameters are judged and then computed again.
DEAR = 8


def live(roots: Iterable[Node]) -> list[Node]:
    """All that the roots are made of, operands first."""
    found: set[Node] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.operands
    return sorted(found, key=lambda n: n.number)


def choose(nodes: list[Node], roots: Iterable[Node], wanted: Iterable[Node]) -> set[Node]:
    """The nodes to store.

    A value is stored if computing it again wherever it is used costs more than writing and reading
    it. For a matrix, memory counts four times as much: what is in one only passes through. A matrix
    that is made of one kept in fewer bits is never stored: that would take what those bits saved.

    Args:
        nodes: from `live`.
        roots: what goes into outputs.
        wanted: what must be in memory for another reason.
    """
    cost = _costs(nodes)
    stored = set(wanted) | {n for n in nodes if n.op in _ALWAYS}
    for node in nodes:
        if node.op in ("flat", "take") and node.operands[0].op not in ("input", "table"):
            stored.add(node.operands[0])
    narrow = _of_narrow(nodes)
    rounds: dict[Node, dict[object, int]] = {n: {} for n in nodes}  # who computes it, how often
    ends = set(roots)
    for node in reversed(nodes):
        if node in ends and node not in stored:
            rounds[node][node.shape] = node.size  # updates of one shape share a loop
        times = sum(rounds[node].values())
        if node.op == "map" and node not in stored and node not in narrow:
            weight = 4 if len(node.shape) > 1 else 1
            extra = cost[node] * (times - node.size)
            if node.shape == ():
                keep = times > 1
            else:
                keep = extra > weight * (node.size + times)
            if keep and len(rounds[node]) + (times > node.size) > 1:
                stored.add(node)
        inside = {node: _iterations(node)} if node in stored else rounds[node]
        for operand in node.operands:
            into = rounds[operand]
            for user, n in inside.items():
                into[user] = max(into.get(user, 0), n)
    return {n for n in stored if n.op not in ("const", "input", "table")}


def _of_narrow(nodes: list[Node]) -> set[Node]:
    """Matrices whose numbers are made of ones of fewer than 32 bits, number by number."""
    found: set[Node] = set()
    for node in nodes:
        if node.op in ("map", "view") and len(node.shape) > 1:
            if any(o.dtype in ("ushort", "schar") or o in found for o in node.operands):
                found.add(node)
    return found


def _iterations(node: Node) -> int:
    return node.operands[0].size if node.op == "reduce" else node.size


def _costs(nodes: list[Node]) -> dict[Node, int]:
    """What it costs to compute a number where it is used, down to what is probably stored."""
    users: dict[Node, int] = {}
    for node in nodes:
        for operand in set(node.operands):
            users[operand] = users.get(operand, 0) + 1
    cost: dict[Node, int] = {}
    for node in nodes:
        own = function(node.what, node.operands[0].dtype).cost if node.op == "map" else 0
        below = 0
        for o in () if node.op in _ALWAYS else node.operands:
            small = o.size < node.size
            shared = users[o] > 1 and cost[o] > (3 if len(o.shape) < 2 else DEAR)
            below += min(cost[o], 1) if small or shared else cost[o]
        cost[node] = own + below
    return cost
