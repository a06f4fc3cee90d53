"""The trace: how it advances over a chunk, and the gradient it gives.

The local phase of the learning step. For a chunk of K timesteps with parameters held fixed,
one-step derivatives D, J, E and errors delta:

    e_K = delta_K,   e_k = delta_k + D_{k+1}^T e_{k+1},   a_0 = D_1^T e_1
    P_K = 1,         P_{k-1} = P_k D_k

    grad W     = sum_k (J_k e_k) x_k^T + a_0 * s^W_0
    grad theta = sum_k E_k e_k         + a_0 * s^theta_0
    s^W_K      = P_0 s^W_0     + sum_k (P_k J_k) x_k^T
    s^theta_K  = P_0 s^theta_0 + sum_k P_k E_k

Axes: K timesteps, B samples, d numbers per module, N modules, H inputs. Complex errors follow
JAX's convention, dl = Re(delta dh). Nothing divides by D, so a reset is D = 0; what it multiplies
may have overflowed, so where resets are given zero is chosen.

Source: Zucchet et al. (2023), equations B.5-B.10, summed over a chunk.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from rtrl import kernels
from rtrl.engine._matrices import (
    apply,
    choose_zero,
    outer_sum,
    suffix_products,
    temporal_errors,
)
from rtrl.engine._partials import Partials
from rtrl.engine._xla import branch, in_place, sum_over_few, sum_over_samples, sum_over_time


class Trace(eqx.Module):
    """Sensitivity of a layer's state to its own parameters.

    Attributes:
        projections: dh/dW for every projection weight, input ones first, ``([B,] d, N, H)``;
            ``None`` where there is no weight.
        modules: dh/dtheta for every module parameter by name, ``([B,] d, N)``.
    """

    projections: tuple[Inexact[Array, "*B d N H"] | None, ...]
    modules: dict[str, Inexact[Array, "*B d N"]]


#: Of the projections' weights, ``(N, H)`` each, and of the module parameters by name, ``(N,)``.
Gradients = tuple[tuple[Array | None, ...], dict[str, Array]]


def with_trace(
    trace: Trace,
    partials: Partials,
    deltas: Inexact[Array, "K B d N"],
    implementation: str | None = None,
    *,
    consume: bool = False,
) -> tuple[Gradients, Trace, Inexact[Array, "K B d N"]]:
    """The local phase: gradients, the trace after the chunk, and the errors ``e_k``.

    ``consume``: nothing else reads the trace, so it advances in the memory that it is in.
    """
    # Settled before anything else is asked: a process without a GPU never looks at the kernel.
    if implementation is None and jax.default_backend() != "gpu":
        implementation = "xla"
    if implementation != "xla":
        return _with_kernel(trace, partials, deltas, implementation, consume=consume)
    if deltas.shape[0] == 1:
        advance = partial(in_place, advance_once) if consume else advance_once
        after = advance(trace, partials)
        # A stream has targets for few of its timesteps, or for none while it waits: the gradient of
        # a timestep without an error is zero, and reading the trace would be for nothing.
        wanted = (deltas != 0).any()
        if consume and deltas.shape[1] == 1:  # fuses with what is done to the gradient
            gradients = read(after, deltas[0])
            # `where`, as a trace that has overflowed would make NaN of an error of zero.
            return jax.tree.map(lambda g: jnp.where(wanted, g, 0), gradients), after, deltas
        gradients = branch(
            wanted,  # no target, no pass over the trace
            read,
            lambda trace, errors: jax.tree.map(jnp.zeros_like, jax.eval_shape(read, trace, errors)),
            after,
            deltas[0],
        )
        return gradients, after, deltas
    # Inside the chunk the errors go back to the inputs; what is left of them at its beginning meets
    # the trace, which stands for all inputs before.
    errors, boundary = temporal_errors(deltas, partials.D, partials.resets)
    within = without_trace(partials, errors)
    credit = read(trace, boundary, choose=partials.resets is not None)
    gradients = jax.tree.map(jnp.add, within, credit)
    return gradients, _advance(trace, partials, len(deltas)), errors


def with_window(
    trace: Trace,
    partials: Partials,
    deltas: Inexact[Array, "L B d N"],
    advance: int,
    implementation: str | None = None,
    *,
    consume: bool = False,
) -> tuple[Gradients, Trace, Inexact[Array, "L B d N"]]:
    """The local phase of a window: the gradients of all of it, the trace after ``advance``
    timesteps, and the errors ``e_k``.

    What comes later sends its errors to the end of the part that the trace advances by, and there
    they are errors of the state like any others::

        delta_A <- delta_A + D_{A+1}^T e_{A+1}
    """
    first, rest = (
        _part(partials, len(deltas), part) for part in (slice(advance), slice(advance, None))
    )
    later, boundary = temporal_errors(deltas[advance:], rest.D, rest.resets)
    own = jnp.concatenate([deltas[: advance - 1], deltas[advance - 1 : advance] + boundary])
    gradients, after, errors = with_trace(trace, first, own, implementation, consume=consume)
    gradients = jax.tree.map(jnp.add, gradients, without_trace(rest, later))
    return gradients, after, jnp.concatenate([errors, later])


def _part(partials: Partials, length: int, part: slice) -> Partials:
    """Some of the timesteps; what is alike in all of them stays as it is."""
    timesteps = jax.tree.map(
        lambda a: a[part] if len(a) == length else a, partials._replace(recurrent=())
    )
    return timesteps._replace(recurrent=partials.recurrent)


def _with_kernel(
    trace: Trace,
    partials: Partials,
    deltas: Array,
    implementation: Any,
    *,
    consume: bool,
) -> tuple[Gradients, Trace, Array]:
    """The same, every projection's trace advanced and read in one pass by the fused kernel."""

    def projection(s, J, x):
        arguments = (partials.D, J, x, deltas)
        if s is None or not kernels.serves(implementation, s, *arguments):
            return None
        s, lost = _handed_over(s, partials.resets, deltas)
        gradient, s = kernels.diagonal_trace(s, *arguments, implementation=implementation)
        return gradient if lost is None else jnp.where(lost, jnp.nan, gradient), s

    done = tuple(map(projection, trace.projections, partials.J, partials.inputs))
    # What the kernel has done is taken out, and all else goes the ordinary way: module parameters,
    # and projections that the kernel does not serve.
    rest = Trace(
        tuple(s if d is None else None for s, d in zip(trace.projections, done, strict=True)),
        trace.modules,
    )
    inputs = (x if d is None else None for x, d in zip(partials.inputs, done, strict=True))
    (weights, modules), after, errors = with_trace(
        rest, partials._replace(inputs=tuple(inputs)), deltas, "xla", consume=consume
    )
    weights = (w if d is None else d[0] for w, d in zip(weights, done, strict=True))
    advanced = (s if d is None else d[1] for s, d in zip(after.projections, done, strict=True))
    return (tuple(weights), modules), Trace(tuple(advanced), after.modules), errors


