"""The program as statements: what is computed, where it goes, when it may be left out."""

from dataclasses import dataclass, field
from typing import NamedTuple

from rtrl.device._node import Node, natural_strides
from rtrl.device._reads import INNER, Affine, Index, Read, at, outer, place, reads, reads_of
from rtrl.device._store import choose, live


class Guard(NamedTuple):
    """A statement that is run only if a truth value is as expected."""

    predicate: Node
    expected: bool


@dataclass(eq=False)
class Statement:
    """One array, or a part of one, is computed.

    Attributes:
        node: what it computes.
        value: the node whose expression is evaluated (its operand, for a sum).
        index: of ``value``, in loop variables.
        shape: extents of the loops over the result.
        inner: extents of the loops summed over.
        target: the node or output whose memory it writes.
        where: the place written.
        guard: when it runs; ``None`` for always.
        reads: what it reads.
        first: whether the expression of ``value`` is computed here even if it has memory: this
            statement is what fills it.
        partners: statements that read what this one overwrites and overwrite what it reads, such
            as that of the imaginary part: all are computed before any is written.
    """

    node: Node
    value: Node
    index: Index
    shape: tuple[int, ...]
    inner: tuple[int, ...]
    target: "Node | Output"
    where: Affine
    first: bool
    guard: Guard | None = None
    reads: list[Read] = field(default_factory=list)
    number: int = 0
    partners: list["Statement"] = field(default_factory=list)

    @property
    def all(self) -> "list[Statement]":
        return [self, *self.partners]

    @property
    def spread(self) -> bool:
        """Whether a sum is better added to whole rows of the result: its matrix is read by rows."""
        if not self.inner or not self.shape or self.node.what[0] != "sum":
            return False
        last, run = INNER + len(self.inner) - 1, len(self.shape) - 1
        across = along = 0
        for read in self.reads:
            if read.where is None:
                continue
            row, column = read.where.factor(last), read.where.factor(run)
            across += abs(row) > 1 and column == 1
            along += row == 1 and abs(column) > 1
        return across > along


class Output(NamedTuple):
    """Memory that outlives a step (a part of the state), or that the caller gave."""

    name: str
    node: Node
    old: Node | None  # the input that it was before

    @property
    def shape(self) -> tuple[int, ...]:
        return self.old.shape if self.old is not None else self.node.shape


class Program(NamedTuple):
    statements: list[Statement]
    stored: set[Node]
    home: dict[Node, Output]  # values that are computed in the memory of an output


def statements(outputs: list[Output], apart: set[str]) -> Program:
    """Turn outputs into statements; each part of the state is updated in place if it can be.

    Args:
        outputs: what a step leaves behind.
        apart: names of the parts of the state that are computed elsewhere and copied at the end.
    """
    roots, guards = [], {}
    for output in outputs:
        if output.node is output.old:
            continue
        node, guard = _guarded(output)
        roots.append((output, node))
        if guard is not None:
            guards[output.name] = guard
    predicates = [g.predicate for g in guards.values()]
    nodes = live([*(n for _, n in roots), *predicates])
    elsewhere = [n for o, n in roots if o.name in apart and n.op != "const"]
    stored = choose(nodes, [n for _, n in roots], [*predicates, *elsewhere])
    program = Program([], stored, {})
    for output, node in roots:
        guard, old = guards.get(output.name), output.old
        free = guard is None and old is not None and output.name not in apart
        if free and node not in program.home and node.op in ("map", "reduce"):
            if old is not None and node.shape == old.shape:
                program.home[node] = output
                stored.add(node)
    for node in nodes:
        if node in stored:
            _store(program, node)
    for output, node in roots:
        if program.home.get(node) is not output:
            _write(program, output, node, guards.get(output.name))
    _place_guards(program)
    return program


def _guarded(output: Output) -> tuple[Node, Guard | None]:
    """Where one arm of a choice leaves an output as it was, it is written only in the other."""
    node, old = output.node, output.old
    if old is not None and node.op == "map" and node.what == "select":
        predicate, yes, no = node.operands
        if predicate.shape == () and no is old:
            return yes, Guard(predicate, True)
        if predicate.shape == () and yes is old:
            return no, Guard(predicate, False)
    return node, None


def _add(program: Program, statement: Statement) -> None:
    evaluate = reads_of if statement.first else reads
    statement.reads = list(evaluate(statement.value, statement.index, program.stored))
    program.statements.append(statement)


def _store(program: Program, node: Node) -> None:
    number = node.number
    if node.op == "reduce":
        name, axes = node.what
        x, index, n, r = node.operands[0], [], 0, 0
        for axis in range(len(x.shape)):
            if axis in axes:
                index.append(Affine.of(INNER + r))
                r += 1
            else:
                index.append(Affine.of(n))
                n += 1
        inner = tuple(x.shape[a] for a in axes)
        own = outer(node.shape)
        _add(program, Statement(node, x, tuple(index), node.shape, inner, node, at(node, own),
                                False, number=number))  # fmt: skip
    elif node.op == "concat":
        axis, offset, strides = node.what, 0, natural_strides(node.shape)
        for piece in node.operands:
            row = len(piece.shape) < len(node.shape)
            own = list(outer(piece.shape))
            index = [*own[:axis], Affine(0), *own[axis:]] if row else own
            where = place(strides, tuple(index), offset * strides[axis])
            _add(program, Statement(node, piece, tuple(own), piece.shape, (), node, where, False,
                                    number=number))  # fmt: skip
            offset += 1 if row else piece.shape[axis]
    else:
        own = outer(node.shape)
        _add(program, Statement(node, node, own, node.shape, (), node, at(node, own), True,
                                number=number))  # fmt: skip


def _write(program: Program, output: Output, node: Node, guard: Guard | None) -> None:
    shape = output.shape
    own = outer(shape)
    where = place(natural_strides(shape), own)
    index = own if node.shape else ()
    _add(program, Statement(node, node, index, shape, (), output, where, False, guard,
                            number=node.number))  # fmt: skip


def _place_guards(program: Program) -> None:
    """What only guarded statements need is computed under their guard."""
    readers: dict[Node, list[Statement]] = {}
    for s in program.statements:
        for read in s.reads:
            readers.setdefault(read.node, []).append(s)
        if s.guard is not None:
            readers.setdefault(s.guard.predicate, []).append(None)  # type: ignore[arg-type]
    for s in sorted(program.statements, key=lambda s: -s.number):
        if isinstance(s.target, Output) or s.target in program.home:
            continue
        found = readers.get(s.target, [])
        if found and all(r is not None and r.guard is not None for r in found):
            guards = {r.guard for r in found}
            if len(guards) == 1:
                s.guard = guards.pop()
