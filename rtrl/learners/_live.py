"""Single steps for a loop that counts microseconds: the state stays taken apart between calls."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jax.core import Tracer
from jaxtyping import ArrayLike, PyTree

from rtrl.engine import Chunk, placement_of
from rtrl.learners import _inputs
from rtrl.learners._feed import layout_here
from rtrl.learners._interrupt import uninterrupted
from rtrl.learners._jit import Bound, joined, split
from rtrl.learners._learner import OnlineLearner
from rtrl.learners._overlap import check_step, fitted
from rtrl.learners._packing import Packed, Packing, Unsettled, packing_of
from rtrl.learners._state import LearnerState, StepOutput, require_there
from rtrl.learners._step import advance_packed
from rtrl.validate import require


class Live:
    """A learner and its newest state, for a loop of single steps from Python.

    ::

        live = rtrl.Live(learner, learner.init(model))
        for x, y in source:
            out = live.step(x, y)
        rtrl.save("state", live.state)

    The same learning step as `OnlineLearner.step`, and the same numbers. A state is a tree of some
    hundred arrays, and to take it apart for every call and put the next one together takes longer
    than a small network takes to learn; here that is done when somebody asks for `state`. Between
    steps its smaller arrays lie in a few vectors, and updates are proven to be finite rather than
    tested, as within a call of `OnlineLearner.scan`. A step that has to look at its state
    (``on_nonfinite="raise"``, ``donate=False``, ``jax_debug_nans``, a state spread over devices) is
    an ordinary one.

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
        self._held: _Held | None = None  # in its place
        self._packing: Packing | None = None
        self._known: dict[Any, _Program] = {}  # by what a timestep is made of

    @property
    def state(self) -> LearnerState:
        """The state after the last step; the next step uses it up."""
        whole = self._whole
        if whole is None:
            assert self._held is not None
            require_there(self._held.arrays)
            whole = self._whole = self._held.packing.end(self._held.packed)
        return whole

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
        whole = self._whole
        if whole is not None:  # somebody has it, and may have used it up or changed it
            require_there(whole)
            self._held = self._taken_apart(whole)
        held = self._held
        if held is None:
            return self._ordinary(x, y, weight, reset)
        require_there(held.arrays[:1])  # all are used up, or none
        data = _inputs.prepare_one(held.model, x, y, weight, reset, *held.layout)
        leaves, structure = jax.tree.flatten(data)
        kind = structure, data.xs.dtype
        program = self._known.get(kind)
        if any(isinstance(a, Tracer) for a in leaves):
            return self._ordinary(x, y, weight, reset)
        if program is None or not program.bound.holds():
            if jax.config.jax_debug_nans:  # type: ignore[attr-defined]
                return self._ordinary(x, y, weight, reset)
            held, program = self._new(data)
        try:
            arrays = uninterrupted(program.bound, [*held.of_learner, *leaves], held.arrays)
        except Unsettled:
            return self._ordinary(x, y, weight, reset)
        except KeyboardInterrupt as error:
            if (there := getattr(error, "state", None)) is not None:
                self._advanced(held, there)
                error.state = self.state  # type: ignore[attr-defined]
            raise
        self._advanced(held, arrays)
        if program.told is None:
            told = split(program.bound.result_of(arrays)[1])[1]
            program = self._known[kind] = program._replace(told=told)
        return joined(arrays[len(held.arrays) :], program.told)

    def _new(self, data: Chunk) -> "tuple[_Held, _Program]":
        """The program for a kind of timesteps, and the state as it takes it."""
        learner, state = self.learner, self.state
        check_step(learner.rule, learner.overlap)
        past = fitted(learner.overlap, state.past, data.xs, time=False)
        held = self._taken_apart(dataclasses.replace(state, past=past))
        assert held is not None
        bound = advance_packed.donating.bind(learner, data, held.packing, held.packed)
        return held, _Program(bound, None)

    def _advanced(self, held: "_Held", arrays: list[Any]) -> None:
        """Go on from these arrays; whoever has the state before them is told if they use it."""
        before = self._whole
        self._held, self._whole = held._replace(arrays=arrays[: len(held.arrays)]), None
        for a in jax.tree.leaves(before):
            if isinstance(a, jax.Array) and not a.is_deleted():
                a.delete()

    def _ordinary(self, x, y, weight, reset) -> StepOutput:
        """A step that takes the state whole."""
        try:
            state, out = self.learner.step(self.state, x, y, weight, reset)
        except KeyboardInterrupt as error:
            if (there := getattr(error, "state", None)) is not None:
                self._whole, self._held = there, None
            raise
        self._whole, self._held = state, None
        return out

    def _taken_apart(self, state: LearnerState) -> "_Held | None":
        """A state as few arrays; ``None`` where a step takes it whole."""
        looks = not self.learner.donate or self.learner.on_nonfinite == "raise"
        if looks or jax.config.jax_debug_nans:  # type: ignore[attr-defined]
            return None
        traced = any(isinstance(a, Tracer) for a in jax.tree.leaves(state))
        if traced or placement_of(state.carry) is not None:
            return None
        layout = layout_here(state)
        # Side by side every array has a kernel of its own: to take vectors apart adds to them.
        packing = packing_of(state) if layout[0] is None else packing_of(state, 0)
        if packing != self._packing:
            self._known.clear()  # of another kind of state
            self._packing = packing
        arrays, key = split(packing.begin(state))
        model = eqx.filter(state.model, eqx.is_array, inverse=True)
        return _Held(arrays, key, packing, split(self.learner)[0], model, layout)


class _Held(NamedTuple):
    """A state as a compiled program takes it, and what is needed beside it."""

    arrays: list[Any]  # of the packed state
    key: Any  # all of it but its arrays
    packing: Packing
    of_learner: list[Any]
    model: Any  # without its arrays: for the shape of its inputs
    layout: tuple[int | None, Any]

    @property
    def packed(self) -> Packed:
        return joined(self.arrays, self.key)  # type: ignore[return-value]


class _Program(NamedTuple):
    """What is compiled for timesteps of a kind.

    Attributes:
        bound: the program.
        told: what a step tells beside its arrays; ``None`` before the first one.
    """

    bound: Bound
    told: Any
