"""``rtrl stream``: rows in, a prediction for each out at once, learning behind it."""

import csv as text
import io
import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import rtrl
from rtrl.cli import _state
from rtrl.cli._closing import close_stream
from rtrl.cli._data import Data, squared_error
from rtrl.cli._errors import UsageError
from rtrl.cli._learn import WINDOW
from rtrl.cli._progress import error_console, progress
from rtrl.cli._report import note
from rtrl.cli._score import Score
from rtrl.cli._setup import (
    Setup,
    as_dict,
    build_learner,
    build_model,
    complete,
    label,
    naming_rule,
    same_run,
)
from rtrl.cli._signals import Stop
from rtrl.cli._train import SAVE_SECONDS
from rtrl.tasks import CsvStream, Problem, Stream, csv, open_lines, summary


class Rows:
    """An open file of rows, and where in it a run is."""

    def __init__(self, stream: CsvStream, skip: int):
        self.stream = stream
        self.skip = skip

    def __iter__(self) -> Iterator:
        for _ in range(self.skip):
            if next(self.stream, None) is None:
                return
            self.skip -= 1
        yield from self.stream


def stream(
    given: Setup, folder: Path, *, go_on: bool, replay: bool, steps: int | None, command: str
) -> None:
    """Predict and learn until the rows end, ``steps`` are done or a signal comes; then save."""
    path, console = folder / _state.STATE, error_console()
    with Stop() as stop, np.errstate(all="ignore"):
        about = _about(path, given) if go_on else None
        setup = given if about is None else same_run(about["setup"], given)
        if about is None and (previous := _state.keep_previous(path)):
            note(f"rtrl: the state of an earlier run is now {previous}")
        rows = next(stop.items(_opened(setup, about, replay)), None)
        if rows is None:
            note("rtrl: stopped before the first row; nothing was learned.")
            return
        with rows.stream:
            _run(setup, rows, about, path, stop, steps, console, command)


def _run(
    setup: Setup,
    rows: Rows,
    about: dict[str, Any] | None,
    path: Path,
    stop: Stop,
    steps: int | None,
    console: Any,
    command: str,
) -> None:
    source = rows.stream
    setup = complete_for(setup, source)
    chunk, horizon = setup.chunk or 1, source.horizon
    learner, state = begin(setup, source)
    score, done, header = Score(horizon, WINDOW), 0, True
    if about is not None:
        state, arrays = _state.load(path, about, state)
        score = Score.restore(horizon, WINDOW, arrays, about["history"], about["every"])
        done, header = about["done"], False
    began, saved, broken = done, time.monotonic(), False
    writer = text.writer(sys.stdout, lineterminator="\n")
    newest: list[Any] = []

    def keep() -> None:
        _save(path, setup, source, state, score, done)

    title = f"{Path(setup.task).name}, {label(setup)}"
    last = None if steps is None else began + steps
    with progress(console, title, last, done, "rows", live=not sys.stdout.isatty()) as bar:
        pairs = learner.stream(state, _tap(stop.items(iter(rows)), newest), chunk, horizon)
        try:
            if header:
                ahead = f" +{horizon}" if horizon else ""
                writer.writerow(["row", *(name + ahead for name in source.targets)])
                sys.stdout.flush()
            while steps is None or done < began + steps:
                pair = next(pairs, None)
                if pair is None:
                    break
                state, out = pair
                done += 1
                prediction = np.asarray(out.prediction, np.float64)
                score.add(done, prediction, newest.pop()[1])
                writer.writerow([done, *map(repr, prediction.tolist())])
                sys.stdout.flush()
                bar.update(done, _live(score))
                if time.monotonic() - saved > SAVE_SECONDS:
                    keep()
                    saved = time.monotonic()
        except BrokenPipeError:  # the reader has left: so do we, without a word
            broken = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        speed = bar.speed(done)
    keep()
    if not broken:
        close_stream(
            console, command, setup, score, path.parent, rows=done, new=done - began,
            left_out=source.skipped, speed=speed, targets=source.targets,
        )  # fmt: skip
        state = f"{'Stopped; the' if stop.requested else 'The'} state after row {done:,}"
        again = "To go on: the same command with --resume"
        console.print(f"{state} is in {path}. {again}", soft_wrap=True)


