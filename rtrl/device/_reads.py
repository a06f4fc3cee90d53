"""Where an expression looks: linear functions of loop variables."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rtrl.device._node import Node, natural_strides

#: Loop variables are numbers: those of the axes of a result, then from here on those summed over.
INNER = 100


class Affine(NamedTuple):
    """``offset + sum of factor * variable``."""

    offset: int
    terms: tuple[tuple[int, int], ...] = ()  # (variable, factor), no factor 0

    @staticmethod
    def of(variable: int) -> "Affine":
        return Affine(0, ((variable, 1),))

    def scaled(self, factor: int) -> "Affine":
        if factor == 0:
            return Affine(0)
        return Affine(self.offset * factor, tuple((v, f * factor) for v, f in self.terms))

    def plus(self, other: "Affine") -> "Affine":
        total = dict(self.terms)
        for v, f in other.terms:
            total[v] = total.get(v, 0) + f
        terms = tuple(sorted((v, f) for v, f in total.items() if f))
        return Affine(self.offset + other.offset, terms)

    def factor(self, variable: int) -> int:
        return dict(self.terms).get(variable, 0)


Index = tuple[Affine, ...]


def outer(shape: Sequence[int]) -> Index:
    """The index of a result at the variables of its own axes."""
    return tuple(Affine.of(i) for i in range(len(shape)))


def place(strides: Sequence[int], index: Index, offset: int = 0) -> Affine:
    total = Affine(offset)
    for stride, i in zip(strides, index, strict=True):
        total = total.plus(i.scaled(stride))
    return total


def at(node: Node, index: Index) -> Affine:
    """Where in the memory of an array an element is."""
    return place(natural_strides(node.shape), index)


def operand_index(node: Node, operand: Node, index: Index) -> Index:
    """Where an operand of a node that is computed on the way is read."""
    if node.op == "view":
        return tuple(
            Affine(a.offset)
            if a.axis is None
            else Affine(a.offset).plus(index[a.axis].scaled(a.stride))
            for a in node.what
        )
    return index if operand.shape else ()


class Read(NamedTuple):
    """An array in memory, and where in it; ``None`` if that is known only at run time."""

    node: Node
    where: Affine | None


def reads(node: Node, index: Index, stored: set[Node]) -> Iterator[Read]:
    """What the expression of a node reads, down to what is in memory."""
    if node in stored or node.op in ("input", "table"):
        yield Read(node, at(node, index))
    else:
        yield from reads_of(node, index, stored)


def reads_of(node: Node, index: Index, stored: set[Node]) -> Iterator[Read]:
    """The same for a node that is itself computed."""
    if node.op in ("map", "view"):
        for operand in node.operands:
            yield from reads(operand, operand_index(node, operand, index), stored)
    elif node.op == "flat":
        offset, strides = node.what
        yield Read(node.operands[0], place(strides, index, offset))
    elif node.op == "take":
        yield Read(node.operands[0], None)
        yield from reads(node.operands[1], (), stored)
