"""The overlap of chunks: the last timesteps, which are run again with every chunk that follows.

What is carried is kept that many timesteps behind, and the inputs since then are held::

    (h, s) of timestep t - o;  window [t - o, t + K);  losses of the last K timesteps alone
    gradient of the window;    then (h, s) advances by K timesteps, with the parameters of now
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PRNGKeyArray, PyTree

from rtrl.engine import Chunk, Past, Rule, is_carry, seldom
from rtrl.learners import _inputs
from rtrl.learners._restart import restarted
from rtrl.validate import require, require_integer


def check_overlap(overlap: int, rule: Rule) -> None:
    """Raise a `ValueError` if a rule has nothing to do with an overlap."""
    require_integer(overlap, "overlap", 0, "(timesteps)")
    require(
        overlap == 0 or rule.reaches_back(),
        "overlap",
        f"0 with {rule}, which sends errors through the same timestep only (an overlap is for "
        "those that travel back in time, as of RTRL(errors='chunk') and BPTT)",
        overlap,
    )


def check_step(rule: Rule, overlap: int) -> None:
    """Raise a `ValueError` if a rule can't learn from single timesteps."""
    expected = "one that learns from single timesteps (BPTT needs scan with a chunk, or an overlap)"
    require(overlap > 0 or not rule.whole_sequence, "rule", expected, rule)


def nothing_past(model: PyTree, overlap: int, batch_size: int | None) -> Past | None:
    """The overlap before the first timestep: nothing in it has happened."""
    if overlap == 0:
        return None
    lead = (overlap,) if batch_size is None else (overlap, batch_size)
    size = getattr(model, "in_size", None)
    if size is None:  # tokens; the first call may correct it
        xs = jnp.zeros(lead, jnp.int32)
    else:
        xs = jnp.zeros((*lead, size), _inputs.float_dtype(model))
    return Past(xs, jnp.zeros(lead, bool))


def fitted(overlap: int, past: Past | None, xs: Any, *, time: bool) -> Past | None:
    """Check that a state holds the overlap that a learner wants, of inputs such as ``xs``.

    Until something has been held, the first inputs say what inputs are.
    """
    held = 0 if past is None else len(past.xs)
    require(held == overlap, "overlap", f"the {held} timesteps that the state holds", overlap)
    if past is None:
        return None
    shape = xs.shape[1:] if time else xs.shape
    dtype = jax.dtypes.canonicalize_dtype(xs.dtype)
    alike = np.dtype(dtype).kind == past.xs.dtype.kind and np.can_cast(dtype, past.xs.dtype)
    if past.xs.shape[1:] == shape and alike:
        return past
    traced = isinstance(past.mask, Tracer)
    require(
        not traced and past.mask is not None and not np.asarray(past.mask).any(),
        "xs",
        f"{past.xs.dtype} of shape {past.xs.shape[1:]} at a timestep, like the inputs before",
        f"{dtype} of shape {shape}",
    )
    return Past(jnp.zeros((held, *shape), dtype), past.mask)


def window_keys(key: PRNGKeyArray, step: Array, overlap: int, length: int) -> PRNGKeyArray:
    """A key for every timestep of a window that ends ``length`` timesteps after ``step``.

    A timestep has the same one in every window that it is in.
    """
    # Those before the first timestep wrap around, and have not happened anyway.
    steps = step.astype(jnp.uint32) + jnp.arange(overlap + length, dtype=jnp.uint32)
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(steps - np.uint32(overlap))


def slide(model: PyTree, carry: PyTree, past: Past, data: Chunk) -> tuple[PyTree, Past]:
    """The overlap of the next window, after a chunk; what was before a reset has not happened."""
    overlap = len(past.xs)
    xs = jnp.concatenate([past.xs, data.xs.astype(past.xs.dtype)])[-overlap:]
    mask = past.mask
    if mask is not None:
        new = jnp.ones(data.weights.shape, bool) if data.mask is None else data.mask
        mask = jnp.concatenate([mask, new])[-overlap:]
    if data.resets is None:
        return carry, Past(xs, mask)
    assert mask is not None
    resets = jnp.concatenate([jnp.zeros(past.xs.shape[: mask.ndim], bool), data.resets])[-overlap:]
    counts = resets.astype(jnp.int32)
    mask &= jax.lax.cumsum(counts, reverse=True) == counts  # no reset later
    begins = resets.any(0)
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def begin(carry, params, begins):
        anew = restarted(eqx.combine(params, static), carry, begins)
        # What follows a reset has brought about the newest state, which stays.
        return jax.tree.map(
            lambda c, was: dataclasses.replace(c, newest=was.newest), anew, carry, is_leaf=is_carry
        )

    return seldom(begin, begins.any(), carry, params, begins), _happened(xs, mask)


def _happened(xs: Array, mask: Array) -> Past:
    """Zeros for what has not: it is run, and may have been what made the memory overflow."""
    return Past(jnp.where(jnp.expand_dims(mask, range(mask.ndim, xs.ndim)), xs, 0), mask)


def forgotten(past: Past | None, samples: Any) -> Past | None:
    """The overlap, nothing of which has happened for a mask of samples (``None``: for all)."""
    if past is None or past.mask is None:
        return past
    mask = jnp.zeros_like(past.mask) if samples is None else past.mask & ~samples
    return _happened(past.xs, mask)
