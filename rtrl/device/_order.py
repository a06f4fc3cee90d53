"""The order of statements, and which of them share a loop."""

from collections.abc import Sequence
from dataclasses import dataclass

from rtrl.device._node import Node
from rtrl.device._reads import Affine
from rtrl.device._statements import Guard, Output, Program, Statement, statements


@dataclass(eq=False)
class Group:
    """Statements in one nest of loops over ``shape``.

    ``spread``: sums that are added to whole rows of the result, loops over ``inner`` outside.
    """

    shape: tuple[int, ...]
    guard: Guard | None
    items: list[Statement]
    spread: bool
    inner: tuple[int, ...] = ()


def arrange(outputs: list[Output]) -> tuple[Program, list[Group]]:
    """Statements for the outputs, in an order in which no old value is lost before it is read."""
    apart: set[str] = set()
    while True:
        program = statements(outputs, apart)
        before, lost = _dependencies(program)
        if not lost:
            return program, _grouped(program, before)
        apart |= lost


def _dependencies(program: Program) -> tuple[dict[Statement, set[Statement]], set[str]]:
    """What must come before each statement; and outputs that can't be written in place."""
    makers: dict[Node, list[Statement]] = {}
    writers: dict[Node, tuple[str, list[Statement]]] = {}  # of an old value: who overwrites it
    for s in program.statements:
        output = _output(program, s)
        if isinstance(s.target, Node):
            makers.setdefault(s.target, []).append(s)
        if output is not None and output.old is not None:
            writers.setdefault(output.old, (output.name, []))[1].append(s)
    before: dict[Statement, set[Statement]] = {s: set() for s in program.statements}
    readers: dict[Node, list[tuple[Statement, Affine | None]]] = {}
    for s in program.statements:
        for read in s.reads:
            before[s].update(m for m in makers.get(read.node, ()) if m is not s)
            if read.node in writers:
                readers.setdefault(read.node, []).append((s, read.where))
        if s.guard is not None:
            before[s].update(makers.get(s.guard.predicate, ()))
    lost: set[str] = set()
    leader = {s: s for s in program.statements}
    for old in sorted(readers, key=lambda n: (-n.size, n.number)):  # large ones have precedence
        name, writing = writers[old]
        for w in writing:
            moved = any(s is w and (where != w.where or w.inner) for s, where in readers[old])
            others = {leader[s] for s, _ in readers[old] if leader[s] is not leader[w]}
            circle = {s for s in others if _reaches(before, {s}, leader[w])}
            for s in circle:
                if not moved and _partners(program, readers, s, w, before):
                    _join(before, leader, leader[w], s)
                else:
                    moved = True
            if moved:
                lost.add(name)
            else:
                before[leader[w]] |= {leader[s] for s in others} - {leader[w]}
    return before, lost


def _output(program: Program, s: Statement) -> Output | None:
    return s.target if isinstance(s.target, Output) else program.home.get(s.target)


def _partners(
    program: Program,
    readers: dict[Node, list[tuple[Statement, Affine | None]]],
    s: Statement,
    w: Statement,
    before: dict[Statement, set[Statement]],
) -> bool:
    """Whether two statements only exchange what is at the same place."""
    if s.shape != w.shape or s.inner or w.inner or s.guard != w.guard or s.partners:
        return False
    for one, other in ((s, w), (w, s)):
        output = _output(program, one)
        if output is None or output.old is None:
            return False
        places = [where for reader, where in readers.get(output.old, ()) if reader is other]
        if any(where != one.where for where in places):
            return False
    needed = (before[s] | before[w]) - {s, w}
    return not _reaches(before, needed, w) and not _reaches(before, needed, s)


def _join(
    before: dict[Statement, set[Statement]],
    leader: dict[Statement, Statement],
    w: Statement,
    s: Statement,
) -> None:
    """Make ``s`` a partner of ``w``: whoever waits for it waits for ``w``."""
    w.partners.append(s)
    leader[s] = w
    before[w] = (before[w] | before.pop(s)) - {s, w}
    for needed in before.values():
        if s in needed:
            needed.discard(s)
            needed.add(w)
    before[w].discard(w)


def _reaches(before: dict[Statement, set[Statement]], those: set[Statement], w: Statement) -> bool:
    """Whether any of ``those`` needs ``w`` to come first."""
    seen: set[Statement] = set()
    waiting = list(those)
    while waiting:
        s = waiting.pop()
        if s is w:
            return True
        if s not in seen:
            seen.add(s)
            waiting += before[s]
    return False


def _grouped(program: Program, before: dict[Statement, set[Statement]]) -> list[Group]:
    """Take one statement after the other, those that fit the open loop first."""
    left = {s: set(b) for s, b in before.items()}
    after: dict[Statement, list[Statement]] = {s: [] for s in before}
    for s, needed in before.items():
        for b in needed:
            after[b].append(s)
    ready = {s for s, needed in left.items() if not needed}
    groups: list[Group] = []
    while ready:
        group = groups[-1] if groups else None
        fit = [s for s in ready if group is not None and _fits(program, group, s, before)]
        s = min(fit or ready, key=lambda s: _precedence(s, group, bool(fit)))
        if fit:
            assert group is not None
            group.items += s.all
        else:
            groups.append(Group(s.shape, s.guard, s.all, s.spread, s.inner if s.spread else ()))
        ready.remove(s)
        for a in after[s]:
            left[a].discard(s)
            if not left[a]:
                ready.add(a)
        left.pop(s)
    assert not left, "a circle of statements"
    return groups


def _precedence(s: Statement, group: Group | None, fit: bool) -> tuple:
    """What is always done comes before what may be left out, else as in the source."""
    other = group is not None and s.guard != group.guard and s.guard is not None
    return (s.guard is not None and not fit, other, s.number)


def _fits(
    program: Program, group: Group, s: Statement, before: dict[Statement, set[Statement]]
) -> bool:
    """Whether a statement can be one more of a group."""
    if s.shape != group.shape or s.guard != group.guard or s.spread != group.spread:
        return False
    if group.spread:
        return s.inner == group.inner and not any(m in before[s] for m in group.items)
    if not s.shape and s.inner:  # sums to one number share a loop if none needs another
        last = group.items[-1]
        return not last.inner or last.inner == s.inner
    if not s.shape:
        return True
    return all(_together(program, m, one) for m in group.items for one in s.all)


def _together(program: Program, earlier: Statement, later: Statement) -> bool:
    """Whether two statements may take turns, one round of the loop each."""
    mine, yours = _memory(program, earlier.target), _memory(program, later.target)
    if mine == yours:
        return False
    for read in later.reads:
        if read.node is earlier.target or _memory_of_read(program, read.node) == mine:
            if read.where != earlier.where or earlier.spread:
                return False
    for read in earlier.reads:
        if _memory_of_read(program, read.node) == yours and read.where != later.where:
            return False
    return True


def _memory(program: Program, target: Node | Output) -> object:
    output = target if isinstance(target, Output) else program.home.get(target)
    if output is None:
        return target
    return output.old if output.old is not None else output.name


def _memory_of_read(program: Program, node: Node) -> object:
    return _memory(program, node) if node in program.home else node


def statements_of(groups: Sequence[Group]) -> list[Statement]:
    return [s for group in groups for s in group.items]
