"""UORO: an unbiased estimate of the full sensitivity by a single outer product."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, UInt32

from rtrl.cells import Cell
from rtrl.engine import Gradients, Modules, Partials, structure
from rtrl.rules._random import balance, check_seed, next_keys, norm, sample_keys
from rtrl.rules._stepwise import StepwiseRule, forward


class RankOne(eqx.Module):
    """The outer product that stands for the sensitivity ``state (x) parameters``.

    Attributes:
        state: ``([B,] d, N)``.
        projections: one of every projection weight's shape, ``([B,] N, H)``.
        modules: one of every module parameter's shape, ``([B,] N)``.
        key: of the signs to come, ``([B,] 2)``.
    """

    state: Inexact[Array, "*B d N"]
    projections: tuple[Inexact[Array, "*B N H"] | None, ...]
    modules: dict[str, Inexact[Array, "*B N"]]
    key: UInt32[Array, "*B 2"]


class UORO(StepwiseRule):
    """Unbiased online recurrent optimization: the sensitivity as one random outer product.

    ::

        s~_t = rho_0 F_t s~_{t-1} + rho_1 nu_t,   w~_t = w~_{t-1} / rho_0 + nu_t^T I_t / rho_1
        rho_0^2 = |w~_{t-1}| / |F_t s~_{t-1}|,    rho_1^2 = |nu_t^T I_t| / |nu_t|
        dl/dw = sum_t (delta_t . s~_t) w~_t

    with random signs nu_t, F_t = dh_t/dh_{t-1} in full and I_t the immediate sensitivity. Bias:
    none for one recurrent layer (the expectation over the signs is the BPTT gradient; in a stack,
    that of RTRL with errors of the same timestep), but the variance is large and grows with N.

    Memory per sample: N state numbers and as much as the layer's parameters, N (N + H). Time per
    timestep: O(N (N + H)).

    Args:
        seed: of the random signs; a layer and a seed give the same signs every time, every sample
            of a batch its own.

    Raises:
        ValueError: ``seed`` is no integer of at least 0.

    Source: Tallec & Ollivier, "Unbiased online recurrent optimization" (2018), algorithm 1; without
    its guard against zero norms, which is not needed here.
    """

    seed: int = 0

    trace_type: ClassVar[type] = RankOne

    def __check_init__(self):
        check_seed(self.seed)

    def init_trace(self, cell: Cell, parameters: int, batch_size: int | None) -> RankOne:
        m = Modules(cell)
        batch = () if batch_size is None else (batch_size,)
        d, N = m.initial.shape

        def zeros(*shape: int) -> Array:
            return jnp.zeros((*batch, *shape), m.dtype)

        weights = (*m.weights(), *m.recurrent())
        return RankOne(
            zeros(d, N),
            tuple(None if w is None else zeros(N, w.shape[1]) for w in weights),
            {m.names[i]: zeros(N) for i in structure(m).module_leaves},
            sample_keys(self.seed, batch_size),
        )

    def advance(self, trace: RankOne, partials: Partials) -> RankOne:
        now, key = next_keys(trace.key)
        real = jnp.finfo(trace.state.dtype).dtype
        shape = trace.state.shape[1:]
        # One sign per state number: nu nu^T is then the identity on average, which is all that
        # makes the estimate unbiased.
        signs = jax.vmap(lambda k: jax.random.rademacher(k, shape, real))(now)
        immediate = (
            tuple(
                # nu^T I by the structure of I: J (x) x for a weight, so no (state, parameter) array
                # is made.
                None if x is None else (signs * J).sum(1)[..., None] * x[:, None, :]
                for J, x in zip(partials.J, partials.inputs, strict=True)
            ),
            {name: (signs * E).sum(1) for name, E in partials.E.items()},
        )
        old = (trace.projections, trace.modules)
        state = forward(partials, trace.state)
        # rho balances the two factors of each product, which keeps the variance least.
        s0, w0 = balance(norm(state), norm(old))
        s1, w1 = balance(norm(signs), norm(immediate))

        def scaled(scale, a):
            return jnp.expand_dims(scale, range(1, a.ndim)) * a

        projections, modules = jax.tree.map(
            lambda w, i: scaled(w0, w) + scaled(w1, i), old, immediate
        )
        return RankOne(scaled(s0, state) + scaled(s1, signs), projections, modules, key)

    def read(self, trace: RankOne, partials: Partials, errors: Array) -> Gradients:
        strength = (errors * trace.state).sum((1, 2))
        return jax.tree.map(
            lambda w: jnp.tensordot(strength, w, 1), (trace.projections, trace.modules)
        )
