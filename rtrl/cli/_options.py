"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Seed = Annotated[int | None, typer.Option(help="Of the network and the data's order.", min=0)]
Cell = Annotated[str | None, typer.Option(help="Recurrent cell, a name from rtrl.cells: LRU.")]
Rule = Annotated[str | None, typer.Option(help="Learning rule, a name from rtrl.rules: RTRL.")]
Chunk = Annotated[
    int | None,
    typer.Option(min=1, help="Timesteps per update, parameters held fixed inside each."),
]
Depth = Annotated[int | None, typer.Option(min=1, help="Recurrent layers.")]
Hidden = Annotated[int | None, typer.Option(min=1, help="Modules of a layer.")]
Width = Annotated[int | None, typer.Option(min=1, help="Features between layers.")]
Rate = Annotated[float | None, typer.Option("--lr", help="Learning rate of Adam.")]
Optimizer = Annotated[
    str | None,
    typer.Option(help="kalman (streams with one target, one pass, no rate to choose) or adam."),
]
Batch = Annotated[int | None, typer.Option(min=1, help="Sequences side by side.")]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="How long: timesteps of a stream, batches of anything else."),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over a labelled set.")]
Horizon = Annotated[
    int | None, typer.Option(min=0, help="How many timesteps ahead to predict (streams).")
]
Warmup = Annotated[
    int | None,
    typer.Option(min=0, help="Timesteps of a stream that set its scale before it learns: 100."),
]
Target = Annotated[
    list[str] | None,
    typer.Option(help="Column of a file to predict: a name or a number; may be repeated."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="An argument of the task, such as length=64 or by=rows."),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the results: rtrl_out/TASK.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the state in --out.")]
Board = Annotated[
    bool, typer.Option("--tensorboard", help="Write scalars to --out for TensorBoard.")
]
TaskName = Annotated[
    str, typer.Argument(metavar="TASK", help="A name that `rtrl tasks` lists, or a file.")
]
