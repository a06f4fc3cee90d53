"""``rtrl tasks``, ``inspect`` and ``export``: their options."""

from pathlib import Path
from typing import Annotated

import typer


def tasks(
    name: Annotated[str | None, typer.Argument(metavar="[TASK]", help="Tell all of one.")] = None,
) -> None:
    """List the tasks, with what simple methods reach on them.

    \b
    rtrl tasks              one line each
    rtrl tasks digits       shapes, floors and source of one
    """
    from rtrl.cli._tasks import list_tasks

    list_tasks(name)


def inspect(
    state: Annotated[Path, typer.Argument(metavar="STATE", help="A state.rtrl, or its folder.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What it learns from, a file or a task: diagnose it."),
    ] = None,
    window: Annotated[
        int, typer.Option(min=32, help="Timesteps of a stream to diagnose it on, the last learned.")
    ] = 512,
) -> None:
    """Show what is inside a state: parameters, timescales, traces, memory.

    \b
    rtrl inspect rtrl_out/digits
    rtrl inspect rtrl_out/log --data log.csv      what is wrong with it, and what to try
    rtrl inspect rtrl_out/laser --data laser

    With --data the learner is diagnosed on the last timesteps that it learned: is the rate right,
    are time scales long enough, are gates saturated, layers dead, traces stale, does its gradient
    point where BPTT's does? The page diagnosis.png goes beside the state.
    """
    from rtrl.cli import _state
    from rtrl.cli._inspect import inspect as show
    from rtrl.cli._progress import output_console

    path = state / _state.STATE if state.is_dir() else state
    show(output_console(), path)
    if data is not None:
        from rtrl.cli._diagnose import diagnose

        diagnose(output_console(), path, _state.read_about(path), data, window)


def export(
    state: Annotated[Path, typer.Argument(metavar="STATE", help="A state.rtrl, or its folder.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write the C.")],
    name: Annotated[
        str, typer.Option(help="Of the files, and of all that they define.")
    ] = "learner",
) -> None:
    """Write a learner as C that goes on learning without Python.

    \b
    rtrl export rtrl_out/laser --out c
    rtrl export rtrl_out/log --out firmware --name motor
    make -C c && c/learner < rows.csv > predictions.csv

    The folder gets name.h (the interface, to read first), name.c, main.c, a Makefile, an Arduino
    sketch and a README. A row of main.c holds the inputs, then the targets that are revealed with
    them; an empty place is a missing number. Learning goes on from the state as it was saved, in
    steps of one timestep (--chunk 1, the default of streams).
    """
    from rtrl.cli import _state
    from rtrl.cli._export import export as write
    from rtrl.cli._progress import output_console

    path = state / _state.STATE if state.is_dir() else state
    write(output_console(), path, out, name)
