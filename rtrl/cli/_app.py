"""The commands of ``rtrl`` and their options."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rtrl.cli._errors import UsageError
from rtrl.cli._names import rule_names
from rtrl.cli._options import (
    As,
    Batch,
    Board,
    Calendar,
    Cell,
    Chunk,
    Decimal,
    Depth,
    Drop,
    Elapsed,
    Encoding,
    Epochs,
    Features,
    Gaps,
    Header,
    Hidden,
    Horizon,
    Learner,
    Look,
    Missing,
    Optimizer,
    Out,
    Overlap,
    Rate,
    Resume,
    Rule,
    Seed,
    Separator,
    Settings,
    Steps,
    Target,
    TaskName,
    Time,
    Warmup,
    Width,
)

app = typer.Typer(
    name="rtrl",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(epilog="Each command explains itself: rtrl train --help")
def rtrl_() -> None:
    """Train recurrent networks online, one timestep in, one learning step out.

    \b
    rtrl tasks                                    what there is to learn
    rtrl train laser --horizon 5                  a real laser, one pass
    rtrl train digits --epochs 10                 digits, pixel by pixel
    rtrl compare digits --rules RTRL,BPTT         rules side by side
    rtrl stream log.csv --target speed            your own rows, as they come
    tail -f log.csv | rtrl stream - --target speed --horizon 5 > forecast.csv
    rtrl inspect rtrl_out/log/state.rtrl          what it has become
    rtrl export rtrl_out/log --out c              as C, to learn on without Python
    """


@app.command()
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


@app.command()
def train(
    task: TaskName,
    seed: Seed = None,
    cell: Cell = None,
    rule: Rule = None,
    chunk: Chunk = None,
    overlap: Overlap = None,
    depth: Depth = None,
    hidden: Hidden = None,
    width: Width = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    batch: Batch = None,
    steps: Steps = None,
    epochs: Epochs = None,
    horizon: Horizon = None,
    warmup: Warmup = None,
    learner: Learner = None,
    target: Target = None,
    features: Features = None,
    drop: Drop = None,
    kinds: As = None,
    header: Header = None,
    encoding: Encoding = None,
    separator: Separator = None,
    decimal: Decimal = None,
    missing: Missing = None,
    time: Time = None,
    calendar: Calendar = None,
    elapsed: Elapsed = False,
    gaps: Gaps = None,
    look: Look = None,
    settings: Settings = None,
    out: Out = None,
    resume: Resume = False,
    tensorboard: Board = False,
) -> None:
    """Learn a task online, and hold the result against its floors.

    \b
    rtrl train laser                              predict, then learn, in one pass
    rtrl train laser --horizon 5 --cell MinGRU    another horizon, another cell
    rtrl train log.csv --target speed --horizon 3 a file of your own
    rtrl train digits --epochs 20 --seed 1        test accuracy after every epoch
    rtrl train copying --steps 2000 --batch 50    fresh sequences without end
    rtrl train digits --epochs 40 --resume        go on where it stopped

    A stream is learned in a single pass, every target revealed only when its time has come. Ctrl-C
    saves and ends; --resume goes on, bit for bit. The folder --out gets state.rtrl, result.json
    and curve.png.
    """
    from rtrl.cli._experiment import command

    setup = _setup(locals())
    _only_of_files(setup, locals())
    command(setup, settings, out, resume, tensorboard, steps, epochs, _command())


@app.command()
def compare(
    task: TaskName,
    rules: Annotated[
        str | None,
        typer.Option(
            help=f"Of {', '.join(rule_names())} [default: RTRL,Truncated,BPTT; on streams "
            "RTRL,Truncated,Spatial]."
        ),
    ] = None,
    chunks: Annotated[str | None, typer.Option(help="Timesteps per update, such as 1,16.")] = None,
    overlap: Overlap = None,
    seed: Seed = None,
    cell: Cell = None,
    depth: Depth = None,
    hidden: Hidden = None,
    width: Width = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    batch: Batch = None,
    steps: Steps = None,
    epochs: Epochs = None,
    horizon: Horizon = None,
    warmup: Warmup = None,
    target: Target = None,
    features: Features = None,
    drop: Drop = None,
    kinds: As = None,
    header: Header = None,
    encoding: Encoding = None,
    separator: Separator = None,
    decimal: Decimal = None,
    missing: Missing = None,
    time: Time = None,
    calendar: Calendar = None,
    elapsed: Elapsed = False,
    gaps: Gaps = None,
    look: Look = None,
    settings: Settings = None,
    out: Out = None,
    resume: Resume = False,
    tensorboard: Board = False,
) -> None:
    """Learn a task under several rules and chunks: same network, same data, one table.

    \b
    rtrl compare laser --horizon 5
    rtrl compare digits --rules RTRL,BPTT --chunks 1,16 --epochs 10
    rtrl compare log.csv --target speed --rules RTRL,BPTT --chunks 16

    BPTT in chunks is truncated to them, TBPTT; on sequences it sees the whole sequence. All use the
    same optimizer: adam, unless all can use kalman (not BPTT, and no chunks). --resume does what is
    missing.
    """
    from rtrl.cli._experiment import command

    setup = _setup({**locals(), "rule": None, "chunk": None, "learner": "network"})
    _only_of_files(setup, locals())
    command(setup, settings, out, resume, tensorboard, steps, epochs, _command(), (rules, chunks))


@app.command()
def stream(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file of rows; - for stdin.")],
    target: Target = None,
    horizon: Annotated[
        int | None, typer.Option(min=0, help="Rows ahead to predict [default: 1].")
    ] = None,
    features: Features = None,
    drop: Drop = None,
    kinds: As = None,
    header: Header = None,
    encoding: Encoding = None,
    separator: Separator = None,
    decimal: Decimal = None,
    missing: Missing = None,
    time: Time = None,
    calendar: Calendar = None,
    elapsed: Elapsed = False,
    gaps: Gaps = None,
    look: Look = None,
    seed: Seed = None,
    cell: Cell = None,
    rule: Rule = None,
    chunk: Chunk = None,
    overlap: Overlap = None,
    depth: Depth = None,
    hidden: Hidden = None,
    width: Width = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    warmup: Warmup = None,
    learner: Learner = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Rows, then save and end.")] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to write the predictions to, each row once, whatever ends a run that "
            "--resume goes on from [default: standard output].",
        ),
    ] = None,
    out: Out = None,
    resume: Resume = False,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="With --resume on stdin: it begins again at the first row."),
    ] = False,
) -> None:
    """Predict a column of rows as they come, and learn from each when its target is there.

    \b
    rtrl stream log.csv --target speed --horizon 5 --to forecast.csv
    rtrl stream log.csv --target speed --horizon 5 --to forecast.csv --resume
    tail -n +1 -f log.csv | rtrl stream - --target speed --horizon 5 | your-program

    Standard output, or the file --to, gets one line a row, at once: its number and the prediction
    made at it for the value HORIZON rows later. Everything else goes to standard error. Rows that
    can't be read are reported with their line and left out; missing values are skipped. Ctrl-C or
    SIGTERM save the state and end; --resume goes on with the next row, bit for bit as without the
    stop: in a file after the rows already done, on standard input with what comes.

    A kill or a power cut lose what was learned since the last save, made every minute. --resume
    then cuts the file --to back to that row and goes on: the file is the one of a run without the
    kill, byte for byte. Only rows of a pipe that does not begin again (--replay) can't be had back.

    What each column is (a number, a class, a time, ...) is decided once, and told, before the
    first row: from the first 1,000 rows of a file. A pipe is not waited for: what it holds half a
    second after its first line decides, and from a single row a text that could be a class is left
    out. Say --look 20 to wait for 20 rows, or what a column is: --as sky=class.
    """
    from rtrl.cli import _state
    from rtrl.cli._stream import stream as run_stream

    setup = _setup({**locals(), "task": file, "settings": None, "batch": None})
    folder = _state.folder(out, file)
    run_stream(setup, folder, to, go_on=resume, replay=replay, steps=steps, command=_command())


@app.command()
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


@app.command()
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


def _setup(options: dict[str, Any]) -> Any:
    """The part of a command's options that makes a run what it is."""
    from rtrl.cli._data import parse_settings
    from rtrl.cli._names import find_cell, find_rule
    from rtrl.cli._setup import Setup
    from rtrl.cli._table import reading

    if options["cell"] is not None:
        find_cell(options["cell"])
    if options["rule"] is not None:
        find_rule(options["rule"])
    if options["lr"] is not None and not 0 < options["lr"] < float("inf"):
        raise UsageError(f"--lr: expected a positive number, got {options['lr']}.")
    given = {k: options[k] for k in Setup.__dataclass_fields__ if k in options}
    settings = {**parse_settings(options["settings"]), **reading(options)}
    given["settings"] = settings or None
    given["target"] = options["target"] or None
    return Setup(**given)


def _only_of_files(setup: Any, options: dict[str, Any]) -> None:
    from rtrl.cli._names import is_file
    from rtrl.cli._table import OPTIONS, reading

    if not is_file(setup.task) and (given := reading(options)):
        raise UsageError(f"{OPTIONS[next(iter(given))]}: {setup.task} is no file.")


_arguments: list[str] = []


def _command() -> str:
    from rtrl.cli._report import command_line

    return command_line(_arguments)


def run(arguments: list[str]) -> None:
    """Run a command and exit: 0 if all went well, 2 with one line for a mistake of the user."""
    from rtrl.cli._programs import keep_programs

    _arguments[:] = arguments
    keep_programs()
    try:
        app(args=arguments, prog_name="rtrl")
    except UsageError as error:
        print(f"rtrl: {error}", file=sys.stderr)
        sys.exit(2)
