"""How the experts of a forecaster are going: errors and weights, in memory that stays flat."""

from typing import Any, Self

import numpy as np

POINTS = 400  # of the weights over time, which are thinned to half when there are more
SHOWN = 6  # experts that are told by name


class WeightsOverTime:
    """The weight of every expert, thinned to half whenever there are too many points."""

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        self.rows = 0
        self.every = 1
        self.when: list[int] = []
        self.weights: list[np.ndarray] = []

    def add(self, weights: np.ndarray) -> None:
        """Of rows, ``(rows, experts)``."""
        for row in range(-self.rows % self.every, len(weights), self.every):
            self.when.append(self.rows + row + 1)
            self.weights.append(weights[row])
        while len(self.when) > POINTS:
            self.when, self.weights, self.every = self.when[::2], self.weights[::2], 2 * self.every
        self.rows += len(weights)

    def mean_weights(self) -> dict[str, float]:
        """Of every expert, over all rows."""
        mean = np.mean(self.weights, 0) if self.weights else np.zeros(len(self.names))
        return dict(zip(self.names, np.asarray(mean, float).tolist(), strict=True))

    def told(self) -> list[str]:
        """The experts that counted most, most first."""
        weights = self.mean_weights()
        return sorted(weights, key=lambda name: -weights[name])[:SHOWN]

    def over_time(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Rows, and the weights there of those that counted most and of all others."""
        weights, told = np.array(self.weights), self.told()
        found = {name: weights[:, self.names.index(name)] for name in told}
        others = 1 - np.sum(list(found.values()), 0)
        return np.array(self.when), {**found, "all others": np.maximum(others, 0)}

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, to be saved."""
        return {
            "expert_numbers": np.array([self.rows, self.every], np.int64),
            "expert_when": np.array(self.when, np.int64),
            "expert_weights": np.array(self.weights).reshape(-1, len(self.names)),
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Go on from what was saved."""
        self.rows, self.every = map(int, arrays["expert_numbers"])
        self.when = arrays["expert_when"].tolist()
        self.weights = list(arrays["expert_weights"])
        return self


class ExpertScore:
    """NRMSE of every expert over the rows from ``first`` on, and weights over time."""

    def __init__(self, names: tuple[str, ...], horizon: int, targets: int, first: int = 0):
        self.names, self.horizon, self.first = names, horizon, first
        self.over = WeightsOverTime(names)
        size = (targets, len(names))
        self._waiting = np.full((horizon, *size), np.nan)
        self._errors = np.zeros(size)
        self._count = np.zeros(targets)
        self._moments = np.zeros((2, targets))  # mean, and sum of squares about it

    def add(self, out: Any, targets: np.ndarray) -> None:
        """Take rows ``(rows, targets)``: a `rtrl.streams.Forecast`, and what came with them."""
        rows = len(targets)
        forecasts = np.concatenate([self._waiting, out.experts])
        scored = np.arange(self.over.rows, self.over.rows + rows) >= self.first
        error = (forecasts[:rows] - targets[:, :, None]) ** 2
        known = np.isfinite(error).all(-1) & scored[:, None]
        self._errors += np.where(known[..., None], error, 0).sum(0)
        new, values = known.sum(0), np.where(known, targets, 0)
        mean = values.sum(0) / np.maximum(new, 1)
        step = np.where(new > 0, mean - self._moments[0], 0)
        total = np.maximum(self._count + new, 1)
        spread = (np.where(known, targets - mean, 0) ** 2).sum(0)
        self._moments[1] += spread + step**2 * self._count * new / total
        self._moments[0] += step * new / total
        self._count += new
        self._waiting = forecasts[rows:]
        self.over.add(out.weights.mean(1))

    def nrmse(self) -> dict[str, float]:
        """Of every expert; NaN where there is nothing to measure."""
        spread = self._moments[1]
        varies = spread > 0
        if not varies.any():
            return dict.fromkeys(self.names, float("nan"))
        found = np.sqrt(np.mean(self._errors[varies] / spread[varies, None], 0))
        return dict(zip(self.names, found.tolist(), strict=True))

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, to be saved."""
        return {
            "expert_waiting": self._waiting, "expert_errors": self._errors,
            "expert_count": self._count, "expert_moments": self._moments, **self.over.arrays(),
        }  # fmt: skip

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Go on from what was saved."""
        self._waiting, self._errors = arrays["expert_waiting"], arrays["expert_errors"].copy()
        self._count, self._moments = arrays["expert_count"].copy(), arrays["expert_moments"].copy()
        self.over.restore(arrays)
        return self
