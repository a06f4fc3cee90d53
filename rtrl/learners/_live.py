"""Single steps for a loop that counts microseconds: the state stays taken apart between calls."""

from typing import Any, NamedTuple

import jax
from jax.core import Tracer
from jaxtyping import ArrayLike, PyTree

from rtrl.engine import placement_of
from rtrl.learners import _inputs
from rtrl.learners._feed import layout_here
from rtrl.learners._interrupt import uninterrupted
from rtrl.learners._jit import Bound, joined, split
from rtrl.learners._learner import OnlineLearner
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

    The same compiled program as `OnlineLearner.step`, and the same numbers to the bit. A state is a
    tree of some hundred arrays, and to take it apart for every call and put the next one together
    takes longer than a small network takes to learn; here that is done when somebody asks for
    `state`. A step that has to look at its state (``on_nonfinite="raise"``, ``donate=False``,
    ``jax_debug_nans``, a state spread over devices) is an ordinary one.

    Args:
        learner: the learner.
        state: from `OnlineLearner.init`, `OnlineLearner.step` or `OnlineLearner.scan`; used up by
            the first step, as by these.

    Raises:
        ValueError: an argument of another kind.
    """

    def __init__(self, learner: OnlineLearner, state: LearnerState):
        require(isinstance(learner, OnlineLearner), "learner", "an OnlineLearner", type(learner))
        require(isinstance(state, LearnerState), "state", "a LearnerState", type(state))
        require_there(state)
        self.learner = learner
        self._whole: LearnerState | None = state  # None where it is not put together yet
        self._apart: _Apart | None = None
        self._known: dict[Any, Bound] = {}  # programs, by what a timestep is made of

    @property
    def state(self) -> LearnerState:
        """The state after the last step; the next step uses it up."""
        whole = self._whole
        if whole is None:
            assert self._apart is not None
            whole = self._whole = joined(self._apart.arrays, self._apart.key)
        return whole  # type: ignore[return-value]  # what joined gives is of any type

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
        apart = self._apart
        if apart is None:
            return self._ordinary(x, y, weight, reset)
        data = _inputs.prepare_one(apart.model, x, y, weight, reset, *apart.layout)
        leaves, structure = jax.tree.flatten(data)
        bound = self._known.get((structure, data.xs.dtype))
        if bound is None or not bound.holds() or any(isinstance(a, Tracer) for a in leaves):
            return self._ordinary(x, y, weight, reset)
        if self._whole is not None:  # somebody asked for it, and may have used it up
            require_there(self._whole)
        count = len(apart.arrays)
        try:
            arrays = uninterrupted(bound, [*apart.of_learner, *leaves], apart.arrays)
        except KeyboardInterrupt as error:
            there = getattr(error, "state", None)
            if there is not None:
                self._apart, self._whole = apart._replace(arrays=there[:count]), None
                error.state = self.state  # type: ignore[attr-defined]
            raise
        self._apart, self._whole = apart._replace(arrays=arrays[:count]), None
        return joined(arrays[count:], apart.told)

    def _ordinary(self, x, y, weight, reset) -> StepOutput:
        """A step that takes the state whole; the next one like it may not have to."""
        try:
            state, out = self.learner.step(self.state, x, y, weight, reset)
        except KeyboardInterrupt as error:
            if (there := getattr(error, "state", None)) is not None:
                self._whole, self._apart = there, None
            raise
        self._whole, self._apart = state, None  # first of all: an interrupt may come at once
        self._apart = self._taken_apart(state, out)
        if self._apart is not None:
            layout = self._apart.layout
            data = _inputs.prepare_one(state.model, x, y, weight, reset, *layout)
            bound = advance_one.donating.bind(self.learner, data, None, state)
            self._known[jax.tree.structure(data), data.xs.dtype] = bound
        return out

    def _taken_apart(self, state: LearnerState, out: StepOutput) -> "_Apart | None":
        looks = not self.learner.donate or self.learner.on_nonfinite == "raise"
        looks |= jax.config.jax_debug_nans or placement_of(state.carry) is not None  # type: ignore
        (arrays, key), (told, as_told) = split(state), split(out)
        if looks or any(isinstance(a, Tracer) for a in (*arrays, *told)):
            return None
        return _Apart(arrays, key, as_told, split(self.learner)[0], state.model, layout_here(state))


class _Apart(NamedTuple):
    """A state as a compiled program takes it, and what is needed beside it."""

    arrays: list[Any]
    key: Any  # all of the state but its arrays; a program gives it back
    told: Any  # the same of what a step tells
    of_learner: list[Any]
    model: Any  # for the shape of its inputs
    layout: tuple[int | None, Any]
