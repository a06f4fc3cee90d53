"""What a network carries before the first timestep."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from rtrl.cells import Cell, cells_of
from rtrl.engine._carry import Carry
from rtrl.engine._contract import check_cell
from rtrl.engine._rule import Rule, check_fit, check_rule
from rtrl.validate import require


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

    check_rule(rule)
    require(
        batch_size is None or (isinstance(batch_size, int) and batch_size >= 1),
        "batch_size",
        "None (no batch axis) or an integer of at least 1",
        batch_size,
    )
    cells = cells_of(tree)
    require(bool(cells), "tree", "a cell or a network that holds cells", type(tree).__name__)
    # Counted over the whole tree: `ExactRTRL` has a direction for every parameter of the network.
    parameters = sum(a.size for a in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array)))

    def carry(cell: Cell) -> Carry:
        check_cell(cell)
        check_fit(rule, cell)
        state = jax.tree.map(
            lambda h: h if batch_size is None else jnp.tile(h, (batch_size, 1)), cell.initial()
        )
        return Carry(state, rule.init_trace(cell, parameters, batch_size))

    return carry(tree) if isinstance(tree, Cell) else tuple(carry(cell) for cell in cells)
