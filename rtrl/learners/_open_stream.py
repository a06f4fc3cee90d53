"""The state of a stream before its first item."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike, PyTree

from rtrl.learners import _inputs
from rtrl.learners._feed import samples_here
from rtrl.learners._hidden import example_input, hidden, prediction_like
from rtrl.learners._state import LearnerState, batch_size_of
from rtrl.learners._stream_item import as_input, as_target
from rtrl.learners._stream_state import StreamState, lead_of, targets_like
from rtrl.validate import require, require_integer


def open_stream(
    state: Any,
    x: ArrayLike | None = None,
    y: PyTree[ArrayLike] | None = None,
    *,
    chunk: int = 16,
    delay: int = 0,
) -> Any:
    """Give the state of a stream before its first item.

    `OnlineLearner.stream` does this by itself; it is needed to load a saved stream, for ``like``.

    Args:
        state: a learner's state, from ``init``, ``step`` or ``scan``; a `StreamState` comes back,
            or, from a `StandardizedState`, one of its kind.
        x: an example of an input; default: what the model's ``in_size`` says.
        y: an example of a target; default: one like a prediction. Classes need one, such as
            ``np.int32(0)``.
        chunk: timesteps per chunk.
        delay: items between an input and its target.

    Raises:
        ValueError: an argument of the wrong shape or kind, named.
    """
    require_integer(chunk, "chunk", 1, "(timesteps)")
    require_integer(delay, "delay", 0, "(items)")
    if wraps(state):
        inner = open_stream(state.learner, x, y, chunk=chunk, delay=delay)
        return eqx.tree_at(lambda s: s.learner, state, inner)
    require(isinstance(state, LearnerState), "state", "one that is not in a stream", type(state))
    lead = lead_of(state)
    expected = "one that this process has all of (learn by scan where there are several processes)"
    require(samples_here(state) == batch_size_of(state), "state", expected, "a part of it")
    dtype = _inputs.float_dtype(state.model)
    x = example_input(state) if x is None else as_input(state, x, dtype)
    # A guess at what targets are may be corrected by the first that comes; an example may not.
    settled = y is not None
    if y is None:
        y = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), prediction_like(state, x))
    y = as_target(state, y, dtype)
    return StreamState(
        learner=state,
        carry=hidden(state.carry),
        xs=np.zeros((chunk + delay, *x.shape), x.dtype),
        ys=targets_like(y, chunk),
        # Zero is the weight of a target that has not come.
        weights=np.zeros((chunk, *lead), dtype),
        resets=np.zeros((chunk + delay, *lead), bool),
        known=np.zeros(chunk, bool),
        held=np.int64(0),
        settled=np.bool_(settled),
        items=np.int64(0),
    )


def wraps(state: Any) -> bool:
    """Whether it is the state of a learner around a learner, such as `rtrl.Standardized`."""
    return not isinstance(state, LearnerState | StreamState) and hasattr(state, "learner")


def resume_or_open(state: LearnerState | StreamState, chunk: int, delay: int) -> StreamState:
    """Check ``chunk`` and ``delay`` against an open stream, or open one."""
    if isinstance(state, LearnerState):
        return open_stream(state, chunk=chunk, delay=delay)
    require(
        isinstance(state, StreamState),
        "state",
        "a LearnerState from init, step or scan, or a StreamState from stream",
        type(state).__name__,
    )
    hint = "of the stream in state (close_stream ends it)"
    require(chunk == state.chunk, "chunk", f"the {state.chunk} {hint}", chunk)
    require(delay == state.delay, "delay", f"the {state.delay} {hint}", delay)
    return state
