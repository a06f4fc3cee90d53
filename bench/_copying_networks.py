"""The four networks of table 4.1, with as many parameters as the paper's."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax

import rtrl


class Kind(NamedTuple):
    """A column of the table: features between the layers, depth, modules, cell, parameters."""

    width: int
    depth: int
    modules: int
    cell: Any
    parameters: int


class Linear(rtrl.cells.LinearRNN):
    """A dense linear recurrence that begins as in the released code."""

    def __init__(self, in_size: int, hidden_size: int, *, key):
        A_key, B_key = jax.random.split(key)
        A = jax.random.truncated_normal(A_key, -2, 2, (hidden_size, hidden_size))
        self.A = A / math.sqrt(hidden_size)
        self.B = jax.random.normal(B_key, (hidden_size, in_size)) / math.sqrt(in_size)


CELLS = {
    "LRU": Kind(128, 4, 64, rtrl.cells.LRU, 268_430),
    "linear": Kind(146, 4, 64, Linear, 267_956),
    "GRU, 1 layer": Kind(134, 1, 134, rtrl.cells.GRU, 269_488),
    "GRU, 4 layers": Kind(91, 4, 91, rtrl.cells.GRU, 270_011),
}


def network(cell: str, key) -> rtrl.SequenceModel:
    kind = CELLS[cell]
    more: dict[str, Any] = {"dropout": 0.1}
    if kind.depth == 1:
        hidden = eqx.nn.MLP(kind.width, 14, 1072, 1, key=jax.random.fold_in(key, 1))
        more = {"glu": None, "activation": unchanged, "dropout": 0.0, "decoder": hidden}
    model = rtrl.SequenceModel(
        8, 14, kind.width, kind.depth, lambda size, key: kind.cell(size, kind.modules, key=key),
        key=key, **more,
    )  # fmt: skip
    if kind.cell is rtrl.cells.GRU:  # its units are the features
        model = eqx.tree_at(lambda m: [b.readout for b in m.layers], model, [units] * kind.depth)
    sizes = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    assert sum(a.size for a in sizes) == kind.parameters, sum(a.size for a in sizes)
    return model


def units(output, x):
    return output


def unchanged(y):
    return y
