"""How a stream of classes is going: accuracy and cross entropy, in memory that stays flat."""

from typing import Any, Self

import numpy as np

from rtrl.cli._experts import WeightsOverTime

POINTS = 1000  # of the history, which is thinned to half when it has more
LEAST = 1e-12  # probability


class ClassScore:
    """Shares of right answers and mean surprises: of a classifier, its experts, the last class.

    ``add`` takes rows as they come: what was told of them, and the classes that they reveal. How
    they were cut into blocks changes nothing but the rounding of sums.
    """

    def __init__(self, names: tuple[str, ...], classes: int, horizon: int, window: int):
        self.names, self.horizon, self.window = names, horizon, window
        self.over = WeightsOverTime(names)
        self.rows = 0
        self.history: list[dict[str, float]] = []
        self.every = 1
        self._ahead = np.full((horizon, 1 + len(names), classes), np.nan)
        self._last = np.full(horizon + 1, np.nan)  # the last class known at rows before
        self._recent = np.zeros(0)
        self._right, self._surprise = np.zeros((2, 1 + len(names)))
        self._count = self._same = 0.0

    def add(self, out: Any, classes: np.ndarray, meant: np.ndarray) -> None:
        """Take rows: a `rtrl.Classification`, what came with them, which count as predictions."""
        rows, h = len(classes), self.horizon
        told = everyone(out)
        told[~meant] = np.nan
        told = np.concatenate([self._ahead, told])
        made, self._ahead = told[:rows], told[rows:]
        last = np.concatenate([self._last, np.full(rows, np.nan)])
        for row, now in enumerate(classes, len(self._last)):
            last[row] = last[row - 1] if np.isnan(now) else now
        before = last[1 : rows + 1] if h else last[:rows]  # when the prediction was made
        self._last = last[rows:]
        right, surprise = judged(made, classes)
        known = np.isfinite(right[:, 0])
        self._right += right[known].sum(0)
        self._surprise += surprise[known].sum(0)
        self._same += (before[known] == classes[known]).sum()
        self._count += known.sum()
        recent = np.concatenate([self._recent, right[:, 0]])
        for row in range(-self.rows % self.every or self.every, rows + 1, self.every):
            if self.rows + row > h + 1 and (self.rows + row) % self.every == 0:
                self._note(self.rows + row, recent[: len(recent) - (rows - row)])
        self._recent = recent[-self.window :]
        self.over.add(out.weights)
        self.rows += rows

    def _note(self, row: int, right: np.ndarray) -> None:
        self.history.append({"step": row, "accuracy": _mean(right[-self.window :])})
        if len(self.history) > POINTS:
            self.every *= 2
            self.history = [r for r in self.history if r["step"] % self.every == 0]

    def recent(self) -> float:
        """Share of right answers among the last."""
        return _mean(self._recent)

    def accuracy(self) -> dict[str, float]:
        """Of the classifier (``""``) and every expert, over all rows."""
        return self._of(self._right)

    def cross_entropy(self) -> dict[str, float]:
        """Mean surprise in nats, of the classifier (``""``) and every expert."""
        return self._of(self._surprise)

    def last_class(self) -> float:
        """Accuracy of the last class known."""
        return self._same / self._count if self._count else float("nan")

    def _of(self, sums: np.ndarray) -> dict[str, float]:
        means = sums / self._count if self._count else np.full(len(sums), np.nan)
        return dict(zip(("", *self.names), means.tolist(), strict=True))

    def arrays(self) -> dict[str, np.ndarray]:
        """All but the history, to be saved."""
        numbers = np.array([self.rows, self._count, self._same])
        return {
            "class_numbers": numbers, "class_ahead": self._ahead, "class_last": self._last,
            "class_recent": self._recent, "class_right": self._right,
            "class_surprise": self._surprise, **self.over.arrays(),
        }  # fmt: skip

    def restore(self, arrays: dict[str, np.ndarray], history: list, every: int) -> Self:
        """Go on from what was saved."""
        rows, self._count, self._same = arrays["class_numbers"].tolist()
        self.rows = int(rows)
        for name in ("ahead", "last", "recent", "right", "surprise"):
            setattr(self, "_" + name, arrays["class_" + name].copy())
        self.history, self.every = history, every
        self.over.restore(arrays)
        return self


def everyone(out: Any) -> np.ndarray:
    """What a `rtrl.Classification` tells, then each expert: ``(rows, 1 + experts, classes)``."""
    return np.concatenate([out.probabilities[:, None], out.experts], 1)


def judged(told: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether `everyone` was right, and the surprise in nats, ``(rows, 1 + experts)`` each.

    NaN where the class is not known or nothing was told.
    """
    right, surprise = np.full((2, *told.shape[:2]), np.nan)
    known = np.isfinite(classes) & np.isfinite(told[:, 0, 0])
    if known.any():
        now = classes[known].astype(int)
        right[known] = told[known].argmax(-1) == now[:, None]
        chosen = np.take_along_axis(told[known], now[:, None, None], 2)[..., 0]
        surprise[known] = -np.log(np.maximum(chosen, LEAST))
    return right, surprise


def last_class(classes: np.ndarray, horizon: int) -> np.ndarray:
    """Whether the last class known ``horizon`` rows before is that of a row, NaN where none is."""
    place = np.where(np.isfinite(classes), np.arange(len(classes)), -1)
    place = np.maximum.accumulate(place)[: max(len(classes) - horizon, 0)]
    before = np.full(len(classes), np.nan)
    before[len(classes) - len(place) :] = np.where(place < 0, np.nan, classes[place])
    return np.where(np.isfinite(classes), before == classes, np.nan)


def _mean(right: np.ndarray) -> float:
    known = right[np.isfinite(right)]
    return float(known.mean()) if len(known) else float("nan")
