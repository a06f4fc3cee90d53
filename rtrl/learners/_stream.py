"""Live streams: every item is predicted at once, learning follows behind in chunks."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from rtrl.learners._feed import feed
from rtrl.learners._guard import Bounds, bounds_of
from rtrl.learners._hidden import Ahead, hidden, look_ahead
from rtrl.learners._interrupt import uninterrupted
from rtrl.learners._open_stream import resume_or_open, wraps
from rtrl.learners._restart import restart
from rtrl.learners._state import LearnerState, NonFiniteError, StepOutput, mark, nothing_learned
from rtrl.learners._stream_item import Item, naming_item, read_item, require_finite
from rtrl.learners._stream_state import StreamState, targets_like
from rtrl.validate import require


def stream(
    learner: Any,
    state: LearnerState | StreamState,
    source: Iterable[tuple],
    chunk: int,
    delay: int,
) -> Iterator[tuple[StreamState, StepOutput]]:
    """See `OnlineLearner.stream`."""
    state, ahead = resume_or_open(state, chunk, delay), Ahead()

    def take(state, item):
        with naming_item(state.items, state):
            return push(learner, state, read_item(state, item), ahead)

    return each(take, state, source)


def each(take: Callable, state: Any, source: Iterable[tuple]) -> Iterator[tuple[Any, StepOutput]]:
    """Take item by item, whole; Ctrl-C here brings the newest state, too."""
    for item in source:
        try:
            state, out = uninterrupted(take, state, item)
            yield state, out
        except KeyboardInterrupt as error:
            error.state = getattr(error, "state", state)  # type: ignore[attr-defined]
            raise


def push(
    learner: Any, state: StreamState, item: Item, ahead: Ahead
) -> tuple[StreamState, StepOutput]:
    """Predict one item; then take its target, and learn a chunk if that completes one."""
    if learner.on_nonfinite == "raise":
        require_finite(item, state)

    # The prediction comes before anything looks at the target, whatever the delay.
    # On the host: no program runs for items that begin nothing.
    carry = state.carry
    if item.reset.any():
        mask = item.reset if item.reset.ndim else None
        carry = restart(state.model, carry, mask)
    bounds = bounds_of(learner.guard, state.learner.guard)
    x = feed(state, item.x, time=False)
    prediction, carry = ahead(state.model, carry, x, bounds)

    state = _hold(state, item, carry)
    if state.held < state.chunk + state.delay:
        return state, nothing_learned(prediction)
    known = state.known
    behind, learned = learn_held(learner, state, state.chunk)
    state = _drop_chunk(state, behind, bounds_of(learner.guard, behind.guard))
    # A missing target has no loss; the zeros in its place may have one.
    loss = learned.loss if known.all() else mark(learned.loss, ~known)
    return state, dataclasses.replace(learned, prediction=prediction, loss=loss)


def _hold(state: StreamState, item: Item, carry: PyTree) -> StreamState:
    """Put an item into the buffer; its target belongs to the input ``delay`` items before."""
    count = int(state.held)
    xs = state.xs
    if state.items == 0:  # the first input says what inputs are
        xs = np.zeros((len(xs), *item.x.shape), item.x.dtype)
    xs = _with(xs, count, item.x)
    ys, weights, known, settled = state.ys, state.weights, state.known, state.settled
    to = count - state.delay
    if to >= 0:  # before: the target of an input from before the stream
        missing = item.y is None
        weights = _with(weights, to, 0.0 if missing else item.weight)
        known = _with(known, to, not missing)
        if not missing and not settled:
            ys, settled = targets_like(item.y, state.chunk), np.bool_(True)
        if not missing:
            ys = jax.tree.map(lambda held, y: _with(held, to, y), ys, item.y)
    return dataclasses.replace(
        state,
        carry=carry,
        xs=xs,
        ys=ys,
        weights=weights,
        resets=_with(state.resets, count, item.reset),
        known=known,
        held=np.int64(count + 1),
        settled=settled,
        items=state.items + 1,
    )


def learn_held(learner: Any, state: StreamState, length: int) -> tuple[LearnerState, StepOutput]:
    """Learn the oldest ``length`` items held as one chunk."""
    resets = state.resets[:length]
    try:
        return learner.scan(
            state.learner,
            state.xs[:length],
            jax.tree.map(lambda a: a[:length], state.ys) if state.settled else None,
            chunk=length,
            weights=state.weights[:length],
            resets=resets if resets.any() else None,  # a program without them is smaller
        )
    except NonFiniteError as error:
        raise NonFiniteError(str(error), state) from error  # type: ignore[arg-type]


def _drop_chunk(state: StreamState, behind: LearnerState, bounds: Bounds) -> StreamState:
    """Let go of a learned chunk, and bring the hidden states up to date with the learner.

    They start again from the learner's and run over the inputs still held, with the new parameters:
    predictions are those that the learner itself would make if it were there.
    """
    # All held inputs but those of the chunk just learned: as many as the delay, always.
    left = state.delay
    xs, resets = np.zeros_like(state.xs), np.zeros_like(state.resets)
    xs[:left], resets[:left] = state.xs[state.chunk :], state.resets[state.chunk :]
    carry = hidden(behind.carry)
    if left:
        data = feed(state, (xs[:left], resets[:left]), time=True)
        _, carry = look_ahead(behind.model, carry, *data, bounds)
    return dataclasses.replace(
        state,
        learner=behind,
        carry=carry,
        xs=xs,
        ys=jax.tree.map(np.zeros_like, state.ys),
        weights=np.zeros_like(state.weights),
        resets=resets,
        known=np.zeros_like(state.known),
        held=np.int64(left),
    )


def _with(array: np.ndarray, index: int, value: Any) -> np.ndarray:
    """A copy with one row replaced: states that were yielded stay as they are."""
    array = array.copy()
    array[index] = value
    return array


def close_stream(learner: Any, state: Any) -> Any:
    """End a stream: give the learner's state after all that is held.

    Inputs whose targets are known are learned as a ragged chunk; those without a target yet only
    advance the learner. Under ``donate=True`` this uses up ``state``.

    Args:
        learner: the `OnlineLearner` or `Standardized` one whose stream it is.
        state: the last state that the stream yielded.

    Returns:
        A `LearnerState`, or a `StandardizedState` around one.

    Raises:
        ValueError: the state is not one of a stream.
        NonFiniteError: as `OnlineLearner.stream`.
    """
    return uninterrupted(_close_stream, learner, state)


def _close_stream(learner, state):
    if wraps(state):
        inner = _close_stream(learner.learner, state.learner)
        return eqx.tree_at(lambda s: s.learner, state, inner)
    require(isinstance(state, StreamState), "state", "a state from stream", type(state))
    behind, count = state.learner, int(state.held)
    tail = max(count - state.delay, 0)
    if tail:
        behind, _ = learn_held(learner, state, tail)
    # Their targets will not come any more, but what they did to the states counts.
    if tail < count:
        rest = slice(tail, count)
        resets = state.resets[rest] if state.resets[rest].any() else None
        chunk = min(state.chunk, count - tail)
        behind, _ = learner.scan(behind, state.xs[rest], None, chunk=chunk, resets=resets)
    return behind
