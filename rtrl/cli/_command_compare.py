"""``rtrl compare``: its options."""

from typing import Annotated

import typer

from rtrl.cli._given import command_line, refuse_of_files, setup_of
from rtrl.cli._known import RULES
from rtrl.cli._options import (
    As,
    Batch,
    Board,
    Calendar,
    Cell,
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
    Look,
    Missing,
    Optimizer,
    Out,
    Rate,
    Resume,
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


def compare(
    task: TaskName,
    rules: Annotated[
        str | None,
        typer.Option(
            help=f"Of {', '.join(RULES)} [default: RTRL,Truncated,BPTT; on streams "
            "RTRL,Truncated,Spatial]."
        ),
    ] = None,
    chunks: Annotated[str | None, typer.Option(help="Timesteps per update, such as 1,16.")] = None,
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

    setup = setup_of({**locals(), "rule": None, "chunk": None, "learner": "network"})
    refuse_of_files(setup, locals())
    command(
        setup, settings, out, resume, tensorboard, steps, epochs, command_line(), (rules, chunks)
    )
