"""``rtrl train``: learn a task online, beside its floors, resumable at any step."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import rtrl
from rtrl.cli import _report, _state
from rtrl.cli._closing import UNIT
from rtrl.cli._data import Data, nrmse
from rtrl.cli._errors import UsageError
from rtrl.cli._learn import RECENT, WINDOW, Done, Run, learner_of
from rtrl.cli._progress import progress
from rtrl.cli._setup import (
    FORECASTER,
    OF_EXPERTS,
    Setup,
    as_dict,
    build_classifier,
    build_forecaster,
    build_learner,
    build_model,
    label,
    naming_rule,
    same_run,
)
from rtrl.cli._signals import Stop

SAVE_SECONDS = 60.0
BATCHES = 500  # of a task of fresh sequences
EPOCHS = 10


def run_length(data: Data, setup: Setup, steps: int | None, epochs: int | None) -> int:
    """How many steps a run has: timesteps of a stream, batches of the others."""
    if epochs is not None and data.kind != "labelled":
        raise UsageError(f"--epochs: {data.task.name} is no labelled set; use --steps.")
    if epochs is not None and steps is not None:
        raise UsageError("--epochs: give either --epochs or --steps.")
    if data.kind == "labelled":
        train = len(data.content.train)
        if (setup.batch or 1) > train:
            raise UsageError(f"--batch: expected at most the {train} sequences, got {setup.batch}.")
        return steps or (epochs or EPOCHS) * (train // (setup.batch or 1))
    if data.kind == "sequences":
        return steps or BATCHES
    longest = len(data.content.xs)
    if steps is not None and steps > longest:
        raise UsageError(f"--steps: expected at most the {longest} timesteps, got {steps}.")
    return steps or longest


def begin(setup: Setup, data: Data) -> tuple[Any, Any]:
    """A learner and its first state."""
    if setup.learner in OF_EXPERTS:
        build: Any = build_forecaster if setup.learner == FORECASTER else build_classifier
        built = build(setup, data.in_size or 0, data.out_size, data.own)
        return built, built.init(key=jax.random.key(setup.seed or 0))
    model = build_model(setup, data.in_size, data.out_size)
    key = jax.random.fold_in(jax.random.key(setup.seed or 0), 1)
    with naming_rule(setup):
        learner = build_learner(setup, data.kind, data.loss, model, data.scaled)
        state = learner.init(model, batch_size=setup.batch, key=key)
    if data.kind == "stream":
        state = rtrl.open_stream(state, chunk=setup.chunk or 1, delay=data.horizon)
    return learner, state


def resume(path: Path, given: Setup) -> tuple[Setup, dict[str, Any]]:
    """The setup of a saved run, and what the file says about it."""
    if not path.exists():
        raise UsageError(f"--resume: there is no {path}; start without --resume.")
    about = _state.read_about(path, "--resume")
    if about["command"] != "train":
        raise UsageError(f"--resume: {path} is a state of `rtrl {about['command']}`.")
    return same_run(about["setup"], given), about


def train(
    setup: Setup,
    data: Data,
    steps: int,
    folder: Path,
    *,
    about: dict[str, Any] | None,
    stop: Stop,
    console: Any,
    scalars: _report.Scalars,
) -> Done:
    """Learn up to ``steps``, from the beginning or from the state ``about`` describes.

    The state is saved at the end, once a minute, and when a stop is requested.
    """
    began, earlier = time.monotonic(), about.get("seconds", 0.0) if about else 0.0
    learner, state = begin(setup, data)
    run, path = Run(state), folder / _state.STATE
    if about is not None:
        state, arrays = _state.load(path, about, state)
        run = Run(state, about["done"], about["history"], arrays)
    unit, title = UNIT[data.kind], f"{data.task.name}, {label(setup)}"
    logged, saved = len(run.history), time.monotonic()
    with naming_rule(setup), progress(console, title, steps, run.done, unit) as bar:
        for now in learner_of(setup, data)(learner, setup, data, run, steps):
            run = now
            bar.update(run.done, live(data, run))
            for row in run.history[logged:]:
                scalars.add(row, int(row["step"]))
            logged = len(run.history)
            if time.monotonic() - saved > SAVE_SECONDS:
                save(path, setup, data, run, earlier + time.monotonic() - began)
                saved = time.monotonic()
            if stop.requested:
                break
        speed = bar.speed(run.done)
    save(path, setup, data, run, earlier + time.monotonic() - began)
    figures = {**result(data, run), "steps_per_second": speed}
    return Done(setup, run, figures, run.done >= steps)


def save(path: Path, setup: Setup, data: Data, run: Run, seconds: float) -> None:
    """Save a run that has taken so many seconds, those before it was stopped included."""
    about = {
        "command": "train",
        "setup": as_dict(setup),
        "sizes": {
            "in_size": data.in_size,
            "out_size": data.out_size,
            "kind": data.kind,
            "own": data.own,
        },
        "done": run.done,
        "seconds": seconds,
        "history": run.history,
    }
    _state.save(path, about, run.state, run.arrays)


def live(data: Data, run: Run) -> str:
    name = _report.metric_name(data.metric)
    window = f"last {WINDOW}"
    place = {"stream": window, "classes": window, "sequences": f"last {RECENT}", "labelled": "test"}
    loss = ""
    if data.kind == "sequences" and data.metric != "loss":
        loss = f"  loss {run.history[-1]['loss']:.3f}"
    if run.figure != run.figure:
        return f"{name} not known yet{loss}"
    return f"{name} {run.figure:.3f} ({place[data.kind]}){loss}"


def result(data: Data, run: Run) -> dict[str, float]:
    """The figures of a run; the first is the one that is compared with the floors."""
    if data.kind == "labelled":
        row = run.history[-1] if run.history else {}
        nan = float("nan")
        return {"accuracy": row.get("accuracy", nan), "loss": row.get("loss", nan)}
    if data.kind == "sequences":
        rows = run.history[-2 * RECENT :]
        names = ("accuracy", "loss") if data.metric == "accuracy" else ("loss",)
        figures = {name: float(np.mean([row[name] for row in rows])) for name in names}
        if data.metric == "loss":  # of half the squared error: the floors are mean squared errors
            figures = {"loss": 2 * figures["loss"]}
        return figures
    if data.kind == "classes":
        return {}  # they are worked out with those of the experts, at the end
    predictions = run.arrays["predictions"] if run.arrays else np.zeros((0, data.out_size))
    ys = np.asarray(data.content.ys[: len(predictions)], np.float64)
    half = len(ys) // 2
    known = np.isfinite(predictions[half:]) & np.isfinite(ys[half:])
    errors = np.abs(predictions[half:] - ys[half:])[known]
    return {
        "nrmse": nrmse(predictions[half:], ys[half:]),
        "mae": float(errors.mean()) if errors.size else float("nan"),
    }
