"""Exact real-time recurrent learning of any network, dense and expensive: the oracle."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from rtrl.engine import Pull, Rule, Run, is_carry


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

        def join(carry, states, traces):
            return jax.tree.map(
                lambda c, h, s: dataclasses.replace(c, state=h, trace=s),
                carry, states, traces, is_leaf=is_carry,
            )  # fmt: skip

        states = split(carry)
        # A direction is one parameter of the network: flat, they are the rows of an identity.
        flat, unravel = ravel_pytree(params)

        def forward(direction, sensitivity):
            def f(p, states):
                # The trace is this rule's own; inside the recurrence is ordinary differentiable
                # code.
                inner = join(carry, states, jax.tree.map(lambda _: None, carry, is_leaf=is_carry))
                predictions, after = run(p, inner)
                return (predictions, split(after)), after

            # Both at once: what a parameter does now, and what it has done to the state before.
            return jax.jvp(f, (params, states), (unravel(direction), sensitivity), has_aux=True)

        # The parameter axis comes after the batch axis, if any, and before the modules.
        traces = jax.tree.map(lambda c: c.trace, carry, is_leaf=is_carry)
        axes = jax.tree.map(lambda s: s.ndim - 2, traces)
        (predictions, states), (slopes, traces), after = jax.vmap(
            forward, (0, axes), ((None, None), (0, axes), None)
        )(jnp.eye(flat.size, dtype=flat.dtype), traces)
        after = join(after, states, traces)

        # Errors come after the predictions, the sensitivities are there by then: all that is left
        # is a product, with no way back through the network.
        def pullback(errors):
            # JAX's convention, dl = Re(delta dh), for predictions that are complex.
            parts = jax.tree.map(
                lambda g, s: jnp.real(jnp.tensordot(s, g, axes=g.ndim)), errors, slopes
            )
            return unravel(jax.tree.reduce(jnp.add, parts)), after

        return predictions, pullback
