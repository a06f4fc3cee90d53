"""What a cell carries from one timestep to the next."""

import dataclasses

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from rtrl.engine._placement import Placement, of_carry, pin
from rtrl.engine._record import record


@record
class Carry:
    """The hidden state of a cell and its sensitivity to the cell's parameters.

    Attributes:
        state: the cell's state, leaves ``([B,] N)``.
        trace: the rule's trace of it, ``None`` for a rule without one.
        newest: where chunks overlap, the state after the newest timestep: ``state`` and ``trace``
            are then those of ``overlap`` timesteps before. Else ``None``.
        advance: timesteps of a window by which `recur` is to advance ``state`` and ``trace``, so
            that the next window begins there; ``None`` (outside of a window) for all of them.
        placement: where all this lives, if it is spread over devices.
    """

    state: PyTree[Array]
    trace: PyTree[Array] = None
    newest: PyTree[Array] = None
    advance: int | None = eqx.field(static=True, default=None)
    placement: Placement | None = eqx.field(static=True, default=None)


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


def placement_of(carry: PyTree[Carry]) -> Placement | None:
    """Where a network's memory lives, if it is spread over devices."""
    first = carry[0] if isinstance(carry, tuple) else carry  # asked at every step: no flattening
    if not is_carry(first):
        first = jax.tree.leaves(carry, is_leaf=is_carry)[0]
    return first.placement


def kept_in_place(carry: PyTree[Carry]) -> PyTree[Carry]:
    """In a compiled program: what a network carries lives where it did."""

    def one(c: Carry) -> Carry:
        if c.placement is None:
            return c
        batched = jax.tree.leaves(c.state)[0].ndim == 2
        return pin(c.placement, c, of_carry(c.placement, c, batched))

    return _each(one, carry)
