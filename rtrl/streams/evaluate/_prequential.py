"""Prequential evaluation: predict, then learn, with metrics in the data's own units."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rtrl.streams.evaluate._metrics import Metric
from rtrl.streams.evaluate._scores import Scores
from rtrl.validate import require_integer


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

    Returns:
        An iterator of reports.

    Raises:
        ValueError, NonFiniteError: as `OnlineLearner.stream`; or a metric can't take a prediction
            and a target of these shapes.

    Source: Gama, Sebastiao & Rodrigues, "On evaluating stream learning algorithms" (2013).
    """
    require_integer(window, "window", 1, "(targets)")
    require_integer(every, "every", 1, "(items)")
    require_integer(delay, "delay", 0, "(items)")
    return _prequential(learner, state, task, chunk, delay, metrics, window, every)


def _prequential(learner, now, task, chunk, delay, metrics, window, every):
    is_task = hasattr(task, "xs") and hasattr(task, "ys")
    xs, ys = (task.xs, task.ys) if is_task else ((), ())
    source = _reveal(xs, ys, delay) if is_task else task
    newest: list[Any] = []
    waiting: deque[Any] = deque(maxlen=delay + 1)  # predictions whose target is to come
    carry = getattr(now, "carry", None)  # a `Forecaster` has no batch axis
    batched = carry is not None and np.ndim(jax.tree.leaves(carry)[0]) == 2
    scores = Scores(metrics, window, batched)
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
