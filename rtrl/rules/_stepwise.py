"""What rules share whose trace mixes modules: one timestep after the other, the full Jacobian.

The one-step Jacobian is never written out. With everything else held fixed a state depends on the
one before directly and through what the modules see of each other::

    F = dh_t/dh_{t-1} = D + sum over U of J^U U slope,   slope = doutput/dh_{t-1}
"""

import abc
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact

from rtrl.engine import Gradients, LocalRule, Partials, apply_transposed, choose_zero


class StepwiseRule(LocalRule):
    """A rule that says how its trace advances by a timestep and what an error reads off it.

    Errors reach the layers below through the same timestep.
    """

    @abc.abstractmethod
    def advance(self, trace: Any, partials: Partials) -> Any:
        """Advance the trace by one timestep.

        Args:
            trace: before the timestep, with a batch axis.
            partials: the one-step derivatives, whose arrays have no time axis here.

        Returns the trace after the timestep.
        """

    @abc.abstractmethod
    def read(self, trace: Any, partials: Partials, errors: Inexact[Array, "B d N"]) -> Gradients:
        """Give the gradient of a timestep, summed over the batch.

        Args:
            trace: after the timestep, with a batch axis.
            partials: as for `advance`.
            errors: of the states, by spatial backpropagation.
        """

    def local(
        self, trace: Any, partials: Partials, deltas: Inexact[Array, "K B d N"]
    ) -> tuple[Gradients, Any, Inexact[Array, "K B d N"]]:
        weights = partials.recurrent

        def step(trace, timestep):
            partials, errors = timestep
            # Closed over and not scanned: the recurrent weights have no time axis.
            partials = partials._replace(recurrent=weights)
            trace = self.advance(_begin_anew(trace, partials.resets), partials)
            return trace, self.read(trace, partials, errors)

        def add(state, timestep):
            trace, total = state
            trace, gradients = step(trace, timestep)
            return (trace, jax.tree.map(jnp.add, total, gradients)), None

        timesteps = (_in_full(partials, *deltas.shape[:2]), deltas)
        first = jax.tree.map(lambda a: a[0], timesteps)
        # A step is a chunk of one: no loop, and no zeros to add to.
        if deltas.shape[0] == 1:
            trace, gradients = step(trace, first)
            return gradients, trace, deltas
        # Summed along the way: a gradient for every timestep would take memory that grows with K.
        shapes = jax.eval_shape(step, trace, first)[1]
        zeros = jax.tree.map(jnp.zeros_like, shapes)
        (trace, gradients), _ = jax.lax.scan(add, (trace, zeros), timesteps)
        return gradients, trace, deltas


def _begin_anew(trace: Any, reset: Bool[Array, " B"] | None) -> Any:
    """No sensitivity where a sequence begins; what is not one, such as a key, goes on."""
    return jax.tree.map(
        lambda a: choose_zero(reset, a) if jnp.issubdtype(a.dtype, jnp.inexact) else a, trace
    )


def _in_full(partials: Partials, length: int, batch: int) -> Partials:
    """Every timestep and sample on its own, the recurrent weights taken out."""
    return jax.tree.map(
        # Scanning and drawing signs need an axis for every timestep and sample, where the engine
        # gives length 1 for all that is alike.
        lambda a: jnp.broadcast_to(a, (length, batch, *a.shape[2:])),
        partials._replace(recurrent=()),
    )


def forward(partials: Partials, z: Inexact[Array, "B d N *rest"]) -> Array:
    """``F z``, of a timestep."""
    # Whatever axes z has behind the modules, F acts on each of their entries alike.
    columns = z.reshape(*z.shape[:3], -1)
    after = jnp.einsum("bijn,bjnr->binr", partials.D, columns)
    if partials.slope is not None:
        seen = jnp.einsum("bjn,bjnr->bnr", partials.slope, columns)
        for U, J in _recurrent(partials):
            # N x N by N x R for every U, without writing F, which has (d N)^2 numbers.
            after = after + J[..., None] * jnp.einsum("mn,bnr->bmr", U, seen)[:, None]
    return after.reshape(z.shape)


def backward(partials: Partials, e: Inexact[Array, "B d N"]) -> Array:
    """``F^T e``, of a timestep."""
    before = apply_transposed(partials.D, e)
    slope = partials.slope
    if slope is not None:
        to_seen = jnp.zeros_like(e[:, 0])
        for U, J in _recurrent(partials):
            to_v = (J * e).sum(1)
            # What all modules share gets the errors of all.
            to_v = to_v.sum(-1, keepdims=True) if U.shape[0] == 1 else to_v
            to_seen = to_seen + to_v @ U
        before = before + slope * to_seen[:, None]
    return before


def _recurrent(partials: Partials):
    return zip(partials.recurrent, partials.J[partials.first_recurrent :], strict=True)


def distinct_inputs(partials: Partials) -> tuple[Array | None, Array | None]:
    """The two vectors that weights multiply: x (``None`` if no weight does), output(h_{t-1})."""
    x = next((x for x in partials.inputs[: partials.first_recurrent] if x is not None), None)
    # All input weights multiply the same x, all recurrent ones the same output: two vectors stand
    # for all projections.
    return x, partials.inputs[-1] if partials.recurrent else None


def per_projection(partials: Partials, x: Any, seen: Any) -> tuple:
    """Put what stands for these two vectors in the places of the projections with a weight."""
    return tuple(
        None if v is None else x if p < partials.first_recurrent else seen
        for p, v in enumerate(partials.inputs)
    )
