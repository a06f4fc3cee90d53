"""``rtrl compare``: its options."""

from typing import Annotated, Any

import typer

from rtrl.cli._given import command_line, refuse_of_files, setup_of
from rtrl.cli._known import RULES
from rtrl.cli._options import ALONE, BOARD, FOLDER, NETWORK, READING, TASK, TaskName, taking


@taking(NETWORK, TASK, READING, FOLDER, BOARD)
def compare(
    task: TaskName,
    *,
    rules: Annotated[
        str | None,
        typer.Option(
            help=f"Of {', '.join(RULES)} [default: RTRL,Truncated,BPTT; on streams "
            "RTRL,Truncated,Spatial]."
        ),
    ] = None,
    chunks: Annotated[str | None, typer.Option(help="Timesteps per update, such as 1,16.")] = None,
    **options: Any,
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

    setup = setup_of({**options, **dict.fromkeys(ALONE), "task": task, "learner": "network"})
    refuse_of_files(setup, options)
    command(setup, options, command_line(), (rules, chunks))
