"""What a cell carries from one timestep to the next."""

import equinox as eqx
from jaxtyping import Array, PyTree


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