def _handed_over(s: Array, resets: Array | None, deltas: Array) -> tuple[Array, Array | None]:
    """A trace for the kernel, which multiplies by zero: without what a reset will discard.

    Also whether an error before that reset should have met a number that is gone. What overflows
    inside the chunk, before its reset, is still multiplied.
    """
    if resets is None:
        return s, None
    if len(resets) == 1:
        return choose_zero(resets[0], s), None
    gone = resets.any(0)[:, None, None, None] & ~jnp.isfinite(s)
    before = jnp.cumsum(resets, 0) == 0
    met = (before & (deltas != 0).any((2, 3))).any(0)
    return jnp.where(gone, 0, s), (gone.any((1, 2, 3)) & met).any()


def without_trace(partials: Partials, errors: Inexact[Array, "K B d N"]) -> Gradients:
    """The gradients of what happens inside a chunk, with errors ``e_k``."""
    return (
        tuple(
            # Time and batch in one matrix product: no gradient per sample or timestep is ever
            # written.
            None if x is None else outer_sum("kbn,kbh->nh", (J * errors).sum(2), x)
            for J, x in zip(partials.J, partials.inputs, strict=True)
        ),
        {name: (E * errors).sum((0, 1, 2)) for name, E in partials.E.items()},
    )


def advance_once(trace: Trace, partials: Partials) -> Trace:
    """Advance the trace by one timestep: ``s <- D s + J x``."""
    D, reset = partials.D[0], None if partials.resets is None else partials.resets[0]

    def projection(s, J, x):
        if s is None:
            return None
        return choose_zero(reset, _decayed(D, s)) + J[0][..., None] * x[0][:, None, None, :]

    def module(s, E):
        return choose_zero(reset, apply(D, s)) + E[0]

    return Trace(
        tuple(map(projection, trace.projections, partials.J, partials.inputs)),
        {name: module(trace.modules[name], E) for name, E in partials.E.items()},
    )


def _advance(trace: Trace, partials: Partials, length: int) -> Trace:
    """Advance the trace over a chunk: one GEMM and one pass."""
    P, P0 = suffix_products(partials.D, length)
    reset = discarded = None
    if partials.resets is not None:  # some time in the chunk; later in it, for every timestep
        reset = partials.resets.any(0)
        since = jax.lax.cumsum(partials.resets.astype(jnp.int32), reverse=True)
        discarded = since > partials.resets.astype(jnp.int32)

    def projection(s, J, x):
        if s is None:
            return None
        drive, x = choose_zero(discarded, apply(P, J)), choose_zero(discarded, x)
        drive = jnp.broadcast_to(drive, (length, *drive.shape[1:]))
        if drive.shape[1] == 1:  # the same for every sample: one GEMM
            new = outer_sum("kin,kbh->binh", drive[:, 0], x)
        else:
            new = outer_sum("kbin,kbh->binh", drive, x)
        return choose_zero(reset, _decayed(P0, s)) + new

    def module(s, E):
        return choose_zero(reset, apply(P0, s)) + sum_over_time(choose_zero(discarded, apply(P, E)))

    return Trace(
        tuple(map(projection, trace.projections, partials.J, partials.inputs)),
        {name: module(trace.modules[name], E) for name, E in partials.E.items()},
    )


def _decayed(D: Array, s: Array) -> Array:
    """``D s``: every input column of the trace decays alike."""
    if s.shape[1] == 1:
        return D[:, 0, :, :, None] * s
    return sum_over_few(D[..., None] * s[:, None], 2)


def read(trace: Trace, errors: Inexact[Array, "B d N"], *, choose: bool = False) -> Gradients:
    """Gradients ``sum over the batch of error * s``.

    ``choose``: an error of zero reads nothing, also off a trace that overflowed.
    """

    def met(errors, s):
        return choose_zero(errors == 0, errors * s) if choose else errors * s

    def projection(s):
        # The d numbers of a module count as samples: the gradient sums over both alike.
        weights, rows = errors.reshape(-1, errors.shape[-1], 1), s.reshape(-1, *s.shape[2:])
        return sum_over_samples(met, weights, rows, products=not choose)

    def module(s):
        return met(errors, s).sum((0, 1))

    return (
        tuple(None if s is None else projection(s) for s in trace.projections),
        {name: module(s) for name, s in trace.modules.items()},
    )
