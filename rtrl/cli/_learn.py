"""Learning, step by step: one function for each kind of task, all resumable bit for bit."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import rtrl
from rtrl.cli._class_score import everyone, judged
from rtrl.cli._data import Data, nrmse
from rtrl.cli._experts import ExpertScore, WeightsOverTime
from rtrl.cli._setup import FORECASTER, Setup, build_classifier
from rtrl.tasks import Examples, Sequences, Stream, sequence_accuracy

WINDOW = 500  # timesteps of a stream in the live figure
RECENT = 50  # batches in the live figure
EVERY = 50  # timesteps of a stream between two reports
TEST_BATCH = 128


@dataclass
class Run:
    """A run at some point: what is saved, and what the bar and the picture show.

    Attributes:
        state: the learner's.
        done: timesteps of a stream, or batches, learned so far.
        history: figures along the way, each with its ``step``.
        arrays: the predictions of a stream, and how its experts did.
        figure: the live metric, NaN if there is none yet.
    """

    state: Any
    done: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    figure: float = float("nan")


def learn_stream(learner: Any, setup: Setup, data: Data, run: Run, steps: int) -> Iterator[Run]:
    """One pass: predict, then learn, every target revealed ``horizon`` timesteps later."""
    stream: Stream = data.content
    xs, ys, h = stream.xs, np.asarray(stream.ys, np.float64), data.horizon

    def source():
        for t in range(run.done, steps):
            yield xs[t], ys[t - h] if t >= h else None

    whole = np.full(ys[:steps].shape, np.nan)
    before = run.arrays.get("predictions", whole[:0])
    whole[: len(before)] = before
    done = run.done
    pairs = learner.stream(run.state, source(), chunk=setup.chunk, delay=h)
    for state, out in pairs:
        whole[done] = out.prediction
        done += 1
        if done % EVERY == 0 or done == steps:
            revealed = slice(max(0, done - h - WINDOW), max(done - h, 0))
            figure = nrmse(whole[revealed], ys[revealed])
            run.history.append({"step": done, "nrmse": figure})
            run = Run(state, done, run.history, {"predictions": whole[:done]}, figure)
            yield run


def learn_sequences(learner: Any, setup: Setup, data: Data, run: Run, steps: int) -> Iterator[Run]:
    """Fresh batches without end; every figure is of sequences not seen before."""
    for batch_number in range(run.done, steps):
        batch: Sequences = data.content([setup.seed, batch_number], setup.batch)
        state, loss, predictions = _learn_batch(learner, setup, run.state, batch)
        row = {"step": batch_number + 1, "loss": loss}
        if data.metric == "accuracy":
            row["accuracy"] = weighted_accuracy(np.asarray(predictions), batch)
        run.history.append(row)
        figure = float(np.mean([r[data.metric] for r in run.history[-RECENT:]]))
        run = Run(state, batch_number + 1, run.history, {}, figure)
        yield run


def learn_labelled(learner: Any, setup: Setup, data: Data, run: Run, steps: int) -> Iterator[Run]:
    """Passes over the training part in batches; after each the test part is judged."""
    train: Examples = data.content.train
    size = setup.batch or 1
    per_epoch = len(train) // size
    losses: list[float] = []
    figure = run.history[-1]["accuracy"] if run.history else float("nan")
    while run.done < steps:
        epoch, first = divmod(run.done, per_epoch)
        order = np.random.default_rng([setup.seed or 0, epoch]).permutation(len(train))
        for number in range(first, per_epoch):
            batch = train.batch(order[number * size : (number + 1) * size])
            state, loss, _ = _learn_batch(learner, setup, run.state, batch)
            losses.append(loss)
            done = epoch * per_epoch + number + 1
            if done % per_epoch == 0 or done == steps:
                figure = test_accuracy(state.model, data.content.test)
                row = {"step": done, "epoch": done / per_epoch, "accuracy": figure}
                run.history.append({**row, "loss": float(np.mean(losses))})
                losses.clear()
            run = Run(state, done, run.history, {}, figure)
            yield run
            if done == steps:
                return


def learn_forecaster(
    forecaster: Any, setup: Setup, data: Data, run: Run, steps: int
) -> Iterator[Run]:
    """One pass in blocks of rows: each is predicted before its target, which comes late."""
    stream: Stream = data.content
    ys, h = np.asarray(stream.ys, np.float64)[:steps], data.horizon
    revealed = np.concatenate([np.full_like(ys[:h], np.nan), ys])[:steps]
    experts = expert_score(forecaster.names, data, steps)
    whole = np.full(ys.shape, np.nan)
    if run.arrays:
        experts.restore(run.arrays)
        whole[: run.done] = run.arrays["predictions"]
    state, done = run.state, run.done
    while done < steps:
        now = slice(done, min(done + EVERY - done % EVERY, steps))
        state, out = forecaster.scan(state, stream.xs[now], revealed[now])
        experts.add(out, revealed[now])
        whole[now], done = out.prediction, now.stop
        last = slice(max(0, done - h - WINDOW), max(done - h, 0))
        figure = nrmse(whole[last], ys[last])
        run.history.append({"step": done, "nrmse": figure})
        arrays = {"predictions": whole[:done], **experts.arrays()}
        run = Run(state, done, run.history, arrays, figure)
        yield run


def learn_classifier(
    classifier: Any, setup: Setup, data: Data, run: Run, steps: int
) -> Iterator[Run]:
    """One pass in blocks of rows: each is told before its class, which comes late."""
    stream: Stream = data.content
    ys, h = np.asarray(stream.ys[:steps, 0], np.float64), data.horizon
    revealed = np.concatenate([np.full(h, np.nan), ys])[:steps]
    over = WeightsOverTime(classifier.names)
    shape = {"right": 1 + len(over.names), "surprise": 1 + len(over.names),
             "predictions": classifier.classes}  # fmt: skip
    whole = {name: np.full((steps, size), np.nan) for name, size in shape.items()}
    if run.arrays:
        over.restore(run.arrays)
        for name, values in whole.items():
            values[: run.done] = run.arrays[name]
    state, done = run.state, run.done
    while done < steps:
        now = slice(done, min(done + EVERY - done % EVERY, steps))
        state, out = classifier.scan(state, stream.xs[now], revealed[now])
        over.add(out.weights)
        whole["right"][now], whole["surprise"][now] = judged(everyone(out), ys[now])
        whole["predictions"][now], done = out.probabilities, now.stop
        last = whole["right"][max(0, done - h - WINDOW) : max(done - h, 0), 0]
        known = last[np.isfinite(last)]
        figure = float(known.mean()) if len(known) else float("nan")
        run.history.append({"step": done, "accuracy": figure})
        arrays = {**{name: values[:done] for name, values in whole.items()}, **over.arrays()}
        run = Run(state, done, run.history, arrays, figure)
        yield run


def class_names(setup: Setup, data: Data) -> tuple[str, ...]:
    """Of the experts."""
    return build_classifier(setup, data.in_size or 0, data.out_size, data.own).names


def expert_score(names: tuple[str, ...], data: Data, steps: int) -> ExpertScore:
    """Of the second half, as everything else of a stream that is there as a whole."""
    return ExpertScore(names, data.horizon, data.out_size, steps // 2 + data.horizon)


def learner_of(setup: Setup, data: Data) -> Any:
    """How data of this kind are learned."""
    return learn_forecaster if setup.learner == FORECASTER else LEARN[data.kind]


LEARN = {
    "stream": learn_stream,
    "classes": learn_classifier,
    "sequences": learn_sequences,
    "labelled": learn_labelled,
}


def _learn_batch(learner, setup: Setup, state: Any, batch: Sequences) -> tuple[Any, float, Any]:
    """Learn a batch of sequences; its loss is the weighted mean over timesteps and samples."""
    resets = np.zeros(len(batch.xs), bool)
    resets[0] = True
    state, out = learner.scan(
        state, batch.xs, batch.ys, chunk=setup.chunk, weights=batch.weights, resets=resets
    )
    weights = batch.weights.mean(1)
    counted = weights > 0
    loss = float((np.asarray(out.loss)[counted] * weights[counted]).sum() / weights.sum())
    return state, loss, out.prediction


def weighted_accuracy(predictions: np.ndarray, batch: Sequences) -> float:
    """Share of right answers where they count, ``(time, batch, ...)``."""
    answers = predictions.reshape(*batch.ys.shape, -1).argmax(-1) == batch.ys
    while answers.ndim > 2:
        answers = answers.mean(-1)
    return float((answers * batch.weights).sum() / batch.weights.sum())


def test_accuracy(model: Any, examples: Examples) -> float:
    """Accuracy with logits averaged over time; nothing is learned."""
    right = 0.0
    for batch in examples.batches(TEST_BATCH):
        logits = np.asarray(_predict(model, jnp.asarray(batch.xs)))
        right += sequence_accuracy(logits, batch) * logits.shape[1]
    return right / len(examples)


@eqx.filter_jit
def _predict(model: Any, xs: jax.Array) -> jax.Array:
    rule = rtrl.BPTT()  # no trace: it only predicts
    return model(xs, rtrl.init_carry(model, rule, xs.shape[1]), rule=rule)[0]


class Done(NamedTuple):
    """A run that has ended, or was stopped."""

    setup: Setup
    run: Run
    figures: dict[str, float]
    finished: bool