def begin(setup: Setup, source: CsvStream) -> tuple[Any, Any]:
    """A learner for the columns of a file, and its first state."""
    model = build_model(setup, source.in_size, source.out_size)
    chunk, delay = setup.chunk or 1, source.horizon
    x, y = np.zeros(source.in_size), np.zeros(source.out_size)
    with naming_rule(setup):
        learner = build_learner(setup, "stream", squared_error, model)
        # Compile now, on rows that nobody sees, and not when a live row waits for its prediction.
        rows = ((x, y) for _ in range(2 * chunk + delay))
        for _ in learner.stream(learner.init(model), rows, chunk=chunk, delay=delay):
            pass
    return learner, rtrl.open_stream(learner.init(model), chunk=chunk, delay=delay)


def _live(score: Score) -> str:
    recent = score.recent()
    return f"NRMSE {recent:.3f} (last {WINDOW})" if recent == recent else "NRMSE not known yet"


def complete_for(setup: Setup, source: CsvStream) -> Setup:
    """Fill in the defaults for the columns of a file."""
    if source.in_size == 0:
        raise UsageError("--target: there is no other column to predict it from at horizon 0.")
    task = next(task for task in summary() if task.name == "csv")
    empty = Stream(np.zeros((0, source.in_size)), np.zeros((0, source.out_size)))
    data = Data(
        task, "stream", empty, source.in_size, source.out_size, squared_error, "nrmse",
        source.horizon,
    )  # fmt: skip
    return complete(setup, data)


def _opened(setup: Setup, about: dict[str, Any] | None, replay: bool) -> Iterator[Rows]:
    """The rows still to come; opening reads the first of them, so it may wait."""
    if not setup.target:
        with _read(setup.task, -1) as columns:
            names = ", ".join(columns.columns)
        raise UsageError(f"--target: name the column to predict: {names}.")
    settings = dict(setup.settings or {})
    settings["horizon"] = 1 if setup.horizon is None else setup.horizon
    if about is not None and setup.task == "-" and not replay:
        yield Rows(_go_on(about, settings), 0)
        return
    skip = 0 if about is None else about["done"]

    def report(problem: Problem) -> None:
        if opened is None or opened.rows >= skip:
            note(f"rtrl: {problem} (row left out)")

    opened: CsvStream | None = None
    opened = _read(setup.task, setup.target, on_problem=report, **settings)
    yield Rows(opened, skip)


def _go_on(about: dict[str, Any], settings: dict[str, Any]) -> CsvStream:
    """Standard input where the header is behind us: its columns are known from before."""

    def report(problem: Problem) -> None:
        note(f"rtrl: {problem._replace(line=problem.line - 1)} (row left out)")

    columns, line = about["columns"], io.StringIO()
    text.writer(line, delimiter=columns["separator"]).writerow(columns["names"])
    lines, _ = open_lines("-")
    settings |= {"inputs": columns["inputs"], "separator": columns["separator"], "header": True}
    known = itertools.chain([line.getvalue()], lines)
    stream = _read(known, columns["targets"], on_problem=report, **settings)
    stream.rows = about["done"]  # its first targets belong to rows that have been predicted
    return stream


def _read(source: Any, target: Any, **settings: Any) -> CsvStream:
    try:
        return csv(source, target, **settings)
    except (ValueError, OSError) as error:
        raise UsageError(_named(source, error)) from error


def _named(task: Any, error: Exception) -> str:
    """A mistake in the words of the command line."""
    if isinstance(error, OSError):
        return f"FILE: can't read {task}: {error.strerror}."
    argument, colon, rest = str(error).partition(":")
    options = {
        name: "--" + name
        for name in ("target", "horizon", "inputs", "separator", "decimal", "header", "time")
    }
    return f"{options.get(argument, 'FILE')}{colon}{rest}" if colon else f"FILE: {error}"


def _about(path: Path, given: Setup) -> dict[str, Any]:
    if not path.exists():
        raise UsageError(f"--resume: there is no {path}; start without --resume.")
    about = _state.read_about(path, "--resume")
    if about["command"] != "stream":
        raise UsageError(f"--resume: {path} is a state of `rtrl {about['command']}`.")
    return about


def _tap(source: Iterator, newest: list) -> Iterator:
    for item in source:
        newest[:] = [item]
        yield item


def _save(path: Path, setup: Setup, source: CsvStream, state, score: Score, done: int) -> None:
    names = source.columns
    about = {
        "command": "stream",
        "setup": as_dict(replace(setup)),
        "sizes": {"in_size": source.in_size, "out_size": source.out_size, "kind": "stream"},
        "columns": {
            "names": names,
            "separator": source.separator,
            "inputs": [names.index(name) for name in source.inputs],
            "targets": [names.index(name) for name in source.targets],
        },
        "done": done,
        "history": score.history,
        "every": score.every,
    }
    _state.save(path, about, state, score.arrays())
