"""Live streams: every item is predicted at once, learning follows behind in chunks."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree

from rtrl import _inputs
from rtrl._inputs import Chunk
from rtrl._jit import Jitted
from rtrl._learner import (
    LearnerState,
    NonFiniteError,
    StepOutput,
    _batch_size,
    _remove_nonfinite,
    _restart,
    hidden,
)
from rtrl._validate import require
from rtrl.rules._bptt import BPTT

if TYPE_CHECKING:
    from rtrl._learner import OnlineLearner


class StreamState(eqx.Module):
    """A learner in the middle of a stream: an immutable pytree, saved and loaded whole.

    Predictions are ahead of learning by the items held here, which wait for the target of the last
    of their chunk. ``learner.predict(state, x)`` looks ahead from the newest item, with the newest
    parameters.

    Attributes:
        learner: the learner's state, behind by the items held.
        carry: hidden states after the newest item (a carry without traces).
        xs: inputs held, oldest first, ``(chunk + delay, [batch,] ...)``.
        ys: targets held, a pytree of ``(chunk, [batch,] ...)``.
        weights: of the losses, ``(chunk, [batch])``; 0 where the target is missing.
        resets: where a new sequence begins, ``(chunk + delay, [batch])``.
        known: which targets are not missing, ``(chunk,)``.
        held: how many inputs are held; what is beyond them in the arrays means nothing.
        settled: whether the shape and kind of a target are known for sure.
        items: items taken from the source so far, over all calls: the number of the next one.
    """

    learner: LearnerState
    carry: PyTree
    xs: np.ndarray
    ys: PyTree[np.ndarray]
    weights: np.ndarray
    resets: np.ndarray
    known: np.ndarray
    held: np.int64
    settled: np.bool_
    items: np.int64

    @property
    def model(self) -> PyTree:
        """The network with its newest parameters."""
        return self.learner.model

    @property
    def chunk(self) -> int:
        return len(self.weights)

    @property
    def delay(self) -> int:
        return len(self.xs) - len(self.weights)


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
    check_integer(chunk, "chunk", 1, "(timesteps)")
    check_integer(delay, "delay", 0, "(items)")
    if _wraps(state):
        inner = open_stream(state.learner, x, y, chunk=chunk, delay=delay)
        return eqx.tree_at(lambda s: s.learner, state, inner)
    require(isinstance(state, LearnerState), "state", "one that is not in a stream", type(state))
    lead = _lead(state)
    dtype = _inputs.float_dtype(state.model)
    x = _example_input(state) if x is None else _as_input(state, x, dtype)
    settled = y is not None
    if y is None:
        y = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), prediction_like(state, x))
    y = _as_target(state, y, dtype)
    return StreamState(
        learner=state,
        carry=hidden(state.carry),
        xs=np.zeros((chunk + delay, *x.shape), x.dtype),
        ys=_targets_like(y, chunk),
        weights=np.zeros((chunk, *lead), dtype),
        resets=np.zeros((chunk + delay, *lead), bool),
        known=np.zeros(chunk, bool),
        held=np.int64(0),
        settled=np.bool_(settled),
        items=np.int64(0),
    )


def close_stream(learner: Any, state: Any) -> Any:
    """End a stream: give the learner's state after all that is held.

    Inputs whose targets are known are learned as a ragged chunk; those without a target yet only
    advance the learner. Under ``donate=True`` this uses up ``state``.
    """
    if _wraps(state):
        inner = close_stream(learner.learner, state.learner)
        return eqx.tree_at(lambda s: s.learner, state, inner)
    require(isinstance(state, StreamState), "state", "a state from stream", type(state))
    behind, count = state.learner, int(state.held)
    tail = max(count - state.delay, 0)
    if tail:
        behind, _ = _learn(learner, state, tail)
    if tail < count:
        rest = slice(tail, count)
        resets = state.resets[rest] if state.resets[rest].any() else None
        chunk = min(state.chunk, count - tail)
        behind, _ = learner.scan(behind, state.xs[rest], None, chunk=chunk, resets=resets)
    return behind


def _wraps(state: Any) -> bool:
    """Whether it is the state of a learner around a learner, such as `rtrl.Standardized`."""
    return not isinstance(state, LearnerState | StreamState) and hasattr(state, "learner")


def stream(
    learner: "OnlineLearner",
    state: LearnerState | StreamState,
    source: Iterable[tuple],
    chunk: int,
    delay: int,
) -> Iterator[tuple[StreamState, StepOutput]]:
    """See `OnlineLearner.stream`."""
    state = resume_or_open(state, chunk, delay)
    return _run(learner, state, source)


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


def _run(learner, state, source):
    for item in source:
        with naming_item(state.items, state):
            state, out = push(learner, state, read(state, item))
        yield state, out


class Item(NamedTuple):
    """What a source yields, as arrays."""

    x: np.ndarray
    y: PyTree[np.ndarray] | None
    weight: np.ndarray
    reset: np.ndarray


def unpack(item: Any) -> tuple[Any, Any, Any, Any]:
    """The four parts of an item ``(x, y[, weight[, reset]])``."""
    if not isinstance(item, tuple | list) or not 2 <= len(item) <= 4:
        got = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
        raise ValueError(f"source: expected a pair (x, y) or (x, y, weight, reset), got {got}.")
    x, y, *more = item
    weight, reset = (*more, *(1.0, False)[len(more) :])
    return x, y, weight, reset


def read(state: StreamState, item: Any) -> Item:
    """Check an item and cast its parts."""
    x, y, weight, reset = unpack(item)
    dtype = state.weights.dtype  # the model's: asking the model takes longer
    x = _as_input(state.learner, x, dtype)
    if state.items > 0:
        _require_alike(x, state.xs[0], "x")
    if y is not None:
        y = _as_target(state.learner, y, dtype)
        if state.settled:
            _require_alike_tree(y, jax.tree.map(lambda a: a[0], state.ys))
            y = jax.tree.map(lambda a, held: a.astype(held.dtype), y, state.ys)
    lead = _lead(state)
    weight = np.asarray(_inputs.per_timestep(weight, lead, "weight", dtype))
    reset = np.asarray(_inputs.per_timestep(reset, lead, "reset", bool))
    return Item(x, y, weight, reset)


def push(
    learner: "OnlineLearner", state: StreamState, item: Item
) -> tuple[StreamState, StepOutput]:
    """Predict one item; then take its target, and learn a chunk if that completes one."""
    if learner.on_nonfinite == "raise":
        _require_finite(item, state)

    # The prediction comes before anything looks at the target, whatever the delay.
    carry = state.carry
    if item.reset.any():
        mask = item.reset if item.reset.ndim else None
        carry = _restart(state.model, carry, mask)
    prediction, carry = _look_ahead(state.model, carry, item.x[None])

    state = _hold(state, item, carry)
    nothing: Any = np.zeros(0, np.float32)
    if state.held < state.chunk + state.delay:
        return state, StepOutput(prediction, nothing, nothing.astype(np.int32), nothing)
    known = state.known
    behind, learned = _learn(learner, state, state.chunk)
    state = _drop_chunk(state, behind)
    # A missing target has no loss; the zeros in its place may have one.
    loss = learned.loss if known.all() else jnp.where(known, learned.loss, jnp.nan)
    return state, StepOutput(prediction, loss, learned.skipped, learned.grad_norm)


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
            ys, settled = _targets_like(item.y, state.chunk), np.bool_(True)
        if not missing:
            ys = jax.tree.map(lambda held, y: _with(held, to, y), ys, item.y)
    return StreamState(
        learner=state.learner,
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


def _learn(
    learner: "OnlineLearner", state: StreamState, length: int
) -> tuple[LearnerState, StepOutput]:
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


def _drop_chunk(state: StreamState, behind: LearnerState) -> StreamState:
    """Let go of a learned chunk, and bring the hidden states up to date with the learner.

    They start again from the learner's and run over the inputs still held, with the new parameters:
    predictions are those that the learner itself would make if it were there.
    """
    left = state.delay
    xs, resets = np.zeros_like(state.xs), np.zeros_like(state.resets)
    xs[:left], resets[:left] = state.xs[state.chunk :], state.resets[state.chunk :]
    carry = hidden(behind.carry)
    if left:
        _, carry = _look_ahead(behind.model, carry, xs[:left], resets[:left])
    return StreamState(
        learner=behind,
        carry=carry,
        xs=xs,
        ys=jax.tree.map(np.zeros_like, state.ys),
        weights=np.zeros_like(state.weights),
        resets=resets,
        known=np.zeros_like(state.known),
        held=np.int64(left),
        settled=state.settled,
        items=state.items,
    )


@Jitted
def _look_ahead(
    model: PyTree, carry: PyTree, xs: Array, resets: Array | None = None
) -> tuple[PyTree[Array], PyTree]:
    """Run a network over timesteps without learning: its last prediction and hidden states."""
    lead = jax.tree.leaves(carry)[0].shape[:-1]
    data, _ = _remove_nonfinite(Chunk(xs, None, jnp.ones((len(xs), *lead)), resets))
    predictions, carry = model(data.xs, carry, rule=BPTT(), resets=resets, mask=data.mask, key=None)
    return jax.tree.map(lambda a: a[-1], predictions), carry


class naming_item:  # a context manager: cheaper than a generator, and it runs for every item
    """Say in an error which item of the source it is about."""

    def __init__(self, number: np.int64, state: Any):
        self.number = number
        self.state = state

    def __enter__(self):
        return None

    def __exit__(self, kind, error, traceback):
        name = f"item {int(self.number)} of the stream: "
        if kind is ValueError:
            raise ValueError(name + str(error)) from error
        if kind is NonFiniteError:
            raise NonFiniteError(name + str(error), self.state) from error


def _require_finite(item: Item, state: StreamState) -> None:
    for name, value in (("x", item.x), ("y", item.y)):
        for leaf in jax.tree.leaves(value):
            if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf).all():
                raise NonFiniteError(f"{name} is not finite.", state)  # type: ignore[arg-type]


def _require_alike(value: np.ndarray, like: np.ndarray, argument: str) -> None:
    same_kind = np.can_cast(value.dtype, like.dtype, "same_kind")
    require(
        value.shape == like.shape and same_kind,
        argument,
        f"{like.dtype} of shape {like.shape}, like the items before",
        f"{value.dtype} of shape {value.shape}",
    )


def _require_alike_tree(value: PyTree, like: PyTree) -> None:
    require(
        jax.tree.structure(value) == jax.tree.structure(like),
        "y",
        f"{jax.tree.structure(like)}, like the targets before",
        jax.tree.structure(value),
    )
    jax.tree.map(lambda a, b: _require_alike(a, b, "y"), value, like)


def _example_input(state: LearnerState) -> np.ndarray:
    """What the model's in_size says; without one tokens, which the first item may correct."""
    size, lead = getattr(state.model, "in_size", None), _lead(state)
    if size is None:
        return np.zeros(lead, np.int32)
    return np.zeros((*lead, size), _inputs.float_dtype(state.model))


