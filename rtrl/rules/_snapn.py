"""SnAp-n: the sensitivities that n timesteps can reach through a sparse recurrence."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact

from rtrl.cells import Cell
from rtrl.engine import Gradients, Modules, Partials, structure
from rtrl.rules._stepwise import StepwiseRule, forward
from rtrl.validate import require


class Sensitivity(eqx.Module):
    """Sensitivity of every module's state to the parameters of every module of a layer.

    Attributes:
        projections: dh_n/dW_m for every projection weight, ``([B,] d, N, N, H)``: state n, then the
            module m that the weight's row drives.
        modules: dh_n/dtheta_m for every module parameter by name, ``([B,] d, N, N)``.
        kept: which n and m are kept, ``([B,] N, N)``.
    """

    projections: tuple[Inexact[Array, "*B d N N H"] | None, ...]
    modules: dict[str, Inexact[Array, "*B d N N"]]
    kept: Bool[Array, "*B N N"]


class SnApN(StepwiseRule):
    """SnAp-n: the sensitivity of a state to every parameter that reaches it within n timesteps.

    ::

        S_t = mask * (F_t S_{t-1} + I_t),   F_t = dh_t/dh_{t-1} in full,  I_t the immediate one

    The mask keeps a state and a parameter of module m if the state's module can be reached from m
    by at most n - 1 recurrent weights; those that are exactly zero when the carry is made count as
    absent (``VanillaRNN(density=...)``). A mask that keeps all is exact RTRL of the layer, the BPTT
    gradient for one recurrent layer; ``n = 1`` is `SnAp1`. Bias: what takes longer paths is lost.

    Memory per sample: O(N P) for P parameters, masked or not: N^2 (N + H) numbers for an N x H
    and an N x N weight. Time per timestep: O(N^2 P). This is the rule written densely, for studying
    what a mask loses; it does not turn sparsity into speed. Errors reach lower layers through the
    same timestep.

    Args:
        n: timesteps that a parameter's effect is followed for, at least 1; N or more keeps all
            that the recurrent weights connect.

    Raises:
        ValueError: ``n`` is below 1 or no integer.

    Source: Menick et al., "Practical real time recurrent learning with a sparse approximation"
    (2021), section 3; dense: Williams & Zipser (1989).
    """

    n: int

    trace_type: ClassVar[type] = Sensitivity

    def __check_init__(self):
        ok = isinstance(self.n, int) and not isinstance(self.n, bool) and self.n >= 1
        require(ok, "n", "an integer of at least 1", self.n)

    def label(self, chunk: int | None = None) -> str:
        return f"SnAp-{self.n}"

    def init_trace(self, cell: Cell, parameters: int, batch_size: int | None) -> Sensitivity:
        m = Modules(cell)
        batch = () if batch_size is None else (batch_size,)
        d, N = m.initial.shape

        def zeros(*shape: int) -> Array:
            return jnp.zeros((*batch, d, N, N, *shape), m.dtype)

        weights = (*m.weights(), *m.recurrent())
        return Sensitivity(
            tuple(None if w is None else zeros(w.shape[1]) for w in weights),
            {m.names[i]: zeros() for i in structure(m).module_leaves},
            # Fixed when the carry is made: a mask that followed the weights would change what an
            # entry of the trace stands for.
            jnp.broadcast_to(reachable(m.recurrent(), N, self.n - 1), (*batch, N, N)),
        )

    def advance(self, trace: Sensitivity, partials: Partials) -> Sensitivity:
        N = trace.kept.shape[-1]
        kept = trace.kept[:, None]
        own = jnp.eye(N, dtype=partials.D.dtype)

        def projection(S, J, x):
            if S is None:
                return None
            immediate = (own * J[..., None])[..., None] * x[:, None, None, None, :]
            # Masked after the step, as in the paper: the step itself is done with the full
            # Jacobian.
            return jnp.where(kept[..., None], forward(partials, S) + immediate, 0)

        return Sensitivity(
            tuple(map(projection, trace.projections, partials.J, partials.inputs)),
            {
                name: jnp.where(kept, forward(partials, S) + own * partials.E[name][..., None], 0)
                for name, S in trace.modules.items()
            },
            trace.kept,
        )

    def read(self, trace: Sensitivity, partials: Partials, errors: Array) -> Gradients:
        return (
            tuple(
                None if S is None else jnp.einsum("bin,binmh->mh", errors, S)
                for S in trace.projections
            ),
            {name: jnp.einsum("bin,binm->m", errors, S) for name, S in trace.modules.items()},
        )


def reachable(weights: tuple[Array, ...], N: int, steps: int) -> Bool[Array, "N N"]:
    """Which module n is reached from which m over at most ``steps`` nonzero recurrent weights."""
    reached = jnp.eye(N, dtype=bool)
    connected = reached
    for U in weights:
        connected = connected | jnp.broadcast_to(U != 0, (N, N))
    # No path without a loop is longer than N - 1, so larger n add nothing.
    for _ in range(min(steps, N - 1) if weights else 0):
        reached = (connected[:, :, None] & reached[None]).any(1)
    return reached
