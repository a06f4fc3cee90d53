"""Options that several commands share, and how a command takes a group of them."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from rtrl.cli._known import CELLS, RULES

Seed = Annotated[
    int | None, typer.Option(min=0, help="Of the network and the data's order [default: 0].")
]
Cell = Annotated[
    str | None, typer.Option(help=f"Recurrent cell [default: LRU]: {', '.join(CELLS)}.")
]
Rule = Annotated[
    str | None, typer.Option(help=f"Learning rule [default: RTRL]: {', '.join(RULES)}.")
]
Chunk = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Timesteps per update, parameters held fixed inside each [default: 1 with kalman, "
        "else 16; BPTT: the whole sequence].",
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Timesteps before every chunk that are run again with it, so that errors reach back "
        "over at least as many [default: as many as the chunk has, at most 16; 0 where that gives "
        "nothing: one layer, chunks of 1, a rule or sequences that do not reach so far].",
    ),
]
Depth = Annotated[
    int | None, typer.Option(min=1, help="Recurrent layers [default: 1 with kalman, else 2].")
]
Hidden = Annotated[int | None, typer.Option(min=1, help="Modules of a layer [default: 64].")]
Width = Annotated[int | None, typer.Option(min=1, help="Features between layers [default: 64].")]
Rate = Annotated[float | None, typer.Option("--lr", help="Learning rate of Adam [default: 0.003].")]
Optimizer = Annotated[
    str | None,
    typer.Option(
        help="kalman, for streams with one target: one pass, no rate to choose; or adam "
        "[default: kalman where it can be used and --lr is not given]."
    ),
]
TraceDtype = Annotated[
    str | None,
    typer.Option(
        help="How traces are kept between updates: float32, bfloat16 or int8, a half and a quarter "
        "of the memory; computed in float32, rounded at random [default: float32]."
    ),
]
Learner = Annotated[
    str | None,
    typer.Option(
        help="forecaster: simple experts and a network, weighed online; or network: it alone, with "
        "the options above [default: forecaster for files, unless an option of the network is "
        "given]."
    ),
]
Goal = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="WHAT",
        help="classify: tell which class comes; forecast: numbers [default: classify a target "
        "that is text].",
    ),
]
Batch = Annotated[int | None, typer.Option(min=1, help="Sequences side by side [default: 16].")]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How long: timesteps of a stream [default: all], batches of anything else "
        "[default: 500 of fresh sequences].",
    ),
]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Passes over a labelled set [default: 10].")
]
Horizon = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=10_000,  # so many rows are held, and handled with every row
        help="How many timesteps ahead to predict [default: the task's].",
    ),
]
Warmup = Annotated[
    int | None,
    typer.Option(
        min=0, help="Timesteps of a stream that set its scale before it learns [default: 100]."
    ),
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of a file to predict: a name or a number from 0; may be repeated.",
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMNS", help="Columns to learn from, such as a,b [default: all that can be]."
    ),
]
Drop = Annotated[
    str | None, typer.Option(metavar="COLUMNS", help="Columns not to learn from, such as a,b.")
]
As = Annotated[
    list[str] | None,
    typer.Option(
        "--as",
        metavar="COLUMN=KIND",
        help="What a column is: number, percentage, money, boolean, class, time, counter, text, "
        "decimal-comma, day-first, epoch-ms, ...; may be repeated.",
    ),
]
Header = Annotated[
    bool | None, typer.Option("--header/--no-header", help="Whether the first row is names.")
]
Encoding = Annotated[
    str | None, typer.Option(help="Of the file, such as latin-1 [default: found by itself].")
]
Separator = Annotated[str | None, typer.Option(help="Of the fields; found by itself.")]
Decimal = Annotated[str | None, typer.Option(help="Decimal mark, . or ,")]
Missing = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="A missing value, such as -999; may be repeated."),
]
Time = Annotated[
    str | None, typer.Option("--time", metavar="COLUMN", help="Column of times; found by itself.")
]
Calendar = Annotated[
    bool | None,
    typer.Option(
        "--calendar/--no-calendar",
        help="Learn from hour, weekday and day of the year [default: if rows are days apart].",
    ),
]
Elapsed = Annotated[
    bool, typer.Option("--elapsed", help="Learn from the time since the row before, too.")
]
Gaps = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="What a gap in the times does: fill it, hold the memory or reset it [default: fill].",
    ),
]
Look = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="ROWS",
        help="Rows that decide what the columns are, waited for on a pipe [default: the first "
        "1,000 of a file; of a pipe what it holds at first, were it a single row].",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="An argument of the task, such as length=64 or by=rows."
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the results [default: rtrl_out/TASK].")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the state in --out.")]
Board = Annotated[
    bool, typer.Option("--tensorboard", help="Write scalars to --out for TensorBoard.")
]
TaskName = Annotated[
    str, typer.Argument(metavar="TASK", help="A name that `rtrl tasks` lists, or a file.")
]

#: Of a run, by the names of a command's arguments.
NETWORK = {
    "seed": Seed, "cell": Cell, "overlap": Overlap, "depth": Depth, "hidden": Hidden,
    "width": Width, "optimizer": Optimizer, "lr": Rate, "warmup": Warmup,
}  # fmt: skip
ALONE = {"rule": Rule, "chunk": Chunk, "learner": Learner, "goal": Goal, "trace_dtype": TraceDtype}
TASK = {"batch": Batch, "steps": Steps, "epochs": Epochs, "horizon": Horizon, "settings": Settings}
READING = {
    "target": Target, "features": Features, "drop": Drop, "kinds": As, "header": Header,
    "encoding": Encoding, "separator": Separator, "decimal": Decimal, "missing": Missing,
    "time": Time, "calendar": Calendar, "elapsed": Elapsed, "gaps": Gaps, "look": Look,
}  # fmt: skip
FOLDER = {"out": Out, "resume": Resume}
BOARD = {"tensorboard": Board}


def taking(*groups: dict[str, Any]) -> Callable[[Callable], Callable]:
    """Let a command take groups of options besides its own, as further keyword arguments.

    A flag is off and anything else None unless it is given. Typer reads the signature of a
    command, so that is where they are added.
    """

    def with_options(command: Callable) -> Callable:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        more = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, annotation=kind,
                default=False if get_args(kind)[0] is bool else None,
            )
            for group in groups
            for name, kind in group.items()
        ]  # fmt: skip
        taken: Any = command
        taken.__signature__ = signature.replace(parameters=[*own, *more])
        taken.__annotations__ = {p.name: p.annotation for p in (*own, *more)}
        return command

    return with_options
