"""``rtrl stream``: rows in, a prediction for each out at once, learning behind it."""

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
from rtrl.cli._blocks import in_blocks, one_by_one, up_to
from rtrl.cli._classes import complete_for
from rtrl.cli._data import data_of
from rtrl.cli._errors import UsageError
from rtrl.cli._judge import Classes, Numbers, judge_of
from rtrl.cli._lock import sole_use
from rtrl.cli._output import Output
from rtrl.cli._progress import error_console, progress
from rtrl.cli._report import note
from rtrl.cli._setup import Setup, as_dict, label, same_run
from rtrl.cli._signals import Stop
from rtrl.cli._stream_learner import begin
from rtrl.cli._table import Reports, naming_options, places, print_columns, refuse_no_target
from rtrl.cli._train import SAVE_SECONDS
from rtrl.tables import Table, read
from rtrl.tasks import Stream


class Rows:
    """An open file of rows, and where in it a run is."""

    def __init__(self, table: Table, skip: int, reports: Reports):
        self.table = table
        self.skip = skip
        self.reports = reports

    def __iter__(self) -> Iterator:
        for _ in range(self.skip):
            if next(self.table, None) is None:
                return
            self.skip -= 1
        self.reports.silent = False
        yield from self.table


def stream(
    given: Setup,
    folder: Path,
    to: Path | None,
    *,
    go_on: bool,
    replay: bool,
    steps: int | None,
    command: str,
) -> None:
    """Predict and learn until the rows end, ``steps`` are done or a signal comes; then save."""
    path, console = folder / _state.STATE, error_console()
    with sole_use(folder), Stop() as stop, np.errstate(all="ignore"):
        about = _about(path, given) if go_on else None
        setup = given if about is None else same_run(about["setup"], given)
        with Output(to, go_on=go_on) as output:
            rows = next(stop.items(_opened(setup, about, replay, console)), None)
            if rows is None:
                note("rtrl: stopped before the first row; nothing was learned.")
                return
            if about is None and (previous := _state.keep_previous(path)):
                note(f"rtrl: the state of an earlier run is now {previous}")
            with rows.table:
                _run(setup, rows, about, path, output, stop, steps, console, command)


def _run(
    setup: Setup,
    rows: Rows,
    about: dict[str, Any] | None,
    path: Path,
    output: Output,
    stop: Stop,
    steps: int | None,
    console: Any,
    command: str,
) -> None:
    source = rows.table
    nothing = Stream(np.zeros((0, source.in_size)), np.zeros((0, source.out_size)))
    setup, _ = complete_for(setup, data_of(source, nothing))
    horizon = source.horizon
    first = 0 if about is None else about["done"] - about["memory"]["inserted"]
    learner, state = begin(setup, source)
    judge, done = judge_of(learner, setup, source), 0
    ahead = f" +{horizon}" if horizon else ""
    header = ["row", *(name + ahead for name in judge.header())]
    if about is not None:
        output.go_on(header, first)
        state, arrays = _state.load(path, about, state)
        judge.restore(about, arrays)
        done = about["done"]
    saved, broken = time.monotonic(), False

    def keep() -> None:
        output.settle()
        _save(path, setup, source, state, judge, done)

    def due() -> bool:
        return stop.requested or time.monotonic() - saved > SAVE_SECONDS

    def write(lines: list[list]) -> None:
        nonlocal broken
        try:
            output.write([] if broken else lines)
        except BrokenPipeError:  # the reader has left: so do we, without a word
            broken = stop.requested = True  # what has been begun is learned, and saved
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    title = f"{Path(setup.task).name}, {label(setup)}"
    last = None if steps is None else first + steps
    live = output.path is not None or not sys.stdout.isatty()
    with progress(console, title, last, first, "rows", live=live) as bar:
        given = up_to(stop.items(iter(rows)), source, last)
        if not isinstance(learner, rtrl.Forecaster | rtrl.Classifier):
            pairs = one_by_one(learner, state, given, setup.chunk or 1, source)
        else:
            pairs = in_blocks(learner, state, given, source, judge.targets, last, due)
        if about is None:
            if output.path is not None:  # to go on from, if it is killed before it saves
                keep()
            write([header])
        for now, out, items in pairs:
            state = now
            fields = judge.add(out, items)
            done += len(items)
            lines = [
                [item.number, *told]
                for item, told in zip(items, fields, strict=True)
                if not item.filled
            ]
            write(lines)
            bar.update(items[-1].number, judge)
            if state is not None and not stop.requested and due():
                keep()
                saved = time.monotonic()
        row = source.rows - source.inserted
        speed = bar.speed(row)
    keep()
    rows.reports.close(source)
    if not broken:
        judge.close(
            console, command, setup, path.parent, rows=row, new=row - first,
            left_out=source.skipped, speed=speed,
        )  # fmt: skip
        state = f"{'Stopped; the' if stop.requested else 'The'} state after row {row:,}"
        again = "To go on: the same command with --resume"
        console.print(f"{state} is in {path}. {again}", soft_wrap=True)


def _opened(
    setup: Setup, about: dict[str, Any] | None, replay: bool, console: Any
) -> Iterator[Rows]:
    """The rows still to come; opening reads the first of them, so it may wait."""
    settings: dict[str, Any] = dict(setup.settings or {})
    settings["horizon"] = 1 if setup.horizon is None else setup.horizon
    reports = Reports()
    with naming_options():
        if not setup.target:
            refuse_no_target(setup.task)
        if about is not None:
            settings["decided"] = about["columns"]
        goes_on = about is not None and setup.task == "-" and not replay
        if goes_on:  # the header is behind us
            settings["header"] = False
        table = read(setup.task, setup.target, on_problem=reports, **settings)
    if about is None:
        print_columns(console, table)
    elif goes_on:
        table.recall(about["memory"])
    else:
        reports.silent = True
    yield Rows(table, 0 if about is None or goes_on else about["done"], reports)


def _about(path: Path, given: Setup) -> dict[str, Any]:
    if not path.exists():
        raise UsageError(f"--resume: there is no {path}; start without --resume.")
    about = _state.read_about(path, "--resume")
    if about["command"] != "stream":
        raise UsageError(f"--resume: {path} is a state of `rtrl {about['command']}`.")
    return about


def _save(
    path: Path, setup: Setup, source: Table, state: Any, judge: Numbers | Classes, done: int
) -> None:
    about = {
        "command": "stream",
        "setup": as_dict(replace(setup)),
        "sizes": {
            "in_size": source.in_size,
            "out_size": source.out_size,
            "kind": "stream",
            "own": places(source.targets, source.features),
        },
        "columns": source.decisions(),
        "memory": source.memory(),
        "done": done,
        "history": judge.score.history,
        "every": judge.score.every,
    }
    _state.save(path, about, state, judge.arrays())
