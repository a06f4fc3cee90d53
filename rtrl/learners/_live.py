"""Single steps for a loop that counts microseconds: the state stays packed between calls."""

import dataclasses
from typing import Any, NamedTuple

import jax
from jax.core import Tracer
from jaxtyping import ArrayLike, PyTree

from rtrl.engine import placement_of
from rtrl.learners import _inputs
from rtrl.learners._feed import layout_here
from rtrl.learners._interrupt import uninterrupted
from rtrl.learners._jit import Bound, Jitted, joined, split
from rtrl.learners._learner import OnlineLearner
from rtrl.learners._overlap import check_step, fitted
from rtrl.learners._packed import Layout, Packed, packed, unpacked
from rtrl.learners._state import LearnerState, StepOutput, require_there
from rtrl.learners._step import advance_one
from rtrl.validate import require


class Live:
    """A learner and its newest state, for a loop of single steps from Python.

    ::

        live = rtrl.Live(learner, learner.init(model))
        for x, y in source:
            out = live.step(x, y)
        rtrl.save("state", live.state)

    It learns what `OnlineLearner.step` learns, up to rounding. A state is a tree of some hundred
    arrays: to take it apart for every call, hand the arrays to a compiled program, and put those of
    the next state together takes longer than a small network takes to learn. Here the small ones
    lie end to end in one, and a state is put together when somebody asks for `state`. A step that
    needs more than that (``on_nonfinite="raise"``, ``donate=False``, ``jax_debug_nans``, a state
    spread over devices) is an ordinary one.

    Args:
        learner: the learner.
        state: from `OnlineLearner.init`, `OnlineLearner.step` or `OnlineLearner.scan`; used up by
            the first step, as these do.

    Raises:
        ValueError: an argument of another kind.
    """

    def __init__(self, learner: OnlineLearner, state: LearnerState):
        require(isinstance(learner, OnlineLearner), "learner", "an OnlineLearner", type(learner))
        require(isinstance(state, LearnerState), "state", "a LearnerState", type(state))
        require_there(state)
        check_step(learner.rule, learner.overlap)
        self.learner = learner
        self._whole: LearnerState | None = state  # where it is known
        self._packed: _Now | None = None  # where it is newer, or the same
        self._known: dict[Any, tuple[Bound, Any]] = {}  # programs, by what a timestep is made of

    @property
    def state(self) -> LearnerState:
        """The state after the last step; the next step uses it up."""
        if self._whole is None:
            assert self._packed is not None
            self._whole = unpacked(self._packed.layout, self._packed.arrays)
        return self._whole

    def step(
        self,
        x: Any,
        y: PyTree[ArrayLike] | None = None,
        weight: ArrayLike = 1.0,
        reset: ArrayLike = False,
    ) -> StepOutput:
        """Predict one timestep, then learn from it.

        Args:
            x: input, ``([batch,] in_size)``.
            y: target, or ``None`` if there is none (as with weight 0).
            weight: of the loss, ``([batch])``.
            reset: true where a new sequence begins with this timestep, ``([batch])``.

        Returns what the step tells, without time axes.

        Raises:
            ValueError: an argument of the wrong shape or kind, named; nothing has changed then.
            NonFiniteError: see ``on_nonfinite`` of the learner; ``state`` is as it was.
            KeyboardInterrupt: see ``donate`` of the learner; ``state`` is the newest one.
        """
        now = self._packed
        if now is None:
            return self._first(x, y, weight, reset)
        data = _inputs.prepare_one(now.model, x, y, weight, reset, *now.layout_of_data)
        leaves, kind = jax.tree.flatten(data)
        bound, told = self._known.get(kind, (None, None))
        if bound is None or not bound.holds() or any(isinstance(a, Tracer) for a in leaves):
            return self._first(x, y, weight, reset)
        if self._whole is not None:  # somebody asked for it, and may have used it up
            require_there(self._whole)
        given = [*now.arrays.rest, *now.arrays.ends]
        try:
            arrays = uninterrupted(bound.program, [*now.of_learner, *leaves], given)
        except KeyboardInterrupt as error:
            arrays: Any = getattr(error, "state", None)
            if arrays is not None:
                self._take(now, arrays)
                error.state = self.state  # type: ignore[attr-defined]
            raise
        self._take(now, arrays)
        return joined(arrays[len(given) :], told)

    def _take(self, now: "_Now", arrays: list[Any]) -> None:
        rest, ends = len(now.arrays.rest), len(now.arrays.ends)
        self._packed = now._replace(arrays=Packed(arrays[:rest], arrays[rest : rest + ends]))
        self._whole = None

    def _first(self, x, y, weight, reset) -> StepOutput:
        """A step of another kind than those before it, or one that takes the state as a whole."""
        looks = not self.learner.donate or self.learner.on_nonfinite == "raise"
        looks |= jax.config.jax_debug_nans  # type: ignore[attr-defined]
        state = None
        if self._packed is None or looks:
            state = self.state
            require_there(state)
            looks |= placement_of(state.carry) is not None
        elif self._whole is not None:
            require_there(self._whole)
        if looks or any(isinstance(a, Tracer) for a in jax.tree.leaves((state, x, y))):
            return self._ordinary(x, y, weight, reset)
        now = self._packed
        if now is None:
            assert state is not None
            model, layout_of_data = state.model, layout_here(state)
            data = _inputs.prepare_one(model, x, y, weight, reset, *layout_of_data)
            past = fitted(self.learner.overlap, state.past, data.xs, time=False)
            layout, arrays = packed(dataclasses.replace(state, past=past))
            now = _Now(layout, arrays, split(self.learner)[0], model, layout_of_data)
            self._known.clear()
        else:
            data = _inputs.prepare_one(now.model, x, y, weight, reset, *now.layout_of_data)
        bound = advance_packed.bind(self.learner, data, now.layout, now.arrays)
        try:
            arrays, out = uninterrupted(
                advance_packed, self.learner, data, now.layout, now.arrays
            )
        except KeyboardInterrupt as error:
            arrays = getattr(error, "state", None)
            if arrays is not None:
                self._packed, self._whole = now._replace(arrays=arrays), None
                error.state = self.state  # type: ignore[attr-defined]
            raise
        self._packed, self._whole = now._replace(arrays=arrays), None
        self._known[jax.tree.structure(data)] = bound, split(out)[1]
        return out

    def _ordinary(self, x, y, weight, reset) -> StepOutput:
        try:
            self._whole, out = self.learner.step(self.state, x, y, weight, reset)
        except KeyboardInterrupt as error:
            if (state := getattr(error, "state", None)) is not None:
                self._whole, self._packed = state, None
            raise
        self._packed = None
        return out


class _Now(NamedTuple):
    """A state as a compiled program takes it, and what is needed beside it."""

    layout: Layout
    arrays: Packed
    of_learner: list[Any]
    model: Any
    layout_of_data: tuple[int | None, Any]


def _advance_packed(learner, data, layout, arrays):
    state = joined(layout.unpack(arrays), layout.key)
    state, out = advance_one.keeping.function(learner, data, None, state)
    after, key = split(state)
    assert key == layout.key and tuple(a.shape for a in after) == layout.shapes
    return layout.pack(after), out


advance_packed = Jitted(_advance_packed, donate_last=True)
