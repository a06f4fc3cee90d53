"""What is made of predictions as they come: lines to print, figures, a closing table."""

from typing import Any

import numpy as np

import rtrl
from rtrl.cli._blocks import Item, target_of
from rtrl.cli._class_score import ClassScore
from rtrl.cli._classes import classes_of
from rtrl.cli._closing import close_stream
from rtrl.cli._closing_classes import close_class_stream
from rtrl.cli._experts import ExpertScore
from rtrl.cli._learn import WINDOW
from rtrl.cli._score import Score
from rtrl.cli._setup import Setup
from rtrl.tables import Table


class Numbers:
    """Of a stream of numbers."""

    def __init__(self, learner: Any, source: Table):
        self.source = source
        self.score = Score(source.horizon, WINDOW)
        self.experts = None
        if isinstance(learner, rtrl.Forecaster):
            self.experts = ExpertScore(learner.names, source.horizon, source.out_size)

    def restore(self, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.score = Score.restore(
            self.source.horizon, WINDOW, arrays, about["history"], about["every"]
        )
        self.experts = self.experts and self.experts.restore(arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        return {**self.score.arrays(), **(self.experts.arrays() if self.experts else {})}

    def header(self) -> list[str]:
        return list(self.source.targets)

    def targets(self, items: list[Item]) -> np.ndarray:
        """What a learner takes as the targets of rows."""
        return np.stack([target_of(item, self.source) for item in items])

    def add(self, out: Any, items: list[Item]) -> list[list]:
        """Take what was told of rows; give the fields to print of each."""
        ys = self.targets(items)
        predictions = np.asarray(out.prediction, np.float64).reshape(len(items), -1)
        if self.experts:
            self.experts.add(out, ys)
        filled = np.array([item.filled for item in items])  # they stand for rows that are missing
        self.score.add(np.where(filled[:, None], np.nan, predictions), ys)
        return [list(map(repr, prediction)) for prediction in predictions.tolist()]

    def __str__(self) -> str:
        """The live figure: worked out only where it is shown."""
        recent = self.score.recent()
        known = recent == recent
        return f"NRMSE {recent:.3f} (last {WINDOW})" if known else "NRMSE not known yet"

    def close(self, console: Any, command: str, setup: Setup, folder: Any, **figures: Any) -> None:
        close_stream(
            console, command, setup, self.score, folder, targets=self.source.targets,
            experts=self.experts, **figures,
        )  # fmt: skip


class Classes:
    """Of a stream of classes: the most probable one, or with ``probabilities`` those of all."""

    def __init__(self, learner: rtrl.Classifier, source: Table, probabilities: bool):
        self.source, self.probabilities = source, probabilities
        (number,) = source.plan.targets
        self.column = source.columns[number]
        self.score = ClassScore(learner.names, learner.classes, source.horizon, WINDOW)

    def restore(self, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.score.restore(arrays, about["history"], about["every"])

    def arrays(self) -> dict[str, np.ndarray]:
        return self.score.arrays()

    def header(self) -> list[str]:
        if not self.probabilities:
            return [self.column.name]
        if self.column.kind == "boolean":
            return [f"{self.column.name}={value}" for value in self.column.values]
        return list(self.source.targets)

    def targets(self, items: list[Item]) -> np.ndarray:
        """Classes by number, NaN where there is none that is known."""
        found = np.stack([target_of(item, self.source) for item in items])
        return classes_of(self.column, found)

    def add(self, out: Any, items: list[Item]) -> list[list]:
        """Take what was told of rows; give the fields to print of each."""
        meant = np.array([not item.filled for item in items])
        self.score.add(out, self.targets(items), meant)
        if self.probabilities:
            return [list(map(repr, row)) for row in out.probabilities.tolist()]
        values = self.source.values(self.column.name)
        if not values:
            return [[""] for _ in items]
        # A place that is kept for a value yet to come has no name to be told.
        best = out.probabilities[:, : len(values)].argmax(1)
        return [[values[place]] for place in best]

    def __str__(self) -> str:
        """The live figure."""
        recent = self.score.recent()
        known = recent == recent
        return f"accuracy {recent:.3f} (last {WINDOW})" if known else "accuracy not known yet"

    def close(self, console: Any, command: str, setup: Setup, folder: Any, **figures: Any) -> None:
        close_class_stream(console, command, setup, self.score, folder, **figures)


def judge_of(learner: Any, setup: Setup, source: Table) -> Numbers | Classes:
    """The one that goes with a learner."""
    if isinstance(learner, rtrl.Classifier):
        return Classes(learner, source, bool(setup.probabilities))
    return Numbers(learner, source)
