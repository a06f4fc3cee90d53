"""Metrics over a window of the newest targets, and over all."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rtrl.streams.evaluate._metrics import MAE, NRMSE, Accuracy, CrossEntropy, Metric, Summary
from rtrl.validate import require


class Scores:
    """The metrics over a window and over all."""

    def __init__(self, metrics: Sequence[Metric] | None, window: int, batched: bool):
        self.batched = batched
        self.metrics = metrics
        self.window: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=window)
        self.new: list[tuple[Any, np.ndarray, Any]] = []
        self.overall: list[Summary] | None = None
        self.scored = 0

    def add(self, prediction: Any, target: Any, weight: Any) -> None:
        if np.any(weight):
            self.scored += 1
            self.new.append((prediction, np.asarray(target), weight))

    def values(self) -> tuple[dict[str, float], dict[str, float]]:
        if self.new:
            self._take_new()
        if self.overall is None or self.metrics is None:
            names = [metric.name for metric in self.metrics or ()]
            return dict.fromkeys(names, float("nan")), dict.fromkeys(names, float("nan"))
        pairs = [np.concatenate(side) for side in zip(*self.window, strict=True)]
        recent = {m.name: m.value(m.summary(pairs[0], pairs[1])) for m in self.metrics}
        whole = {m.name: m.value(s) for m, s in zip(self.metrics, self.overall, strict=True)}
        return recent, whole

    def _take_new(self) -> None:
        predictions = jax.device_get([p for p, _, _ in self.new])  # one wait for all of them
        pairs = [
            self._rows(p, y, weight)
            for p, (_, y, weight) in zip(predictions, self.new, strict=True)
        ]
        self.new.clear()
        if self.metrics is None:
            classes = np.issubdtype(pairs[0][1].dtype, np.integer) and (
                pairs[0][0].ndim == pairs[0][1].ndim + 1
            )
            self.metrics = (Accuracy(), CrossEntropy()) if classes else (NRMSE(), MAE())
        p, y = (np.concatenate(side) for side in zip(*pairs, strict=True))
        new = [metric.summary(p, y) for metric in self.metrics]
        old = self.overall
        self.overall = new if old is None else [
            metric.merge(a, b) for metric, a, b in zip(self.metrics, old, new, strict=True)
        ]  # fmt: skip
        self.window.extend(pairs)

    def _rows(
        self, prediction: Any, target: np.ndarray, weight: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """One timestep as rows of samples: those with a weight."""
        require(
            isinstance(prediction, np.ndarray),
            "metrics",
            "predictions that are one array",
            type(prediction).__name__,
        )
        if not self.batched:
            return prediction[None], target[None]
        counts = np.broadcast_to(np.asarray(weight) != 0, prediction.shape[:1])
        return prediction[counts], target[counts]
