"""How a live stream is going: errors over a window and over all, in memory that stays flat."""

from collections import deque
from typing import Any, Self

import numpy as np

from rtrl.streams.evaluate import NRMSE

TOGETHER = 256  # errors that are put to the sums at once
POINTS = 1000  # of the history, which is thinned to half when it has more


class Score:
    """NRMSE of predictions whose target is there, and of the last value in their place.

    ``add`` takes every row: its prediction, and the target that it reveals.
    """

    def __init__(self, horizon: int, window: int):
        self.horizon, self.window = horizon, window
        self._waiting: deque[np.ndarray] = deque(maxlen=horizon + 1)
        self._values: deque[np.ndarray] = deque(maxlen=horizon + 1)
        self._pairs: np.ndarray | None = None  # the newest at the end of what is filled
        self._filled = 0
        self._overall: np.ndarray | None = None
        self._naive: np.ndarray | None = None
        self.history: list[dict[str, float]] = []
        self._every = 1
        self._new: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, row: int, prediction: np.ndarray, target: np.ndarray | None) -> None:
        self._waiting.append(prediction)
        if target is None:
            return
        if len(self._waiting) > self.horizon:
            self._keep(self._waiting[0], target)
            self._new.append((self._waiting[0], target, np.full_like(target, np.nan)))
        self._values.append(target)
        if 0 < self.horizon < len(self._values):
            if len(self._waiting) <= self.horizon:
                self._new.append((np.full_like(target, np.nan), target, self._values[0]))
            else:
                self._new[-1] = (*self._new[-1][:2], self._values[0])
        if len(self._new) >= TOGETHER:
            self._merge_new()
        if row % self._every == 0 and self._filled > 1:
            self.history.append({"step": row, "nrmse": self.recent()})
            if len(self.history) > POINTS:
                self._every *= 2
                self.history = [r for r in self.history if r["step"] % self._every == 0]

    def _keep(self, prediction: np.ndarray, target: np.ndarray) -> None:
        if self._pairs is None:
            self._pairs = np.zeros((2 * self.window, 2, len(target)))
        if self._filled == len(self._pairs):
            self._pairs[: self.window] = self._pairs[self.window :]
            self._filled = self.window
        self._pairs[self._filled] = prediction, target
        self._filled += 1

    def recent(self) -> float:
        pairs = self.pairs()
        if not len(pairs):
            return float("nan")
        return NRMSE().value(NRMSE().summary(pairs[:, 0], pairs[:, 1]))

    def _merge_new(self) -> None:
        """Put the newest errors to the sums: many together take little longer than one."""
        if not self._new:
            return
        predictions, targets, values = map(np.stack, zip(*self._new, strict=True))
        self._new.clear()
        self._overall = _merge(self._overall, predictions, targets)
        self._naive = _merge(self._naive, values, targets)

    def overall(self) -> float:
        self._merge_new()
        return float("nan") if self._overall is None else NRMSE().value(self._overall)

    def last_value(self) -> float:
        self._merge_new()
        return float("nan") if self._naive is None else NRMSE().value(self._naive)

    def pairs(self) -> np.ndarray:
        """The newest predictions and their targets, ``(rows, 2, targets)``."""
        if self._pairs is None:
            return np.zeros((0, 2, 1))
        return self._pairs[max(0, self._filled - self.window) : self._filled]

    def arrays(self) -> dict[str, np.ndarray]:
        """All but the history, to be saved."""
        new = np.array(self._new)  # not merged yet: sums are the same bits however it is cut
        found: dict[str, Any] = {
            "new": new,
            "waiting": self._waiting, "values": self._values, "pairs": self.pairs(),
            "overall": self._overall, "naive": self._naive,
        }  # fmt: skip
        return {k: np.array(v) for k, v in found.items() if v is not None and len(v)}

    @classmethod
    def restore(
        cls, horizon: int, window: int, arrays: dict[str, np.ndarray], history: list, every: int
    ) -> Self:
        score = cls(horizon, window)
        for name in ("waiting", "values"):
            getattr(score, "_" + name).extend(arrays.get(name, ()))
        for prediction, target in arrays.get("pairs", ()):
            score._keep(prediction, target)
        score._new = [tuple(parts) for parts in arrays.get("new", ())]
        score._overall, score._naive = arrays.get("overall"), arrays.get("naive")
        score.history, score._every = history, every
        return score

    @property
    def every(self) -> int:
        return self._every


def _merge(
    total: np.ndarray | None, predictions: np.ndarray, targets: np.ndarray
) -> np.ndarray | None:
    nothing = np.isnan(predictions) | np.isnan(targets)
    if nothing.all():
        return total
    targets = np.where(nothing, np.nan, targets)  # no prediction: not scored
    new = NRMSE().summary(predictions, targets)
    return new if total is None else NRMSE().merge(total, new)
