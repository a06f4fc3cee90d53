"""Figures of predictions and targets, put together from parts of a stream."""

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

Summary = Float[np.ndarray, "..."]


class Metric(Protocol):
    """A figure of predictions and targets that can be put together from parts of a stream.

    ``summary(predictions, targets)`` condenses ``(n, ...)`` of both, ``merge(a, b)`` the summaries
    of two parts, the earlier first, and ``value(summary)`` is the figure.
    """

    @property
    def name(self) -> str:
        """The key of its figure in a `Report`."""
        ...

    def summary(self, predictions: np.ndarray, targets: np.ndarray) -> Summary:
        """Give what a part of a stream comes down to.

        Args:
            predictions: ``(n, ...)``, of n targets.
            targets: ``(n, ...)``, in the data's own units, or classes.

        Raises:
            ValueError: predictions and targets of these shapes don't go together.
        """
        ...

    def merge(self, a: Summary, b: Summary) -> Summary:
        """Give the summary of two parts together.

        Args:
            a, b: the summaries of the earlier part and of the later.
        """
        ...

    def value(self, summary: Summary) -> float:
        """Give the figure; NaN if there is nothing to measure.

        Args:
            summary: of all that it is about.
        """
        ...


class NRMSE(NamedTuple):
    """Root mean squared error over the standard deviation of the same targets.

    ::

        sqrt(mean over features of  sum (p - y)^2 / sum (y - mean(y))^2)

    The sums run over the targets that were seen: over a window, those of the window. A feature that
    is constant there is left out; NaN if all are. Targets that are NaN do not count. The mean of
    the targets, known beforehand, scores 1.

    Args:
        name: the key of its figure in a `Report`.
    """

    name: str = "nrmse"

    def summary(self, predictions: np.ndarray, targets: np.ndarray) -> Summary:
        """As `Metric.summary`."""
        p, y = _regression(predictions, targets)
        known = ~np.isnan(y)
        count = known.sum(0)
        mean = np.where(known, y, 0).sum(0) / np.maximum(count, 1)
        spread = np.where(known, y - mean, 0) ** 2
        error = np.where(known, p - y, 0) ** 2
        return np.stack([count, error.sum(0), mean, spread.sum(0)])

    def merge(self, a: Summary, b: Summary) -> Summary:
        """As `Metric.merge`."""
        total = np.maximum(a[0] + b[0], 1)
        step = b[2] - a[2]
        mean = a[2] + step * b[0] / total
        spread = a[3] + b[3] + step**2 * a[0] * b[0] / total  # Chan, Golub & LeVeque (1979)
        return np.stack([a[0] + b[0], a[1] + b[1], mean, spread])

    def value(self, summary: Summary) -> float:
        """As `Metric.value`."""
        _, error, _, spread = summary
        varies = spread > 0
        if not varies.any():
            return float("nan")
        return float(np.sqrt(np.mean(error[varies] / spread[varies])))


class MAE(NamedTuple):
    """Mean absolute error over all features, in the units of the target.

    ::

        mean |p - y|

    Args:
        name: the key of its figure in a `Report`.
    """

    name: str = "mae"

    def summary(self, predictions: np.ndarray, targets: np.ndarray) -> Summary:
        """As `Metric.summary`."""
        p, y = _regression(predictions, targets)
        return _total(np.abs(p - y), ~np.isnan(y))

    def merge(self, a: Summary, b: Summary) -> Summary:
        """As `Metric.merge`."""
        return a + b

    def value(self, summary: Summary) -> float:
        """As `Metric.value`."""
        return _mean(summary)


class Accuracy(NamedTuple):
    """Share of predictions ``(..., classes)`` whose largest entry is that of the target class.

    Args:
        name: the key of its figure in a `Report`.
    """

    name: str = "accuracy"

    def summary(self, predictions: np.ndarray, targets: np.ndarray) -> Summary:
        """As `Metric.summary`."""
        _check_classes(predictions, targets)
        right = predictions.argmax(-1) == targets
        return _total(right, np.ones_like(right))

    def merge(self, a: Summary, b: Summary) -> Summary:
        """As `Metric.merge`."""
        return a + b

    def value(self, summary: Summary) -> float:
        """As `Metric.value`."""
        return _mean(summary)


class CrossEntropy(NamedTuple):
    """Mean cross entropy of classes, in nats; chance is ``log(classes)``.

    ::

        mean of -log softmax(prediction)[target]

    Args:
        name: the key of its figure in a `Report`.
    """

    name: str = "cross_entropy"

    def summary(self, predictions: np.ndarray, targets: np.ndarray) -> Summary:
        """As `Metric.summary`."""
        _check_classes(predictions, targets)
        logits = predictions.astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        target = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
        loss = np.log(np.exp(logits).sum(-1)) - target
        return _total(loss, np.ones(loss.shape, bool))

    def merge(self, a: Summary, b: Summary) -> Summary:
        """As `Metric.merge`."""
        return a + b

    def value(self, summary: Summary) -> float:
        """As `Metric.value`."""
        return _mean(summary)


def _regression(predictions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 ``(n, features)``."""
    if predictions.shape != targets.shape:
        raise ValueError(
            f"task: expected targets of the predictions' shape {predictions.shape[1:]}, got "
            f"{targets.shape[1:]}."
        )
    p, y = predictions.astype(np.float64), targets.astype(np.float64)
    return p.reshape(len(p), -1), y.reshape(len(y), -1)


def _check_classes(predictions: np.ndarray, targets: np.ndarray) -> None:
    if predictions.shape[:-1] != targets.shape or not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(
            f"task: expected integer targets of shape {predictions.shape[1:-1]} for predictions "
            f"of shape {predictions.shape[1:]} (classes last), got {targets.dtype} of shape "
            f"{targets.shape[1:]}."
        )


def _total(values: np.ndarray, known: np.ndarray) -> Summary:
    return np.array([known.sum(), np.where(known, values, 0).sum()], np.float64)


def _mean(summary: Summary) -> float:
    return float(summary[1] / summary[0]) if summary[0] else float("nan")
