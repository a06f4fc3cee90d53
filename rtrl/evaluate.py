"""Prequential evaluation: predict, then learn, with metrics in the data's own units."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Float

from rtrl._stream import check_integer
from rtrl._validate import require

Summary = Float[np.ndarray, "..."]


class Metric(Protocol):
    """A figure of predictions and targets that can be put together from parts of a stream.

    ``summary(predictions, targets)`` condenses ``(n, ...)`` of both, ``merge(a, b)`` the summaries
    of two parts, the earlier first, and ``value(summary)`` is the figure.
    """

    @property
    def name(self) -> str: ...

    def summary(self, predictions: np.ndarray, targets: np.ndarray) -> Summary: ...

    def merge(self, a: Summary, b: Summary) -> Summary: ...

    def value(self, summary: Summary) -> float: ...


class NRMSE(NamedTuple):
    """Root mean squared error over the standard deviation of the same targets.

    ::

        sqrt(mean over features of  sum (p - y)^2 / sum (y - mean(y))^2)

    The sums run over the targets that were seen: over a window, those of the window. A feature that
    is constant there is left out; NaN if all are. Targets that are NaN do not count. The mean of
    the targets, known beforehand, scores 1.
    """

    name: str = "nrmse"

    def summary(self, predictions: np.ndarray, targets: np.ndarray) -> Summary:
        p, y = _regression(predictions, targets)
        known = ~np.isnan(y)
        count = known.sum(0)
        mean = np.where(known, y, 0).sum(0) / np.maximum(count, 1)
        spread = np.where(known, y - mean, 0) ** 2
        error = np.where(known, p - y, 0) ** 2
        return np.stack([count, error.sum(0), mean, spread.sum(0)])

    def merge(self, a: Summary, b: Summary) -> Summary:
        total = np.maximum(a[0] + b[0], 1)
        step = b[2] - a[2]
        mean = a[2] + step * b[0] / total
        spread = a[3] + b[3] + step**2 * a[0] * b[0] / total  # Chan, Golub & LeVeque (1979)
        return np.stack([a[0] + b[0], a[1] + b[1], mean, spread])

    def value(self, summary: Summary) -> float:
        _, error, _, spread = summary
        varies = spread > 0
        if not varies.any():
            return float("nan")
        return float(np.sqrt(np.mean(error[varies] / spread[varies])))


class MAE(NamedTuple):
    """Mean absolute error over all features, in the units of the target."""

    name: str = "mae"

    def summary(self, predictions: np.ndarray, targets: np.ndarray) -> Summary:
        p, y = _regression(predictions, targets)
        return _total(np.abs(p - y), ~np.isnan(y))

    def merge(self, a: Summary, b: Summary) -> Summary:
        return a + b

    def value(self, summary: Summary) -> float:
        return _mean(summary)


class Accuracy(NamedTuple):
    """Share of predictions ``(..., classes)`` whose largest entry is that of the target class."""

    name: str = "accuracy"

    def summary(self, predictions: np.ndarray, targets: np.ndarray) -> Summary:
        _check_classes(predictions, targets)
        right = predictions.argmax(-1) == targets
        return _total(right, np.ones_like(right))

    def merge(self, a: Summary, b: Summary) -> Summary:
        return a + b

    def value(self, summary: Summary) -> float:
        return _mean(summary)


class CrossEntropy(NamedTuple):
    """Mean of -log softmax(prediction)[target], in nats; chance is log(classes)."""

    name: str = "cross_entropy"

    def summary(self, predictions: np.ndarray, targets: np.ndarray) -> Summary:
        _check_classes(predictions, targets)
        logits = predictions.astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        target = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
        loss = np.log(np.exp(logits).sum(-1)) - target
        return _total(loss, np.ones(loss.shape, bool))

    def merge(self, a: Summary, b: Summary) -> Summary:
        return a + b

    def value(self, summary: Summary) -> float:
        return _mean(summary)


class Report(NamedTuple):
    """How a stream is going.

    Attributes:
        state: after the newest item; save it, or go on from it.
        items: items predicted so far.
        scored: targets held against a prediction so far.
        skipped: samples left out of learning so far, as they were not finite.
        predictions: those made since the last report, ``(items, [batch,] ...)``, a pytree of
            arrays like a prediction; ``None`` if none was.
        window: figures of the newest targets, by the metric's name; NaN if there is none.
        overall: figures of all targets so far.
    """

    state: Any
    items: int
    scored: int
    skipped: int
    predictions: Any
    window: dict[str, float]
    overall: dict[str, float]


def prequential(
    learner: Any,
    state: Any,
    task: Any,
    *,
    chunk: int = 16,
    delay: int = 0,
    metrics: Sequence[Metric] | None = None,
    window: int = 500,
    every: int = 1,
) -> Iterator[Report]:
    """Predict and learn a stream in one pass, and score every prediction when its target is there.

    ::

        for report in rtrl.evaluate.prequential(learner, state, rtrl.tasks.santafe(5), delay=5):
            print(report.items, report.window["nrmse"], report.overall["nrmse"])

    Args:
        learner: an `OnlineLearner`, or a `Standardized` one.
        state: its state, from ``init`` or from a stream with the same ``chunk`` and ``delay``.
            Then the first ``delay`` targets belong to predictions made before, and are not scored.
        task: a `rtrl.tasks.Stream`, whose ``ys[t]`` is revealed with ``xs[t + delay]``, and at the
            end to the score alone; or a source as `OnlineLearner.stream` takes it.
        chunk, delay: as for `OnlineLearner.stream`.
        metrics: what to measure. Default: `NRMSE` and `MAE`; for integer targets `Accuracy` and
            `CrossEntropy`.
        window: how many of the newest targets ``report.window`` is about.
        every: items per report. A last report comes at the end if there is anything new.

    Targets that are missing or have weight 0 are not scored.

    Raises:
        ValueError, NonFiniteError: as `OnlineLearner.stream`; or a metric can't take a prediction
            and a target of these shapes.

    Source: Gama, Sebastiao & Rodrigues, "On evaluating stream learning algorithms" (2013).
    """
    check_integer(window, "window", 1, "(targets)")
    check_integer(every, "every", 1, "(items)")
    check_integer(delay, "delay", 0, "(items)")
    return _prequential(learner, state, task, chunk, delay, metrics, window, every)


def _prequential(learner, now, task, chunk, delay, metrics, window, every):
    is_task = hasattr(task, "xs") and hasattr(task, "ys")
    xs, ys = (task.xs, task.ys) if is_task else ((), ())
    source = _reveal(xs, ys, delay) if is_task else task
    newest: list[Any] = []
    waiting: deque[Any] = deque(maxlen=delay + 1)  # predictions whose target is to come
    batched = np.ndim(jax.tree.leaves(now.carry)[0]) == 2
    scores = _Scores(metrics, window, batched)
    fresh: list[Any] = []
    skipped: list[Any] = []
    items = 0

    def report():
        predictions = jax.device_get(fresh)
        stacked = jax.tree.map(lambda *rows: np.stack(rows), *predictions) if fresh else None
        total = int(sum(int(np.sum(s)) for s in skipped))
        skipped[:] = [np.int64(total)]
        fresh.clear()
        return Report(now, items, scores.scored, total, stacked, *scores.values())

    pairs = learner.stream(now, _tap(source, newest), chunk=chunk, delay=delay)
    for now, out in pairs:  # noqa: B007  (report reads it)
        _, y, *rest = newest.pop()
        items += 1
        waiting.append(out.prediction)
        if len(waiting) > delay and y is not None:
            scores.add(waiting[0], y, rest[0] if rest else 1.0)
        fresh.append(out.prediction)
        if np.size(out.skipped):
            skipped.append(out.skipped)
        if items % every == 0:
            yield report()
    left = 0
    if is_task:  # what is revealed after the last input
        queue = list(waiting)[-delay:] if delay else []
        left = len(queue)
        for prediction, y in zip(queue, ys[len(xs) - left :], strict=True):
            scores.add(prediction, y, 1.0)
    if fresh or left:
        yield report()


def _reveal(xs, ys, delay: int) -> Iterator[tuple]:
    for t in range(len(xs)):
        yield xs[t], ys[t - delay] if t >= delay else None


def _tap(source: Iterable, newest: list) -> Iterator:
    """Hand the items of a source on, and keep the newest."""
    for item in source:
        newest[:] = [item]
        yield item


class _Scores:
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
