"""One timestep of some streams: of all slots, or of a block that holds those that have an item."""

import dataclasses
from typing import Any

import jax
import numpy as np

from rtrl.engine import placement_of
from rtrl.learners import LearnerState, OnlineLearner, StepOutput
from rtrl.streams.many._rows import block_size, filled_up, put_rows, put_rows_keeping, take_rows


def learn_round(
    learner: OnlineLearner, state: LearnerState, everyone: int, slots: list[int],
    xs: Any, ys: Any, weights: Any, resets: Any,
) -> tuple[LearnerState, StepOutput]:  # fmt: skip
    """Learn from an item for each of these slots of ``everyone``; predictions in their order."""
    all_of_them = placement_of(state.carry) is not None
    size = everyone if all_of_them else block_size(len(slots), everyone)
    whole = size == everyone
    at = np.array(slots) if whole else np.arange(len(slots))

    def fill(a, filling):
        out = np.full((size, *a.shape[1:]), filling, a.dtype)
        out[at] = a
        return out

    # The learner takes the mean over all slots: of those without an item there is none.
    weights = weights * (size / len(slots))
    x = fill(xs, np.nan)
    y = None if ys is None else jax.tree.map(lambda a: fill(a, 0), ys)
    data = x, y, fill(weights, 0.0), fill(resets, False)
    if whole:
        state, out = learner.step(state, *data)
    else:
        where = filled_up(slots, size, everyone)
        there = np.minimum(where, everyone - 1)  # of those that fill the block nothing is kept
        few = dataclasses.replace(state, carry=take_rows(there, state.carry))
        after, out = learner.step(few, *data)
        carry = replaced(learner, state.carry, after.carry, where)
        state = dataclasses.replace(after, carry=carry)
    prediction = jax.tree.map(lambda a: np.asarray(a)[at], out.prediction)
    return state, dataclasses.replace(out, prediction=prediction)


def replaced(learner: OnlineLearner, carry: Any, rows: Any, where: np.ndarray) -> Any:
    """The memories of all slots, some of them others."""
    put = put_rows if learner.donate else put_rows_keeping
    return put(rows, where, carry)
