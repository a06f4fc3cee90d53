"""What a cell carries from one timestep to the next."""

import dataclasses

import equinox as eqx
import jax
from jaxtyping import Array, PyTree


class Carry(eqx.Module):
    """The hidden state of a cell and its sensitivity to the cell's parameters.

    Attributes:
        state: the cell's state, leaves ``([B,] N)``.
        trace: the rule's trace of it, ``None`` for a rule without one.
        newest: where chunks overlap, the state after the newest timestep: ``state`` and ``trace``
            are then those of ``overlap`` timesteps before. Else ``None``.
        advance: timesteps of a window by which `recur` is to advance ``state`` and ``trace``, so
            that the next window begins there; ``None`` (outside of a window) for all of them.
    """

    state: PyTree[Array]
    trace: PyTree[Array] = None
    newest: PyTree[Array] = None
    advance: int | None = eqx.field(static=True, default=None)


def is_carry(node: object) -> bool:
    return isinstance(node, Carry)


def kept_behind(carry: PyTree[Carry]) -> PyTree[Carry]:
    """What a network carries, as that of a window: the newest state is where the carry is."""
    return _each(lambda c: dataclasses.replace(c, newest=c.state), carry)


def into_window(carry: PyTree[Carry], advance: int) -> PyTree[Carry]:
    """What a network is given of it for a window, whose first ``advance`` timesteps it is to
    advance by."""
    return _each(lambda c: dataclasses.replace(c, newest=None, advance=advance), carry)


def out_of_window(carry: PyTree[Carry]) -> PyTree[Carry]:
    """What is carried on after a window."""
    return _each(lambda c: dataclasses.replace(c, advance=None), carry)


def _each(function, carry: PyTree[Carry]) -> PyTree[Carry]:
    return jax.tree.map(function, carry, is_leaf=is_carry)
