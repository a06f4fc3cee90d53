"""Running a network over a chunk, or over the window of an overlap and a chunk."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from rtrl.engine._carry import into_window
from rtrl.engine._data import Chunk, Past
from rtrl.engine._rule import Rule, Run


def runner(
    static: PyTree,
    carry: PyTree,
    chunk: Chunk,
    past: Past | None,
    *,
    rule: Rule,
    key: PRNGKeyArray | None,
) -> tuple[Run, PyTree]:
    """Give a function of parameters and carry that predicts a chunk, and the carry to give it.

    Args:
        static: the network without its parameters.
        carry: what it carries before the chunk, or before the overlap.
        past: the overlap; its timesteps are run before the chunk's, and their predictions dropped.
        key: of the dropout; with an overlap one for every timestep of the window.
    """
    if past is None:

        def run(params, carry):
            network = eqx.combine(params, static)
            return network(
                chunk.xs, carry, rule=rule, resets=chunk.resets, mask=chunk.mask, key=key
            )

        return run, carry

    overlap, length = len(past.xs), len(chunk.xs)
    xs = jnp.concatenate([past.xs, chunk.xs.astype(past.xs.dtype)])
    lead = chunk.weights.shape[1:]
    resets = chunk.resets
    if resets is not None:
        resets = jnp.concatenate([jnp.zeros((overlap, *lead), bool), resets])
    mask = chunk.mask
    if past.mask is not None:
        mask = jnp.ones(chunk.weights.shape, bool) if mask is None else mask
        mask = jnp.concatenate([past.mask, mask])
    elif mask is not None:
        mask = jnp.concatenate([jnp.ones((overlap, *lead), bool), mask])

    def run_window(params, carry):
        network = eqx.combine(params, static)
        predictions, after = network(xs, carry, rule=rule, resets=resets, mask=mask, key=key)
        return jax.tree.map(lambda a: a[overlap:], predictions), after

    return run_window, into_window(carry, length)
