"""KF-RTRL: an unbiased estimate of the full sensitivity by a Kronecker product."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, UInt32

from rtrl.cells import Cell
from rtrl.engine import Gradients, Modules, Partials, structure
from rtrl.rules._random import balance, check_seed, next_keys, norm, sample_keys
from rtrl.rules._stepwise import StepwiseRule, distinct_inputs, forward, per_projection


class Kronecker(eqx.Module):
    """The Kronecker product that stands for the sensitivity ``input (x) A``.

    Attributes:
        x: factor of the input, ``([B,] H)``; ``None`` if no weight multiplies it.
        seen: factor of what the modules see of each other, ``([B,] N)``; ``None`` if nothing.
        one: factor of the constant input of module parameters, ``([B,])``.
        projections: A of every projection weight, ``([B,] d, N, N)``: state, then its row.
        modules: A of every module parameter by name, ``([B,] d, N, N)``.
        key: of the signs to come, ``([B,] 2)``.
    """

    x: Float[Array, "*B H"] | None
    seen: Float[Array, "*B N"] | None
    one: Float[Array, "*B"]
    projections: tuple[Inexact[Array, "*B d N N"] | None, ...]
    modules: dict[str, Inexact[Array, "*B d N N"]]
    key: UInt32[Array, "*B 2"]


class KFRTRL(StepwiseRule):
    """Kronecker-factored RTRL: the sensitivity as a random product of an input and a matrix.

    ::

        a_t = c_1 p_1 a_{t-1} + c_2 p_2 z_t,   A_t = c_1 / p_1 F_t A_{t-1} + c_2 / p_2 diag(J_t)
        p_1^2 = |F_t A_{t-1}| / |a_{t-1}|,     p_2^2 = |diag(J_t)| / |z_t|
        dl/dW = sum_t (A_t^T delta_t) a_t^T

    with random signs c_1, c_2, the input z_t = (x_t, output(h_{t-1}), 1) of all parameters and
    F_t = dh_t/dh_{t-1} in full. One A per weight and module parameter, all with the same a. Bias:
    none for one recurrent layer (the expectation over the signs is the BPTT gradient; in a stack,
    that of RTRL with errors of the same timestep); less variance than `UORO`.

    Memory per sample: N + H + 1 numbers, and N^2 for every weight and module parameter. Time per
    timestep: O(N^3) for each of these. For independent modules A stays diagonal, and `RTRL` is both
    exact and cheaper.

    Args:
        seed: of the random signs; a layer and a seed give the same signs every time, every sample
            of a batch its own.

    Raises:
        ValueError: ``seed`` is no integer of at least 0.

    Source: Mujika et al., "Approximating real-time recurrent learning with random Kronecker
    factors" (2018), algorithm 1 and theorem 1.
    """

    seed: int = 0

    trace_type: ClassVar[type] = Kronecker

    def __check_init__(self):
        check_seed(self.seed)

    def label(self, chunk: int | None = None) -> str:
        return "KF-RTRL"

    def init_trace(self, cell: Cell, parameters: int, batch_size: int | None) -> Kronecker:
        m = Modules(cell)
        batch = () if batch_size is None else (batch_size,)
        d, N = m.initial.shape
        real = jnp.finfo(m.dtype).dtype
        weights = (*m.weights(), *m.recurrent())
        size = next((w.shape[1] for w in m.weights() if w is not None), None)

        def matrix() -> Array:
            return jnp.zeros((*batch, d, N, N), m.dtype)

        return Kronecker(
            None if size is None else jnp.zeros((*batch, size), real),
            jnp.zeros((*batch, N), real) if m.recurrent() else None,
            jnp.zeros(batch, real),
            tuple(None if w is None else matrix() for w in weights),
            {m.names[i]: matrix() for i in structure(m).module_leaves},
            sample_keys(self.seed, batch_size),
        )

    def advance(self, trace: Kronecker, partials: Partials) -> Kronecker:
        now, key = next_keys(trace.key)
        # Two signs a sample: products of the old with the new term then vanish on average.
        c1, c2 = jax.vmap(lambda k: jax.random.rademacher(k, (2,), trace.one.dtype))(now).T
        # The immediate sensitivity is diagonal: a row of a weight drives its own module only.
        own = jnp.eye(partials.D.shape[-1], dtype=partials.D.dtype)
        J = tuple(
            None if x is None else own * j[..., None]
            for j, x in zip(partials.J, partials.inputs, strict=True)
        )
        immediate = (J, {name: own * E[..., None] for name, E in partials.E.items()})
        old = jax.tree.map(lambda A: forward(partials, A), (trace.projections, trace.modules))
        factor = (trace.x, trace.seen, trace.one)
        # Module parameters have the input 1, so that they fit the same product.
        inputs = (*distinct_inputs(partials), jnp.ones_like(trace.one))
        # All weights share the one factor a, so their matrices are weighed together.
        p1, q1 = balance(norm(factor), norm(old))
        p2, q2 = balance(norm(inputs), norm(immediate))

        def mix(before, after, weight_before, weight_after):
            def mixed(a, b):
                axes = range(1, a.ndim)
                old, new = (jnp.expand_dims(w, axes) for w in (weight_before, weight_after))
                return old * a + new * b

            return jax.tree.map(mixed, before, after)

        projections, modules = mix(old, immediate, c1 * q1, c2 * q2)
        x, seen, one = mix(factor, inputs, c1 * p1, c2 * p2)
        return Kronecker(x, seen, one, projections, modules, key)

    def read(self, trace: Kronecker, partials: Partials, errors: Array) -> Gradients:
        factors = per_projection(partials, trace.x, trace.seen)

        def projection(A, factor):
            if A is None:
                return None
            return jnp.einsum("bm,bh->mh", jnp.einsum("bin,binm->bm", errors, A), factor)

        return (
            tuple(map(projection, trace.projections, factors)),
            {
                name: jnp.einsum("bin,binm,b->m", errors, A, trace.one)
                for name, A in trace.modules.items()
            },
        )
