"""``rtrl sweep``: its options."""

from pathlib import Path
from typing import Annotated

import typer

from rtrl.cli._given import command_line


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A TOML file, as above.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results [default: rtrl_out/FILE].")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side, a process each.")] = 1,
) -> None:
    """Learn a task in every combination of settings; go on where it was stopped.

    \b
    rtrl sweep laser.toml
    rtrl sweep laser.toml --jobs 4 --out results/laser

    \b
    task = "laser"                      # laser.toml: a name that `rtrl tasks` lists, or a file
    horizon = 5
    optimizer = "adam"
    lr = [0.001, 0.003, 0.01]           # a list: each of these
    seed = [0, 1, 2]
    [[runs]]                            # every combination in each of these tables
    chunk = [1, 16]
    [[runs]]
    rule = ["RTRL", "BPTT"]
    chunk = 16
    overlap = 16

    Keys are the options of `rtrl train`: rule, chunk, overlap, cell, depth, hidden, width,
    optimizer, lr, batch, horizon, warmup and seed, each a value or a list of values; task, target,
    steps, epochs, and arguments of the task in a table [set].

    Of several rates the best is chosen for each setting on data that nothing is reported of: the
    share `validation` (default 0.25) of a stream, its beginning, or of the sequences of a labelled
    set to learn from; other fresh sequences. The seeds are then run with that rate, and judged
    where `rtrl train` judges.

    The folder gets one JSON a run, table.md, result.json and sweep.png. What is there is not run
    again: after a kill at any moment the same command goes on.
    """
    from rtrl.cli import _state
    from rtrl.cli._sweep import sweep as run

    run(file, _state.folder(out, file.name), jobs, command_line())
