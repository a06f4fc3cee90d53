"""A trace that advances in the backward pass, so that one pass over it gives the gradient too."""

import dataclasses

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from rtrl.engine._carry import Carry, is_carry


class Deferred(eqx.Module):
    """A trace that advances in the backward pass: its derivative is the trace after the chunk.

    The engine's own device, so that one pass over a trace both advances it and reads the gradient
    off it, which needs an error that the forward pass does not know yet. Right only where one
    recurrence takes it and the model returns what that gives, which `check_once` proves.

    Attributes:
        trace: the trace before the chunk.
        place: of its cell, while `check_once` follows what a model does with it.
    """

    trace: PyTree[Array]
    place: int | None = eqx.field(static=True, default=None)

    def to_come(self, after: PyTree[Array]) -> "Deferred":
        """What takes its place after the forward pass: what has no derivative has advanced."""
        # The old trace stays in its place, as reverse mode asks the result for the same shapes; its
        # values are never read again.
        waiting, _ = eqx.partition(self.trace, eqx.is_inexact_array)
        _, advanced = eqx.partition(after, eqx.is_inexact_array)
        return Deferred(eqx.combine(waiting, advanced))


def defer(carry: PyTree[Carry]) -> tuple[PyTree, PyTree]:
    """Make the traces `Deferred`; split them from the rest, for `eqx.combine` to join."""
    deferred = jax.tree.map(
        lambda c: dataclasses.replace(c, trace=Deferred(c.trace)), carry, is_leaf=is_carry
    )
    # Only what can have a derivative may be an argument that is differentiated: a random rule's
    # keys stay in the other half.
    traces = jax.tree.map(
        lambda c: dataclasses.replace(
            c,
            state=jax.tree.map(lambda _: False, c.state),
            trace=jax.tree.map(eqx.is_inexact_array, c.trace),
        ),
        deferred,
        is_leaf=is_carry,
    )
    return eqx.partition(deferred, traces)


def settle(after: PyTree[Carry], traces: PyTree) -> PyTree[Carry]:
    """The carry after a chunk from what the forward and the backward pass gave."""

    def join(c: Carry, derivative: Carry) -> Carry:
        _, advanced = eqx.partition(c.trace.trace, eqx.is_inexact_array)
        return dataclasses.replace(c, trace=eqx.combine(derivative.trace.trace, advanced))

    return jax.tree.map(join, after, traces, is_leaf=is_carry)
