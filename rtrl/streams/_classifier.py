"""Probabilities of the next class of a stream, never much worse than the simple thing."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from rtrl.learners import Jitted
from rtrl.streams import classes as kinds
from rtrl.streams._by_rows import ByRows
from rtrl.streams._class_row import ClassInside, ClassTold, one_class_row
from rtrl.streams._classifier_state import (
    Classification,
    ClassifierState,
    begin_classes,
    classification_of,
)
from rtrl.streams._pair import as_numbers
from rtrl.streams._rows import Given
from rtrl.validate import require, require_integer


class Classifier(ByRows[ClassifierState, Classification]):
    """Experts, a recurrent network among them, weighed online: probabilities of the next class.

    ::

        mean = sum over experts of w_i p_i,    w_i <- w_i p_i(class), then normalised and shared
        product ~= prod over experts of p_i^a_i,    p = v mean + (1 - v) product

    with the Bayes weights w of experts of which each may be the right one for a while: frequencies,
    Markov chains, logistic regression, and a network under an online rule; with exponents a that
    follow the gradient, and Bayes' weight v. It is used as an `OnlineLearner` is; there is no batch
    axis, and one class is told: for several targets take a classifier each. How rows are cut into
    blocks changes nothing, to the bit. A missing (NaN) input is taken as the last known one; a
    missing class teaches nothing.

    Args:
        in_size: numbers of a row's input.
        classes: how many there are.
        delay: rows between an input and its class.
        own: places in the input that say which class is now: these are left to the classes that
            come as targets.
        experts: what to ask; default: all of ``rtrl.streams.classes``.
        memory: timesteps that running means and units go back.
        donate: as for `OnlineLearner`: whether a call uses up its state.

    Raises:
        ValueError: an argument of the wrong kind or out of range.

    Source: Herbster & Warmuth, "Tracking the best expert" (1998), for the logarithmic loss;
    Mattern, "Mixing strategies in data compression" (2012), for the product.
    """

    in_size: int = eqx.field(static=True)
    classes: int = eqx.field(static=True)
    delay: int = eqx.field(static=True)
    own: tuple[int, ...] = eqx.field(static=True)
    experts: tuple[Any, ...]
    memory: float = eqx.field(static=True)
    donate: bool = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        classes: int,
        *,
        delay: int = 1,
        own: Sequence[int] = (),
        experts: Sequence[Any] | None = None,
        memory: float = 1000.0,
        donate: bool = True,
    ):
        require_integer(in_size, "in_size", 0, "(columns)")
        require_integer(classes, "classes", 2, "(classes)")
        require_integer(delay, "delay", 0, "(rows)")
        good = all(0 <= place < in_size for place in own)
        require(good, "own", f"places in {in_size} inputs", own)
        require(memory >= 2, "memory", "at least 2 (timesteps)", memory)
        self.in_size, self.classes, self.delay = in_size, classes, delay
        self.own = tuple(int(place) for place in own)
        self.memory, self.donate = float(memory), donate
        default = (kinds.Frequencies(), kinds.Chain(), kinds.Logistic(), kinds.ClassNetwork())
        self.experts = default if experts is None else tuple(experts)
        require(len(self.experts) > 0, "experts", "at least one", experts)

    @property
    def others(self) -> tuple[int, ...]:
        """The inputs that do not say which class is now."""
        return tuple(i for i in range(self.in_size) if i not in self.own)

    @property
    def _told(self) -> Any:
        members = len(self.names)
        shape: Any = ClassTold
        return shape((self.classes,), (members, self.classes), (members,))

    def _row(self, inside: ClassInside, row: Given) -> tuple[ClassInside, ClassTold]:
        return one_class_row(self, inside, row)

    @property
    def _beginning(self) -> Jitted:
        return begin_classes

    def _begin(self, key: PRNGKeyArray) -> ClassifierState:
        return ClassifierState(begin_classes(self, key), np.int64(0), np.bool_(False))

    def _one_target(self, y: ArrayLike) -> np.ndarray:
        return as_numbers(y, "y", ())

    def _targets(
        self, ys: ArrayLike | None, rows: int, argument: str
    ) -> tuple[np.ndarray, np.ndarray]:
        given = np.full(rows, np.nan) if ys is None else as_numbers(ys, argument, (rows,))
        missing = ~np.isfinite(given)
        known = np.where(missing, 0, given)
        wrong = known[~((known == np.floor(known)) & (0 <= known) & (known < self.classes))]
        expected = f"classes from 0 to {self.classes - 1}, NaN where there is none"
        require(len(wrong) == 0, argument, expected, float(wrong[0]) if len(wrong) else None)
        pairs = np.zeros((rows, 1, 2), np.float32)  # whole numbers, in the first of two places
        pairs[:, 0, 0] = np.where(missing, -1, given)
        return pairs, missing

    def _tell(
        self, rows: int | slice, told: ClassTold, missing: np.ndarray, held: np.ndarray
    ) -> Classification:
        return classification_of(rows, told, missing, held)
