"""What a cell carries from one timestep to the next."""

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from rtrl._validate import require
from rtrl.cells._base import Cell, cells_of
from rtrl.cells._check import check_cell

if TYPE_CHECKING:
    from rtrl.rules._base import Rule


class Carry(eqx.Module):
    """The hidden state of a cell and its sensitivity to the cell's parameters.

    Attributes:
        state: the cell's state, leaves ``([B,] N)``.
        trace: the rule's trace of it, ``None`` for a rule without one.
    """

    state: PyTree[Array]
    trace: PyTree[Array] = None


def is_carry(node: object) -> bool:
    return isinstance(node, Carry)


class Deferred(eqx.Module):
    """A trace that advances in the backward pass: its derivative is the trace after the chunk.

    The engine's own device, so that one pass over a trace both advances it and reads the gradient
    off it, which needs an error that the forward pass does not know yet.

    Attributes:
        trace: the trace before the chunk.
        spent: whether a recurrence has taken it, so that the next can't.
    """

    trace: PyTree[Array]
    spent: bool = eqx.field(static=True, default=False)

    def to_come(self, after: PyTree[Array]) -> "Deferred":
        """What takes its place after the forward pass: what has no derivative has advanced."""
        waiting, _ = eqx.partition(self.trace, eqx.is_inexact_array)
        _, advanced = eqx.partition(after, eqx.is_inexact_array)
        return Deferred(eqx.combine(waiting, advanced), spent=True)


def defer(carry: PyTree[Carry]) -> tuple[PyTree, PyTree]:
    """Make the traces `Deferred`; split them from the rest, for `eqx.combine` to join."""
    deferred = jax.tree.map(lambda c: Carry(c.state, Deferred(c.trace)), carry, is_leaf=is_carry)
    traces = jax.tree.map(
        lambda c: Carry(
            jax.tree.map(lambda _: False, c.state),
            jax.tree.map(eqx.is_inexact_array, c.trace),
        ),
        deferred,
        is_leaf=is_carry,
    )
    return eqx.partition(deferred, traces)


def settle(after: PyTree[Carry], traces: PyTree) -> PyTree[Carry]:
    """The carry after a chunk from what the forward and the backward pass gave."""

    def join(c: Carry, derivative: Carry) -> Carry:
        if not c.trace.spent:  # a cell that was not run
            return Carry(c.state, c.trace.trace)
        _, advanced = eqx.partition(c.trace.trace, eqx.is_inexact_array)
        return Carry(c.state, eqx.combine(derivative.trace.trace, advanced))

    return jax.tree.map(join, after, traces, is_leaf=is_carry)


def init_carry(tree: PyTree, rule: "Rule", batch_size: int | None = None) -> PyTree[Carry]:
    """Give what the cells of a network carry before the first timestep.

    Args:
        tree: a cell, or any pytree that holds cells, such as an Equinox network.
        rule: the learning rule, which decides what the trace is.
        batch_size: samples, or ``None`` for no batch axis.

    Returns:
        For a cell its `Carry`; for anything else a tuple with one `Carry` per cell, in the order
        in which ``jax.tree.leaves`` meets them (an Equinox module's fields in order of
        definition). All leaves have the batch axis first.

    Raises:
        ValueError: there is no cell, a cell breaks the contract of `Cell` (its modules interact,
            it is complex and not holomorphic, ...), the rule can't learn a cell, or an argument is
            of the wrong kind.
    """
    from rtrl.rules._base import check_fit, check_rule  # rules are made of traces

    check_rule(rule)
    require(
        batch_size is None or (isinstance(batch_size, int) and batch_size >= 1),
        "batch_size",
        "None (no batch axis) or an integer of at least 1",
        batch_size,
    )
    cells = cells_of(tree)
    require(bool(cells), "tree", "a cell or a network that holds cells", type(tree).__name__)
    parameters = sum(a.size for a in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array)))

    def carry(cell: Cell) -> Carry:
        check_cell(cell)
        check_fit(rule, cell)
        state = jax.tree.map(
            lambda h: h if batch_size is None else jnp.tile(h, (batch_size, 1)), cell.initial()
        )
        return Carry(state, rule.init_trace(cell, parameters, batch_size))

    return carry(tree) if isinstance(tree, Cell) else tuple(carry(cell) for cell in cells)
