"""How a live stream is going: errors over a window and over all, in memory that stays flat."""

from typing import Any, Self

import numpy as np

from rtrl.streams.evaluate import NRMSE

TOGETHER = 256  # errors that are put to the sums at once
POINTS = 1000  # of the history, which is thinned to half when it has more


class Score:
    """NRMSE of predictions whose target is there, and of the last value in their place.

    ``add`` takes rows as they come: their predictions, and the targets that they reveal. How they
    were cut into blocks changes no bit.
    """

    def __init__(self, horizon: int, window: int):
        self.horizon, self.window = horizon, window
        self.rows = 0
        self._ahead: np.ndarray | None = None  # predictions and targets of the last rows
        self._recent: np.ndarray | None = None  # predictions whose targets have come, and these
        self._new: np.ndarray | None = None  # not put to the sums yet
        self._overall: np.ndarray | None = None
        self._naive: np.ndarray | None = None
        self.history: list[dict[str, float]] = []
        self._every = 1

    def add(self, predictions: np.ndarray, targets: np.ndarray) -> None:
        """Rows ``(rows, targets)``; NaN where there is none."""
        rows, h = len(targets), self.horizon
        if self._ahead is None or self._recent is None or self._new is None:
            self._ahead = np.full((2, h, targets.shape[1]), np.nan)
            self._recent = np.zeros((2, 0, targets.shape[1]))
            self._new = np.zeros((3, 0, targets.shape[1]))
        came = np.concatenate([self._ahead, np.stack([predictions, targets])], 1)
        made, before = came[:, :rows]  # at the row whose target it is that has come now
        before = before if h else np.full_like(targets, np.nan)
        self._ahead = came[:, rows:]
        self._new = np.concatenate([self._new, np.stack([made, targets, before])], 1)
        while self._new.shape[1] >= TOGETHER:
            self._merge(self._new[:, :TOGETHER])
            self._new = self._new[:, TOGETHER:]
        first = max(h - self.rows, 0)  # nothing has come before
        recent = np.concatenate([self._recent, np.stack([made, targets])[:, first:]], 1)
        for row in range(-self.rows % self._every or self._every, rows + 1, self._every):
            if self.rows + row > h + 1 and (self.rows + row) % self._every == 0:
                self._note(self.rows + row, recent[:, : recent.shape[1] - (rows - row)])
        self._recent = recent[:, -self.window :]
        self.rows += rows

    def _note(self, row: int, pairs: np.ndarray) -> None:
        figure = _nrmse(pairs[:, -self.window :])
        self.history.append({"step": row, "nrmse": figure})
        if len(self.history) > POINTS:
            self._every *= 2
            self.history = [r for r in self.history if r["step"] % self._every == 0]

    def recent(self) -> float:
        return float("nan") if self._recent is None else _nrmse(self._recent)

    def _merge(self, new: np.ndarray) -> None:
        """Put errors to the sums: many together take little longer than one."""
        made, targets, before = new
        self._overall = _merge(self._overall, made, targets)
        self._naive = _merge(self._naive, before, targets)

    def _settle(self) -> None:
        if self._new is not None and self._new.shape[1]:
            self._merge(self._new)
            self._new = self._new[:, :0]

    def overall(self) -> float:
        self._settle()
        return float("nan") if self._overall is None else NRMSE().value(self._overall)

    def last_value(self) -> float:
        self._settle()
        return float("nan") if self._naive is None else NRMSE().value(self._naive)

    def pairs(self) -> np.ndarray:
        """The newest predictions and their targets, ``(rows, 2, targets)``."""
        return np.zeros((0, 2, 1)) if self._recent is None else self._recent.swapaxes(0, 1)

    def arrays(self) -> dict[str, np.ndarray]:
        """All but the history, to be saved; what is not summed yet stays so."""
        found: dict[str, Any] = {
            "score_rows": np.array(self.rows), "ahead": self._ahead, "recent": self._recent,
            "new": self._new, "overall": self._overall, "naive": self._naive,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}

    @classmethod
    def restore(
        cls, horizon: int, window: int, arrays: dict[str, np.ndarray], history: list, every: int
    ) -> Self:
        score = cls(horizon, window)
        score.rows = int(arrays["score_rows"])
        for name in ("ahead", "recent", "new", "overall", "naive"):
            setattr(score, "_" + name, arrays.get(name))
        score.history, score._every = history, every
        return score

    @property
    def every(self) -> int:
        return self._every


def _nrmse(pairs: np.ndarray) -> float:
    if not pairs.shape[1]:
        return float("nan")
    return NRMSE().value(NRMSE().summary(*pairs))


def _merge(
    total: np.ndarray | None, predictions: np.ndarray, targets: np.ndarray
) -> np.ndarray | None:
    nothing = np.isnan(predictions) | np.isnan(targets)
    if nothing.all():
        return total
    targets = np.where(nothing, np.nan, targets)  # no prediction: not scored
    new = NRMSE().summary(predictions, targets)
    return new if total is None else NRMSE().merge(total, new)
