"""Online standardisation: a learner that takes and gives the data's own units."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray, PyTree

from rtrl.learners import (
    Ahead,
    Filter,
    Guard,
    NonFiniteError,
    OnlineLearner,
    StepOutput,
    batch_size_of,
    check_xs,
    each,
    naming_item,
    prediction_like,
    push,
    read_item,
    resume_or_open,
    uninterrupted,
    unpack,
)
from rtrl.streams._moments import Moments
from rtrl.streams._standardized_state import StandardizedState, at_rest
from rtrl.validate import require, require_integer


class Standardized(eqx.Module):
    """A learner whose inputs and targets are standardised online, by what has been seen so far.

    It is used as an `OnlineLearner` is: what goes in and the predictions that come out are in the
    data's own units (predictions as numpy float64), while the network inside works with mean 0 and
    variance 1. ``out.loss`` is the loss that is minimised, so in standardised units;
    `rtrl.evaluate.prequential` measures in the data's own.

    The moments are updated by every timestep, whatever the chunk: an input is standardised by those
    of all inputs up to and including itself, a target by those of all targets revealed up to and
    including itself, and a prediction is mapped back by those of the targets revealed before it.
    Values that are missing (NaN) move nothing, a constant feature becomes 0, a batch is pooled.
    What is more than about ``memory`` timesteps ago is forgotten. A single wild value hardly moves
    the moments, a lasting change does at once: eight wild values in a row begin the mean anew, a
    stretch with a hundredth of the deviation so far the deviation.

    Early on the moments move a lot, and a learner that never forgets (`rtrl.kalman`) keeps what it
    learned from badly scaled data. So no target that is revealed in the first ``warmup`` timesteps
    is learned, though predictions are made and hidden states advance.

    Args:
        learner: the learner inside.
        inputs: whether to standardise inputs, or a boolean for each: indicators of rare events are
            best left as they are (see ``rtrl.tables.Table.scaled``).
        targets: whether to standardise targets; ``False`` for classes.
        warmup: timesteps before learning begins.
        memory: timesteps after which what was seen has faded to 1 / e; ``None``: it never fades.
        freeze: timesteps after which the moments stay as they are; ``None`` for never.
        guard: of the learner inside, unless it has one; ``None`` for none. ``"auto"``: a `Guard`,
            for `rtrl.kalman` with ``divergence=100``, or one sure of itself does not find back.

    Raises:
        ValueError: an argument of the wrong kind or out of range.
    """

    learner: OnlineLearner
    inputs: bool | tuple[bool, ...] = eqx.field(static=True)
    targets: bool = eqx.field(static=True)
    warmup: int = eqx.field(static=True)
    memory: float | None = eqx.field(static=True)
    freeze: int | None = eqx.field(static=True)

    def __init__(
        self,
        learner: OnlineLearner,
        *,
        inputs: bool | Sequence[bool] = True,
        targets: bool = True,
        warmup: int = 20,
        memory: float | None = 3000.0,
        freeze: int | None = None,
        guard: Guard | None | Literal["auto"] = "auto",
    ):
        require(isinstance(learner, OnlineLearner), "learner", "an OnlineLearner", learner)
        if not isinstance(inputs, bool):
            each = np.asarray(inputs)
            known = each.ndim == 1 and each.dtype == bool
            require(known, "inputs", "a boolean, or one for each", inputs)
            inputs = tuple(each.tolist())
        require(isinstance(targets, bool), "targets", "a boolean", targets)
        require_integer(warmup, "warmup", 0, "(timesteps)")
        if memory is not None:
            require(memory >= 2, "memory", "at least 2 (timesteps), or None", memory)
        if freeze is not None:
            require_integer(freeze, "freeze", 1, "(timesteps)")
        if guard == "auto":
            guard = Guard(divergence=100.0 if isinstance(learner.optimizer, Filter) else None)
        if learner.guard is None and guard is not None:
            learner = dataclasses.replace(learner, guard=guard)
        self.learner = learner
        self.inputs = inputs
        self.targets = targets
        self.warmup = warmup
        self.memory = None if memory is None else float(memory)
        self.freeze = freeze

    def init(
        self, model: PyTree, batch_size: int | None = None, *, key: PRNGKeyArray | None = None
    ) -> StandardizedState:
        """As `OnlineLearner.init`; the model needs an ``in_size``.

        Raises:
            ValueError: also where the model has none, or its predictions are not one array.
        """
        size = getattr(model, "in_size", None)
        require(
            not self.inputs or size is not None,
            "model",
            "one with an in_size, or inputs=False",
            type(model).__name__,
        )
        state = self.learner.init(model, batch_size, key=key)
        if isinstance(self.inputs, tuple):
            require(len(self.inputs) == size, "inputs", f"{size} booleans", self.inputs)
        inputs = Moments.empty((size,)) if self.inputs and size is not None else None
        targets = None
        if self.targets:
            like = prediction_like(state)
            require(
                isinstance(like, jax.ShapeDtypeStruct),
                "targets",
                "False, as predictions are not one array",
                True,
            )
            targets = Moments.empty(like.shape[0 if batch_size is None else 1 :])
        return StandardizedState(state, inputs, targets, np.int64(0))

    def stream(
        self,
        state: StandardizedState,
        source: Iterable[tuple],
        chunk: int = 16,
        delay: int = 0,
    ) -> Iterator[tuple[StandardizedState, StepOutput]]:
        """As `OnlineLearner.stream`, in the data's own units."""
        inner = resume_or_open(state.learner, chunk, delay)
        state = dataclasses.replace(state, learner=inner)
        return each(functools.partial(self._push, Ahead()), state, source)

    def _push(
        self, ahead: Ahead, state: StandardizedState, item: Any
    ) -> tuple[StandardizedState, StepOutput]:
        inner: Any = state.learner
        with naming_item(inner.items, state):
            x, y, weight, reset = unpack(item)
            after, x, y, restore = self._take(state, x, y)
            if after.items <= self.warmup:
                weight = np.zeros(np.shape(weight))
            inner, out = push(self.learner, inner, read_item(inner, (x, y, weight, reset)), ahead)
        return dataclasses.replace(after, learner=inner), _map_prediction(out, restore)

    def step(
        self,
        state: StandardizedState,
        x: ArrayLike,
        y: ArrayLike | None = None,
        weight: ArrayLike = 1.0,
        reset: ArrayLike = False,
    ) -> tuple[StandardizedState, StepOutput]:
        """As `OnlineLearner.step`, in the data's own units."""
        return uninterrupted(self._step, state, x, y, weight, reset)

    def _step(self, state, x, y, weight, reset):
        inner = at_rest(state)
        after, x, y, restore = self._take(state, x, y)
        if after.items <= self.warmup:
            weight = np.zeros(np.shape(weight))
        with _giving_back(state):
            inner, out = self.learner.step(inner, x, y, weight, reset)
        return dataclasses.replace(after, learner=inner), _map_prediction(out, restore)

    def scan(
        self,
        state: StandardizedState,
        xs: ArrayLike,
        ys: ArrayLike | None = None,
        *,
        chunk: int | None = None,
        weights: ArrayLike | None = None,
        resets: ArrayLike | None = None,
    ) -> tuple[StandardizedState, StepOutput]:
        """As `OnlineLearner.scan`, in the data's own units; ``ys[t]`` is revealed with ``xs[t]``.

        The moments of every timestep are those that single steps would have.
        """
        return uninterrupted(self._scan, state, xs, ys, chunk, weights, resets)

    def _scan(self, state, xs, ys, chunk, weights, resets):
        inner = at_rest(state)
        raw = np.asarray(xs)
        check_xs(inner.model, raw, batch_size_of(inner))
        if ys is not None:
            ys = np.asarray(ys)
            require(len(ys) == len(raw), "ys", f"{len(raw)} timesteps, like xs", len(ys))
        began, after = int(state.items), state
        taken = []
        for t in range(len(raw)):
            after, x, y, restore = self._take(after, raw[t], None if ys is None else ys[t])
            taken.append((x, y, restore))
        scaled = np.stack([x for x, _, _ in taken])
        targets = None if ys is None else np.stack([y for _, y, _ in taken])
        weights = np.asarray(1.0 if weights is None else weights)
        warm = np.arange(began, began + len(raw)) >= self.warmup
        if not warm.all():
            if weights.ndim == 0:
                weights = np.full(len(raw), weights)
            weights = np.where(np.expand_dims(warm, tuple(range(1, weights.ndim))), weights, 0)
        with _giving_back(state):
            inner, outs = self.learner.scan(
                inner, scaled, targets, chunk=chunk, weights=weights, resets=resets
            )
        after = dataclasses.replace(after, learner=inner)
        if not self.targets:
            return after, outs
        rows = zip(np.asarray(outs.prediction), taken, strict=True)
        predictions = np.stack([restore(row) for row, (_, _, restore) in rows])
        return after, _map_prediction(outs, lambda _: predictions)

    def predict(
        self, state: StandardizedState, x: ArrayLike, carry: PyTree | None = None
    ) -> tuple[Any, PyTree]:
        """As `OnlineLearner.predict`, in the data's own units."""
        _, x, _, restore = self._take(state, x, None)
        prediction, carry = self.learner.predict(state.learner, x, carry)  # type: ignore[arg-type]
        return restore(prediction), carry

    def reset(self, state: StandardizedState, mask: ArrayLike | None = None) -> StandardizedState:
        """As `OnlineLearner.reset`; the moments stay."""
        inner = self.learner.reset(at_rest(state), mask)
        return dataclasses.replace(state, learner=inner)

    def _take(self, state: StandardizedState, x: Any, y: Any):
        """Update the moments by one timestep, and standardise it.

        Returns the state with its new moments, ``x``, ``y``, and what maps a prediction back.
        """
        moving = self.freeze is None or state.items < self.freeze
        memory = np.inf if self.memory is None else self.memory
        inputs, targets = state.inputs, state.targets
        if inputs is not None:
            x = _numbers(x, "x")
            check_xs(state.model, x, batch_size_of(state), time=False)  # type: ignore[arg-type]
            inputs = inputs.update(x, memory) if moving else inputs
            x = np.where(self.inputs, inputs.standardise(x), x)
        restore = lambda prediction: prediction  # noqa: E731
        if targets is not None:
            before = targets  # a prediction knows the targets revealed before it

            def restore(prediction):
                return before.restore(np.asarray(prediction, np.float64))

            if y is not None:
                y = _numbers(y, "y")
                batch_size = batch_size_of(state)  # type: ignore[arg-type]
                expected = (() if batch_size is None else (batch_size,)) + targets.mean.shape
                require(y.shape == expected, "y", f"{expected} like a prediction", y.shape)
                targets = targets.update(y, memory) if moving else targets
                y = targets.standardise(y)
        return StandardizedState(state.learner, inputs, targets, state.items + 1), x, y, restore


def _numbers(value: Any, argument: str) -> np.ndarray:
    """As float64: raw units may not fit the network's precision."""
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument}: expected numbers, got {value!r}.") from error


def _map_prediction(out: StepOutput, restore: Any) -> StepOutput:
    return dataclasses.replace(out, prediction=restore(out.prediction))


@contextlib.contextmanager
def _giving_back(state: StandardizedState):
    """In an error, the state of this learner rather than that of the one inside."""
    try:
        yield
    except NonFiniteError as error:
        raise NonFiniteError(str(error), state) from error  # type: ignore[arg-type]
