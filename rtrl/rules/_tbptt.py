"""Truncated BPTT over a window that slides by one timestep."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from rtrl.cells import Cell
from rtrl.engine import Gradients, Modules, Partials, structure, without_trace
from rtrl.rules._stepwise import StepwiseRule, backward, distinct_inputs, per_projection
from rtrl.validate import require


class Window(eqx.Module):
    """The one-step derivatives of the last k timesteps, oldest first; see `Partials`.

    Attributes:
        D: ``([B,] k, d, d, N)``.
        J: for every projection, ``([B,] k, d, N)``.
        E: for every module parameter by name, ``([B,] k, d, N)``.
        x: inputs, ``([B,] k, H)``; ``None`` if no weight multiplies them.
        seen: what the modules saw of each other, ``([B,] k, N)``; ``None`` if nothing.
        slope: ``([B,] k, d, N)``; ``None`` if modules are independent.
    """

    D: Inexact[Array, "*B k d d N"]
    J: tuple[Inexact[Array, "*B k d N"], ...]
    E: dict[str, Inexact[Array, "*B k d N"]]
    x: Array | None
    seen: Array | None
    slope: Array | None


class TBPTT(StepwiseRule):
    """Truncated backpropagation through time: at every timestep, back through the last k.

    ::

        e_t = delta_t,   e_{j-1} = F_j^T e_j,   gradient at t = sum over j in (t-k, t] of e_j^T I_j

    with F_j = dh_j/dh_{j-1} in full and I_j the immediate sensitivity. The window slides: every
    error goes back k timesteps, whereas `BPTT` in chunks of k cuts where a chunk begins. ``k = 1``
    is `Truncated`; a k of the whole sequence gives the BPTT gradient for one recurrent layer, and
    in a stack that of RTRL with errors of the same timestep. Bias: credit older than k timesteps is
    lost. Derivatives are those taken when a timestep was run, the recurrent weights those of now.
    A timestep masked out, which changes nothing, still takes its place in the window.

    Memory per sample: the derivatives of k timesteps, O(k (N + H)). Time per timestep: that of
    backpropagation through k timesteps, O(k N (N + H)).

    Args:
        k: timesteps that an error travels back, its own included, at least 1.

    Raises:
        ValueError: ``k`` is below 1 or no integer.

    Source: Williams & Peng, "An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories" (1990), BPTT(h).
    """

    k: int

    trace_type: ClassVar[type] = Window

    def __check_init__(self):
        ok = isinstance(self.k, int) and not isinstance(self.k, bool) and self.k >= 1
        require(ok, "k", "an integer of at least 1", self.k)

    def label(self, chunk: int | None = None) -> str:
        return f"TBPTT({self.k}), sliding"

    def init_trace(self, cell: Cell, parameters: int, batch_size: int | None) -> Window:
        m = Modules(cell)
        lead = (self.k,) if batch_size is None else (batch_size, self.k)
        d, N = m.initial.shape
        real = jnp.finfo(m.dtype).dtype
        size = next((w.shape[1] for w in m.weights() if w is not None), None)
        dense = bool(m.recurrent())

        def zeros(*shape: int) -> Array:
            return jnp.zeros((*lead, *shape), m.dtype)

        return Window(
            zeros(d, d, N),
            tuple(zeros(d, N) for _ in (*m.weights(), *m.recurrent())),
            {m.names[i]: zeros(d, N) for i in structure(m).module_leaves},
            None if size is None else jnp.zeros((*lead, size), real),
            jnp.zeros((*lead, N), real) if dense else None,
            zeros(d, N) if dense else None,
        )

    def advance(self, trace: Window, partials: Partials) -> Window:
        x, seen = distinct_inputs(partials)
        now = Window(partials.D, partials.J, partials.E, x, seen, partials.slope)
        # Shifted and not used as a ring: `read` goes through it in order, and k is small.
        return jax.tree.map(
            lambda window, new: jnp.concatenate([window[:, 1:], new[:, None]], 1), trace, now
        )

    def read(self, trace: Window, partials: Partials, errors: Array) -> Gradients:
        # Time first, as a chunk has it: then the sum over the window is that of a chunk.
        window = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), trace)
        past = Partials(
            window.D,
            window.J,
            window.E,
            # The recurrent weights of now, not of then: a window of weights would be k times N x N.
            per_projection(partials, window.x, window.seen),
            (),
            window.slope,
        )

        def back(e, timestep):
            timestep = timestep._replace(recurrent=partials.recurrent)
            return backward(timestep, e), e

        # Timesteps before the stream began are zeros: their D stops the error, their J and E give
        # nothing.
        _, travelled = jax.lax.scan(back, errors, past, reverse=True)
        return without_trace(past, travelled)
