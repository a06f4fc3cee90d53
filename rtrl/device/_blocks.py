"""Groups of statements as loops in C."""

import re
from collections.abc import Callable

from rtrl.device._expressions import C_TYPES, LETTERS, Printer
from rtrl.device._functions import function
from rtrl.device._memory import Memory
from rtrl.device._names import Names
from rtrl.device._node import Node
from rtrl.device._order import Group
from rtrl.device._reads import INNER, Affine, Index, operand_index
from rtrl.device._rounds import alike, extents, merged, merged_inner, repeated
from rtrl.device._statements import Output, Program, Statement

_BEGIN = {
    "sum": "0.0f",
    "prod": "1.0f",
    "max": "-INFINITY",
    "min": "INFINITY",
    "and": "1",
    "or": "0",
}
_JOIN = {"max": ("maximum", "max"), "min": ("minimum", "min")}


class Blocks:
    """Writes the body of a function."""

    def __init__(
        self,
        program: Program,
        memory: Memory,
        names: Names,
        inputs: dict[Node, tuple[str, bool]],
        comment: Callable[[Group], str],
    ):
        self.program = program
        self.memory = memory
        self.names = names
        self.inputs = inputs
        self.comment = comment
        self.helpers: dict[str, str] = {}
        self.lines: list[str] = []
        self.depth = 1

    def write(self, groups: list[Group]) -> list[str]:
        guard, said = None, ""
        for group in groups:
            if group.guard != guard:
                if guard is not None:
                    self._close()
                    self._blank()
                if group.guard is not None:
                    printer = self._printer(0)
                    predicate = printer(group.guard.predicate, ())
                    self._blank()
                    self._open(f"if ({'' if group.guard.expected else '!'}{predicate}) {{")
                guard = group.guard
            text = self.comment(group)
            if text and text != said:
                if not self.lines[-1:] or not self.lines[-1].endswith("{"):
                    self._blank()
                self._line(f"/* {text} */")
                said = text
            self._group(group)
        if guard is not None:
            self._close()
        return self.lines

    def _line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def _blank(self) -> None:
        if self.lines and self.lines[-1] != "":
            self.lines.append("")

    def _open(self, text: str) -> None:
        self._line(text)
        self.depth += 1

    def _close(self) -> None:
        self.depth -= 1
        self._line("}")

    def _loop(self, letter: str, extent: int) -> None:
        self._open(f"for (int {letter} = 0; {letter} < {extent}; {letter}++) {{")

    def _printer(self, outside: int, merged: frozenset[int] = frozenset()) -> Printer:
        printer = Printer(self._name, outside, merged)
        printer.helpers = self.helpers
        return printer

    def _name(self, node: Node) -> tuple[str, bool] | None:
        if node in self.inputs:
            return self.inputs[node]
        if node in self.program.home:
            output = self.program.home[node]
            assert output.old is not None
            return self.inputs[output.old]
        if node in self.memory.local:
            return self.names.of(node), False
        if node in self.memory.offset:
            return self.names.of(node), True
        return None

    def _group(self, group: Group) -> None:
        if group.spread:
            self._spread(group)
            return
        run = merged(group)
        lengths = extents(group.shape, run)
        n = len(group.shape)
        for i in range(n):
            if i not in run:
                self._loop(LETTERS[i], lengths[i])
        self._body(group, n, run)
        for i in range(n):
            if i not in run:
                self._close()

    def _body(self, group: Group, n: int, run: frozenset[int]) -> None:
        printer = self._printer(n, run)
        again = repeated([s for s in group.items if not s.inner], self._name)
        i = 0
        while i < len(group.items):
            s = group.items[i]
            if s.inner:
                together = [s]
                while i + 1 < len(group.items) and alike(group.items[i + 1], together):
                    i += 1
                    together.append(group.items[i])
                self._sums(together, n)
            elif s.partners:
                self._at_once(s.all, printer, again)
                i += len(s.partners)
            else:
                self._keep(s, printer, again)
                self._assign(s, printer, printer(s.value, s.index, s.first))
            i += 1

    def _at_once(self, items: list[Statement], printer: Printer, again: set) -> None:
        """Statements that overwrite what the others read: all are computed, then all written."""
        values = []
        for s in items:
            self._keep(s, printer, again)
            values.append(self.names.fresh(s.node))
            value = printer(s.value, s.index, s.first)
            self._line(f"const {C_TYPES[s.node.dtype]} {values[-1]} = {value};")
        for s, value in zip(items, values, strict=True):
            self._assign(s, printer, value)

    def _keep(self, s: Statement, printer: Printer, again: set[tuple[Node, Index]]) -> None:
        """Name what several statements of the loop compute alike."""

        def visit(node: Node, index: Index, first: bool = False) -> None:
            if not first and ((node, index) in printer.kept or self._name(node) is not None):
                return
            for operand in node.operands if node.op in ("map", "view") else ():
                visit(operand, operand_index(node, operand, index))
            if (node, index) in again and not first and (node, index) not in printer.kept:
                name = self.names.fresh(node)
                self._line(f"const {C_TYPES[node.dtype]} {name} = {printer(node, index)};")
                printer.kept[node, index] = name

        visit(s.value, s.index, s.first)

    def _assign(self, s: Statement, printer: Printer, value: str) -> None:
        target = self._target(s, printer)
        if target is None:
            node = s.target
            assert isinstance(node, Node)
            name = self.names.of(node)
            kind = "" if node in self.memory.outside else f"const {C_TYPES[node.dtype]} "
            self._line(f"{kind}{name} = {value};")
            return
        self._line(_assignment(target, value))

    def _target(self, s: Statement, printer: Printer) -> str | None:
        """What a statement assigns to; ``None`` for a variable that it declares."""
        if isinstance(s.target, Output):
            name, is_array = self.inputs[s.target.old] if s.target.old else (s.target.name, True)
            if s.target.old is None and not s.target.shape and s.target.name == "skipped":
                return s.target.name
        else:
            found = self._name(s.target)
            assert found is not None
            name, is_array = found
            if s.target in self.memory.local:
                return None
        return printer.element(name, s.where) if is_array else name

    def _sums(self, together: list[Statement], n: int) -> None:
        """Sums over the same axes in one loop, each in a variable of its own."""
        outer_printer = self._printer(n)
        totals = []
        for s in together:
            target = self._target(s, outer_printer)
            outside = s.node in self.memory.outside
            name = self.names.of(s.node) if target is None else self.names.new("sum")
            how = s.node.what[0]
            begin = _BEGIN[how] if s.node.dtype == "float" or how in ("and", "or") else "0"
            kind = "" if outside else C_TYPES[s.node.dtype] + " "
            self._line(f"{kind}{name} = {begin};")
            totals.append((s, name, target, how))
        run = merged_inner(together)
        lengths = extents(together[0].inner, run)
        r = len(together[0].inner)
        for i in range(r):
            if i not in run:
                self._loop(LETTERS[n + i], lengths[i])
        printer = self._printer(n, frozenset(INNER + i for i in run))
        again = repeated(together, self._name)
        for s, name, _, how in totals:
            self._keep(s, printer, again)
            self._line(self._join(how, name, printer.text(s.value, s.index)))
        for i in range(r):
            if i not in run:
                self._close()
        for _, name, target, _ in totals:
            if target is not None:
                self._line(f"{target} = {name};")

    def _join(self, how: str, name: str, value: tuple[str, int]) -> str:
        text, _ = value
        if how == "sum":
            return (
                _assignment(name, f"{name} + {text}")
                if text.startswith("-")
                else f"{name} += {text};"
            )
        if how == "prod":
            return f"{name} *= {text};"
        if how in _JOIN:
            helper, row = _JOIN[how]
            text_of = function(row, "float").helper
            assert text_of is not None
            self.helpers[row] = text_of
            return f"{name} = {helper}({name}, {text});"
        return f"{name} {'&' if how == 'and' else '|'}= {text};"  # a truth value is 0 or 1

    def _spread(self, group: Group) -> None:
        """Sums whose matrix is read row by row: every row is added to the whole result."""
        n, r = len(group.shape), len(group.inner)
        for s in group.items:
            name, is_array = self._where(s)
            size = 1
            for extent in group.shape:
                size *= extent
            assert is_array
            start = Affine(s.where.offset, ((0, 1),))
            self._loop("i", size)
            self._line(f"{self._printer(n).element(name, start)} = 0.0f;")
            self._close()
        for i in range(r):
            self._loop(LETTERS[n + i], group.inner[i])
        for i in range(n):
            self._loop(LETTERS[i], group.shape[i])
        printer = self._printer(n)
        again = repeated(group.items, self._name)
        for s in group.items:
            self._keep(s, printer, again)
            target = printer.element(self._where(s)[0], s.where)
            self._line(self._join("sum", target, printer.text(s.value, s.index)))
        for _ in range(n + r):
            self._close()

    def _where(self, s: Statement) -> tuple[str, bool]:
        if isinstance(s.target, Output):
            return self.inputs[s.target.old] if s.target.old else (s.target.name, True)
        found = self._name(s.target)
        assert found is not None
        return found


def _assignment(target: str, value: str) -> str:
    """``a += b`` for ``a = a + b``."""
    for sign in "+-":
        begin = f"{target} {sign} "
        if value.startswith(begin) and _one_term(value[len(begin) :]):
            return f"{target} {sign}= {value[len(begin) :]};"
    return f"{target} = {value};"


def _one_term(text: str) -> bool:
    """Whether an expression is a product or less, outside of its parentheses."""
    depth, outside = 0, ""
    for letter in text:
        depth -= letter == ")"
        outside += letter if depth == 0 else ""
        depth += letter == "("
    return not re.search(r" (?:[-+?<>|&]|[<>=!]=|&&|\|\|) ", outside)
