"""``rtrl stream``: its options."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rtrl.cli._given import command_line, setup_of
from rtrl.cli._options import ALONE, FOLDER, NETWORK, READING, taking


@taking(READING, NETWORK, ALONE, FOLDER)
def stream(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file of rows; - for stdin.")],
    *,
    horizon: Annotated[
        int | None, typer.Option(min=0, help="Rows ahead to predict [default: 1].")
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Of classes tell the probability of each."),
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Rows, then save and end.")] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to write the predictions to, each row once, whatever ends a run that "
            "--resume goes on from [default: standard output].",
        ),
    ] = None,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="With --resume on stdin: it begins again at the first row."),
    ] = False,
    **options: Any,
) -> None:
    """Predict a column of rows as they come, and learn from each when its target is there.

    \b
    rtrl stream log.csv --target speed --horizon 5 --to forecast.csv
    rtrl stream log.csv --target speed --horizon 5 --to forecast.csv --resume
    rtrl stream log.csv --target state --probabilities     a class: which comes next
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

    setup = setup_of(
        {**options, "task": file, "horizon": horizon, "probabilities": probabilities or None}
    )
    run_stream(
        setup, _state.folder(options["out"], file), to, go_on=options["resume"], replay=replay,
        steps=steps, command=command_line(),
    )  # fmt: skip
