"""A function of C from what it leaves behind."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from rtrl.device._blocks import Blocks
from rtrl.device._expressions import C_TYPES, literal
from rtrl.device._memory import Memory, allocate
from rtrl.device._names import Names
from rtrl.device._node import DTYPES, Node
from rtrl.device._order import Group, arrange, statements_of
from rtrl.device._statements import Output
from rtrl.device._step import Traced
from rtrl.device._store import live

#: The scratch memory of every kind of number.
SCRATCH = {
    "float": "scratch", "int": "counts", "uint": "words", "bool": "flags", "ushort": "halves",
    "schar": "octets",
}  # fmt: skip


class Function(NamedTuple):
    """A function body, and what it needs around it."""

    body: list[str]
    helpers: dict[str, str]
    tables: dict[str, Node]
    scratch: dict[str, int]
    operations: int


def write(traced: Traced, table_names: Names) -> Function:
    program, groups = arrange(traced.outputs)
    memory = allocate(program, groups)
    names = Names()
    inputs: dict[Node, tuple[str, bool]] = {}
    tables: dict[str, Node] = {}
    for name, node in traced.inputs.items():
        inner = node.operands[0] if node.op == "map" else node  # a whole number given as a float
        member = name not in ("x", "y", "weight", "reset")
        if member:
            inputs[inner] = f"state.{name}", bool(inner.shape)
        elif name in ("x", "y") and not inner.shape:
            inputs[inner] = f"{name}[0]", False
        else:
            inputs[inner] = name, bool(inner.shape)
    for node in live(s.value for s in statements_of(groups)):
        if node.op == "table":
            name = table_names.new("table")
            inputs[node], tables[name] = (name, True), node
    paths = {node: name for name, node in traced.inputs.items()}
    blocks = Blocks(program, memory, names, inputs, lambda group: _comment(group, paths))
    lines = blocks.write(groups)
    return Function(
        [*_declarations(memory, names), *lines], blocks.helpers, tables, memory.size,
        _operations(groups),
    )  # fmt: skip


def _declarations(memory: Memory, names: Names) -> list[str]:
    """Where in the scratch memory arrays are, and numbers that several blocks use."""
    lines = []
    for node, offset in sorted(memory.offset.items(), key=lambda item: item[0].number):
        kind = C_TYPES[node.dtype]
        place = SCRATCH[node.dtype] + (f" + {offset}" if offset else "")
        lines.append(f"    {kind} *const {names.of(node)} = {place}; /* {node.size} */")
    for node in sorted(memory.outside, key=lambda n: n.number):
        zero = "0.0f" if node.dtype == "float" else "0"
        lines.append(f"    {C_TYPES[node.dtype]} {names.of(node)} = {zero};")
    return [*lines, ""] if lines else []


def _comment(group: Group, paths: dict[Node, str]) -> str:
    """What a loop is about: the function it comes from, and the part of the network it serves."""
    s = group.items[0]
    if isinstance(s.target, Output):
        targets = [t.target.name for t in group.items if isinstance(t.target, Output)]
        verb = "Give" if s.target.old is None else "Update"
        return f"{verb} {', '.join(targets)}"
    origin = s.node.origin
    where = ""
    if origin is not None and origin.file:
        function = origin.function.replace("<locals>.", "").replace(".<listcomp>", "")
        where = f"{function} in {Path(origin.file).name}"
    used = [paths[r.node] for t in group.items for r in t.reads if r.node in paths]
    used = list(dict.fromkeys(n for n in used if n not in ("x", "y", "weight", "reset")))
    of = ", ".join(used[:3]) + (", ..." if len(used) > 3 else "")
    return f"{where}: {of}" if of else where


def _operations(groups: list[Group]) -> int:
    """Additions and multiplications of floats, about."""
    total = 0
    for s in statements_of(groups):
        rounds = 1
        for n in (*s.shape, *s.inner):
            rounds *= n
        total += rounds * (_size(s.value, s.first, {r.node for r in s.reads}) + bool(s.inner))
    return total


def _size(node: Node, first: bool, stops: set[Node]) -> int:
    if node.op not in ("map", "view") or (not first and node in stops):
        return 0
    own = int(node.op == "map" and node.dtype == "float" and node.what != "select")
    return own + sum(_size(o, False, stops) for o in node.operands)


def table(name: str, node: Node) -> str:
    values = np.frombuffer(node.what, DTYPES[node.dtype])
    head = f"static const {C_TYPES[node.dtype]} {name}[{values.size}]"
    return f"{head} = {{\n{rows(values, node.dtype)}\n}};\n"


def rows(values, kind: str) -> str:
    texts = [literal(v, kind) for v in values.reshape(-1)]
    lines, line = [], "    "
    for text in texts:
        if len(line) + len(text) > 98:
            lines.append(line.rstrip())
            line = "    "
        line += text + ", "
    return "\n".join([*lines, line.rstrip().rstrip(",")])
