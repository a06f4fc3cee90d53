"""What a compiled program does, read off its optimized HLO: multiply-adds, buffers, aliases.

Counts every instruction as often as it runs: the body of a loop as often as its known trip count
says, that of a loop without one once (as `in_place` of the engine makes them), a conditional as its
costliest branch.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

BYTES = {"f32": 4, "c64": 8, "f64": 8, "c128": 16, "s32": 4, "u32": 4, "pred": 1, "u8": 1, "s8": 1}
#: Move no data: names for what is already there.
FREE = {"parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all"}
CONTROL = {"while", "call", "conditional"}


class Instruction(NamedTuple):
    name: str
    shape: str
    opcode: str
    operands: list[str]
    text: str


class Program:
    """The computations of a compiled program by name, each a list of instructions."""

    def __init__(self, text: str):
        self.text = text
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        current: list[Instruction] = []
        for line in text.splitlines():
            head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
            if head:
                current = self.computations.setdefault(head[2], [])
                self.entry = head[2] if head[1] else self.entry
            elif instruction := _instruction(line):
                current.append(instruction)

    def total(self, cost: Callable[["Program", str, Instruction], float], inside_fusions: bool):
        """Sum of a cost over all instructions that run."""

        def of(name: str) -> float:
            return sum(one(name, i) for i in self.computations.get(name, []))

        def one(name: str, i: Instruction) -> float:
            if i.opcode == "while":
                trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', i.text)
                body = re.search(r"body=%?([\w.\-]+)", i.text)
                assert body, i.text[:200]
                return (int(trips[1]) if trips else 1) * of(body[1])
            if i.opcode == "conditional":
                return max(of(branch) for branch in _branches(i.text))
            if i.opcode == "call" or (i.opcode == "fusion" and inside_fusions):
                called = re.search(r"(?:to_apply|calls)=%?([\w.\-]+)", i.text)
                assert called, i.text[:200]
                return of(called[1])
            return cost(self, name, i)

        return of(self.entry)

    def shape_of(self, computation: str, operand: str) -> str:
        for i in self.computations[computation]:
            if i.name == operand:
                return i.shape
        return ""

    def flops(self) -> float:
        """Floating-point operations of all matrix products: two a multiply-add."""
        return self.total(_dot_flops, inside_fusions=True)

    def instructions(self) -> float:
        """How many instructions run that do something, a fusion being one."""
        return self.total(lambda _, __, i: i.opcode not in FREE, inside_fusions=False)

    def passes(self, shape: str) -> dict[str, float]:
        """How often buffers of a shape are read and written, and by copies among them."""

        def reads(program, computation, i):
            if i.opcode in FREE:
                return 0
            return sum(program.shape_of(computation, o) == shape for o in i.operands)

        def writes(_, __, i):
            return 0 if i.opcode in FREE else i.shape.split("{")[0].count(shape) if (
                not i.shape.startswith("(")) else i.shape.count(shape + "{")  # fmt: skip

        def copies(_, __, i):
            return int(i.opcode.startswith("copy") and i.shape.startswith(shape))

        return {
            "read": self.total(reads, inside_fusions=False),
            "written": self.total(writes, inside_fusions=False),
            "copied": self.total(copies, inside_fusions=False),
        }

    def aliased(self) -> int:
        """How many results reuse the memory of an argument."""
        header = self.text.split("\n", 1)[0]
        found = re.search(r"input_output_alias=\{(.*?)\}, entry", header)
        return found[1].count("-alias") if found else 0


def _instruction(line: str) -> Instruction | None:
    match = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$", line)
    if not match:
        return None
    name, shape, opcode, rest = match.groups()
    operands = re.findall(r"%([\w.\-]+)", rest.split("), ")[0].split(")")[0])
    return Instruction(name, re.sub(r"\{[^}]*\}", "", shape) if shape[0] != "(" else shape,
                       opcode, operands, line)  # fmt: skip


def _branches(text: str) -> list[str]:
    many = re.search(r"branch_computations=\{(.*?)\}", text)
    if many:
        return re.findall(r"%?([\w.\-]+)", many[1])
    return re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", text)


def dimensions(shape: str) -> list[int]:
    found = re.search(r"\[([\d,]*)\]", shape)
    return [int(n) for n in found[1].split(",") if n] if found else []


def _dot_flops(program: Program, computation: str, i: Instruction) -> float:
    if i.opcode != "dot":
        return 0.0
    left = dimensions(program.shape_of(computation, i.operands[0]))
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", i.text)
    assert contracted, i.text
    size = 2.0
    for n in dimensions(i.shape):
        size *= n
    for axis in contracted[1].split(","):
        size *= left[int(axis)] if axis else 1
    return size