def _as_input(state: LearnerState, x: ArrayLike, dtype: Any) -> np.ndarray:
    x = _inputs.cast(x, dtype, "x")
    _inputs.check_xs(state.model, x, _batch_size(state), time=False)
    return _canonical(x)


def _as_target(state: LearnerState, y: PyTree[ArrayLike], dtype: Any) -> PyTree[np.ndarray]:
    y = jax.tree.map(_canonical, _inputs.cast(y, dtype, "y"))
    lead = _lead(state)
    for leaf in jax.tree.leaves(y):
        expected = f"leading axes {lead}, (batch,)"
        require(leaf.shape[: len(lead)] == lead, "y", expected, leaf.shape)
    return y


def _canonical(a: ArrayLike) -> np.ndarray:
    """As numpy, in the dtype that JAX would give it."""
    a = np.asarray(a)
    return a.astype(jax.dtypes.canonicalize_dtype(a.dtype), copy=False)


def prediction_like(state: LearnerState, x: np.ndarray | None = None) -> PyTree:
    """Shape and dtype of a prediction."""
    example = _example_input(state) if x is None else x

    def predict(model, carry):
        return model(example[None], carry, rule=BPTT(), resets=None, mask=None, key=None)[0]

    predictions = eqx.filter_eval_shape(predict, state.model, hidden(state.carry))
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), predictions)


def _targets_like(y: PyTree[np.ndarray], chunk: int) -> PyTree[np.ndarray]:
    return jax.tree.map(lambda a: np.zeros((chunk, *a.shape), a.dtype), y)


def _lead(state: LearnerState | StreamState) -> tuple[int, ...]:
    batch_size = _batch_size(state)  # type: ignore[arg-type]
    return () if batch_size is None else (batch_size,)


def _with(array: np.ndarray, index: int, value: Any) -> np.ndarray:
    """A copy with one row replaced: states that were yielded stay as they are."""
    array = array.copy()
    array[index] = value
    return array


def check_integer(value: Any, argument: str, least: int, unit: str) -> None:
    ok = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least
    require(bool(ok), argument, f"an integer of at least {least} {unit}", value)
