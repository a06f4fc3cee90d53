"""Exact real-time recurrent learning of any network, dense and expensive: the oracle."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from rtrl.engine import Carry, Pull, Rule, Run, is_carry


class ExactRTRL(Rule):
    """Exact RTRL: the dense sensitivity of every state to every parameter of all layers.

    ::

        S_t = dh_t/dh_{t-1} S_{t-1} + dh_t/dp,   dl/dp = sum_t dl_t/dh_{t-1} S_{t-1} + dl_t/dp

    One forward-mode derivative per parameter, through the whole network: equals BPTT at any depth
    without going back in time. Memory per sample: (all states) x (all parameters). Time per
    timestep: one forward pass per parameter. For tiny networks, as an oracle. Bias: none.

    Source: Williams & Zipser, "A learning algorithm for continually running fully recurrent
    neural networks" (1989), equations 10-13.
    """

    def label(self, chunk: int | None = None) -> str:
        return "exact RTRL"

    def init_trace(self, cell: Any, parameters: int, batch_size: int | None) -> PyTree[Array]:
        batch = () if batch_size is None else (batch_size,)
        return jax.tree.map(
            lambda h: jnp.zeros((*batch, parameters, *h.shape), h.dtype), cell.initial()
        )

    def differentiate(
        self, run: Run, params: PyTree, carry: PyTree, *, once: bool = False
    ) -> tuple[PyTree, Pull]:
        def split(tree):
            return jax.tree.map(lambda c: c.state, tree, is_leaf=is_carry)

        states = split(carry)
        # A direction is one parameter of the network: flat, they are the rows of an identity.
        flat, unravel = ravel_pytree(params)

        def forward(direction, sensitivity):
            def f(p, states):
                # The trace is this rule's own; inside the recurrence is ordinary differentiable
                # code.
                inner = jax.tree.map(lambda c, h: Carry(h, None), carry, states, is_leaf=is_carry)
                predictions, after = run(p, inner)
                return predictions, split(after)

            # Both at once: what a parameter does now, and what it has done to the state before.
            return jax.jvp(f, (params, states), (unravel(direction), sensitivity))

        # The parameter axis comes after the batch axis, if any, and before the modules.
        traces = jax.tree.map(lambda c: c.trace, carry, is_leaf=is_carry)
        axes = jax.tree.map(lambda s: s.ndim - 2, traces)
        (predictions, states), (slopes, traces) = jax.vmap(
            forward, (0, axes), ((None, None), (0, axes))
        )(jnp.eye(flat.size, dtype=flat.dtype), traces)

        carry = jax.tree.map(lambda c, h, s: Carry(h, s), carry, states, traces, is_leaf=is_carry)

        # Errors come after the predictions, the sensitivities are there by then: all that is left
        # is a product, with no way back through the network.
        def pullback(errors):
            # JAX's convention, dl = Re(delta dh), for predictions that are complex.
            parts = jax.tree.map(
                lambda g, s: jnp.real(jnp.tensordot(s, g, axes=g.ndim)), errors, slopes
            )
            return unravel(jax.tree.reduce(jnp.add, parts)), carry

        return predictions, pullback
