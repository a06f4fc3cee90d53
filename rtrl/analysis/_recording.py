"""What the cells of a network see and do on a window: inputs, states, derivatives, errors."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, PyTree

from rtrl.cells import cells_of
from rtrl.engine import (
    Carry,
    Gradients,
    LocalRule,
    Modules,
    Partials,
    apply_transposed,
    is_carry,
    without_trace,
)
from rtrl.rules import BPTT


class Record(NamedTuple):
    """One cell on a window of K timesteps of B samples (B = 1 without a batch axis).

    Attributes:
        states: after every timestep, ``(K, B, d, N)``.
        partials: the one-step derivatives, every one of full length ``(K, B, ...)``.
        errors: of the states, by spatial backpropagation at the same timestep, ``(K, B, d, N)``;
            ``None`` for a network that does not say ``recurs_once``.
    """

    states: Inexact[Array, "K B d N"]
    partials: Partials
    errors: Inexact[Array, "K B d N"] | None


class _Seen(eqx.Module):
    """What takes the place of a trace: arrays with the batch axis first, as a carry has it."""

    arrays: Any


class _Recorder(LocalRule):
    """Learns nothing: hands out what the engine gives to a rule.

    Forward the one-step derivatives come out in place of the trace; with ``errors``, a number of
    timesteps, the backward pass gives the errors in place of it.
    """

    errors: int = eqx.field(default=0, static=True)

    trace_type: ClassVar[type] = _Seen

    def init_trace(self, cell: Any, parameters: int, batch_size: int | None) -> _Seen:
        m = Modules(cell)
        lead = (self.errors,) if batch_size is None else (batch_size, self.errors)
        return _Seen(jnp.zeros((*lead, *m.initial.shape), m.dtype))

    def local(
        self, trace: _Seen, partials: Partials, deltas: Array
    ) -> tuple[Gradients, _Seen, Array]:
        seen = deltas if self.errors else _in_full(partials, *deltas.shape[:2])
        seen = _Seen(jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), seen))
        return without_trace(partials, deltas), seen, deltas


def _in_full(partials: Partials, length: int, batch: int) -> Partials:
    full = jax.tree.map(
        lambda a: jnp.broadcast_to(a, (length, batch, *a.shape[2:])),
        partials._replace(recurrent=()),
    )
    # The weights have no time axis; they are the cell's, and found there.
    return full


@eqx.filter_jit
def record(
    model: PyTree,
    xs: Array,
    states: PyTree,
    loss: Any = None,
    ys: PyTree = None,
    weights: Any = None,
    resets: Bool[Array, "K *batch"] | None = None,
) -> tuple[PyTree, list[Record]]:
    """Run a network over a window and say what each of its cells saw and did.

    Args:
        model: the network.
        xs: inputs, ``(K, [batch,] in_size)``.
        states: the carry to begin with, without traces.
        loss, ys, weights: for the errors; without a loss there are none.
        resets: where a sequence begins.

    Returns the predictions, and a record of every cell, in the order of `cells_of`.
    """
    batched = jax.tree.leaves(states)[0].ndim == 2
    batch = jax.tree.leaves(states)[0].shape[0] if batched else None
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def with_trace(rule: _Recorder) -> PyTree:
        cells = iter(cells_of(model))
        return jax.tree.map(
            lambda c: Carry(c.state, rule.init_trace(next(cells), 0, batch)),
            states, is_leaf=is_carry,
        )  # fmt: skip

    def run(params, carry, rule=None):
        return eqx.combine(params, static)(xs, carry, rule=rule, resets=resets, mask=None, key=None)

    forward = _Recorder()
    predictions, after = run(params, with_trace(forward), forward)
    partials = [_time_first(c.trace.arrays, batched) for c in _carries(after)]

    errors: list[Any] = [None] * len(partials)
    if loss is not None and getattr(model, "recurs_once", False):
        backward = _Recorder(errors=len(xs))
        carry = with_trace(backward)
        predicted, pull = backward.differentiate(
            lambda p, c: run(p, c, backward), params, carry, once=True
        )
        slopes = _errors(loss, predicted, ys, weights)
        _, after = pull(slopes)
        errors = [_time_first(c.trace.arrays, batched) for c in _carries(after)]

    def step(carry, inputs):
        x, reset = inputs
        reset = None if reset is None else reset[None]
        _, carry = model(x[None], carry, rule=BPTT(), resets=reset, mask=None, key=None)
        return carry, carry

    _, path = jax.lax.scan(step, states, (xs, resets))
    records = []
    for cell, c, p, e in zip(cells_of(model), _carries(path), partials, errors, strict=True):
        m = Modules(cell)
        h = m.stack(c.state)
        h = h if batched else h[:, None]
        records.append(Record(h, p._replace(recurrent=m.recurrent()), e))
    return predictions, records


def _carries(carry: PyTree) -> list[Carry]:
    return jax.tree.leaves(carry, is_leaf=is_carry)


def _time_first(arrays: PyTree, batched: bool) -> PyTree:
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1) if batched else a[:, None], arrays)


def _errors(loss: Any, predictions: PyTree, ys: PyTree, weights: Array) -> PyTree:
    """The derivative of the weighted loss by every prediction."""
    slope = jax.grad(loss)
    for _ in range(weights.ndim):
        slope = jax.vmap(slope)
    slopes = slope(predictions, ys)
    samples = 1 if weights.ndim == 1 else weights.shape[1]

    def weigh(a):
        w = jnp.expand_dims(weights / samples, range(weights.ndim, a.ndim))
        return jnp.where(w == 0, 0, a * w).astype(a.dtype)

    return jax.tree.map(weigh, slopes)


def propagate_back(partials: Partials, errors: Inexact[Array, "K B d N"]) -> Array:
    """Carry the errors of every timestep to the state before it: ``(dh_t/dh_{t-1})^T e_t``.

    ::

        F^T e = D^T e + sum over U of slope * (U^T (J^U . e))
    """
    before = apply_transposed(partials.D, errors)
    if partials.slope is None:
        return before
    to_seen = jnp.zeros_like(errors[..., 0, :])
    for U, J in zip(partials.recurrent, partials.J[partials.first_recurrent :], strict=True):
        to_v = (J * errors).sum(-2)
        to_v = to_v.sum(-1, keepdims=True) if U.shape[0] == 1 else to_v
        to_seen = to_seen + to_v @ U
    return before + partials.slope * to_seen[..., None, :]
