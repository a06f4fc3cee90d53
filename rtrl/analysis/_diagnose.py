"""What is a learner doing now, and what is wrong with it?"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree

from rtrl.analysis._diagnosis import Diagnosis
from rtrl.analysis._findings import findings
from rtrl.analysis._measure import measure
from rtrl.engine import Chunk
from rtrl.learners import LearnerState, OnlineLearner, StreamState, batch_size_of, prepare
from rtrl.streams import Standardized, StandardizedState
from rtrl.validate import require

SHORTEST_WINDOW = 16  # timesteps of a window that say anything


def diagnose(
    learner: OnlineLearner | Standardized,
    state: LearnerState | StreamState | StandardizedState,
    xs: ArrayLike,
    ys: PyTree[ArrayLike],
    *,
    chunk: int | None = None,
    weights: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    initial: PyTree | None = None,
) -> Diagnosis:
    """Say in words, numbers and a picture what a learner does on a window, and what is wrong.

    Nothing is learned and the state is not touched. Measured are, layer by layer: the angle
    between the rule's gradient and BPTT's; norms of states and traces; time scales as they act on
    the window; the optimizer's rate as it acts; dead and saturated modules; the carried trace
    beside one recomputed with today's parameters; the share of every lag in the gradient; and of
    the whole: what a smaller or larger rate would have done, what today's errors still owe to old
    inputs, and the memory held. Takes seconds to compile, then as long as some ten passes.

    The window is best the last few hundred timesteps that the learner has learned from, the newest
    last: then the carried trace can be compared with one recomputed. Another window will do for all
    else. It should be several times longer than what is to be remembered.

    Args:
        learner: the learner.
        state: its state; of a `Standardized` learner or in a stream, too.
        xs: inputs, ``(time, [batch,] in_size)``, in the units that the learner takes.
        ys: targets, a pytree of arrays ``(time, [batch,] ...)``; ``ys[t]`` is that of ``xs[t]``.
        chunk: timesteps per update, as it was learned; default 1 (under `BPTT` the window).
        weights: of the losses, ``(time, [batch])``; default 1. Missing targets (NaN) count 0.
        resets: true where a new sequence begins, ``(time, [batch])``.
        initial: the network as it began, for its time scales beside today's; default none.

    Returns:
        A `Diagnosis`: ``.findings`` in words, ``.table()``, ``.figure()``, and all arrays.

    Raises:
        ValueError: an argument of the wrong shape or kind, named, or a window without targets.
    """
    require(
        isinstance(learner, OnlineLearner | Standardized),
        "learner", "an OnlineLearner, or a Standardized one", type(learner).__name__,
    )  # fmt: skip
    plain, now, xs, ys, held = _innermost(learner, state, xs, ys)
    data = prepare(now.model, xs, ys, weights, resets, batch_size_of(now))
    length = len(data.xs) - held
    least = max(SHORTEST_WINDOW, plain.overlap + 1)
    require(length >= least, "xs", f"at least {least + held} timesteps", len(data.xs))
    data = _usable(jax.tree.map(lambda a: jnp.asarray(a)[:length], data))
    require(bool((data.weights > 0).any()), "ys", "a window with targets", "none with a weight")
    if chunk is None:
        chunk = length if plain.rule.whole_sequence else 1
    require(isinstance(chunk, int) and chunk >= 1, "chunk", "at least 1 timestep", chunk)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # What has diverged overflows here too, and is reported in words.
        warnings.simplefilter("ignore", RuntimeWarning)
        measured = measure(plain, now, data, chunk=min(chunk, length), initial=initial)
    return Diagnosis(findings(measured), measured)


def _innermost(
    learner: Any, state: Any, xs: Any, ys: Any
) -> tuple[OnlineLearner, LearnerState, Any, Any, int]:
    """The plain learner and its state, data in its units, and how many timesteps it is behind."""
    if isinstance(learner, Standardized):
        require(
            isinstance(state, StandardizedState), "state", "one of this learner", type(state)
        )  # fmt: skip
        if state.inputs is not None:
            raw = np.asarray(xs, np.float64)
            xs = np.where(learner.inputs, state.inputs.standardise(raw), raw)
        if state.targets is not None:
            ys = state.targets.standardise(np.asarray(ys, np.float64))
        learner, state = learner.learner, state.learner
    held = 0
    if isinstance(state, StreamState):
        held, state = int(state.held), state.learner
    require(isinstance(state, LearnerState), "state", "a learner's state", type(state).__name__)
    return learner, state, xs, ys, held


def _usable(data: Chunk) -> Chunk:
    """Without what is missing: inputs become 0, targets do not count."""
    xs, lead = data.xs, data.weights.ndim
    weights = data.weights
    if jnp.issubdtype(xs.dtype, jnp.floating):
        there = jnp.isfinite(xs).all(range(lead, xs.ndim))
        xs = jnp.where(jnp.expand_dims(there, range(lead, xs.ndim)), xs, 0)
        weights = jnp.where(there, weights, 0)

    def known(y):
        if not jnp.issubdtype(y.dtype, jnp.floating):
            return jnp.ones(y.shape[:lead], bool)
        return jnp.isfinite(y).all(range(lead, y.ndim))

    for y in jax.tree.leaves(data.ys):
        weights = jnp.where(known(y), weights, 0)
    ys = jax.tree.map(lambda y: jnp.where(jnp.isfinite(y), y, 0).astype(y.dtype), data.ys)
    return Chunk(xs, ys, weights, data.resets)
