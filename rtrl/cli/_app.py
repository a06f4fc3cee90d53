"""The commands of ``rtrl`` and their options."""

import sys
from importlib import metadata
from typing import Annotated

import typer

from rtrl.cli._command_compare import compare
from rtrl.cli._command_state import export, inspect, tasks
from rtrl.cli._command_stream import stream
from rtrl.cli._command_sweep import sweep
from rtrl.cli._command_train import train
from rtrl.cli._errors import UsageError
from rtrl.cli._given import given_as
from rtrl.cli._programs import keep_programs

app = typer.Typer(
    name="rtrl",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"rtrl {metadata.version('rtrl')}")
        raise typer.Exit()


@app.callback(
    epilog="Each command explains itself: rtrl train --help. Compiled programs are kept in the "
    "folder ~/.cache/rtrl, which makes the next start faster; JAX_COMPILATION_CACHE_DIR names "
    "another, JAX_ENABLE_COMPILATION_CACHE=false keeps none."
)
def rtrl_(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Tell it and end.")
    ] = False,
) -> None:
    """Train recurrent networks online, one timestep in, one learning step out.

    \b
    rtrl tasks                                    what there is to learn
    rtrl train laser --horizon 5                  a real laser, one pass
    rtrl train digits --epochs 10                 digits, pixel by pixel
    rtrl compare digits --rules RTRL,BPTT         rules side by side
    rtrl sweep laser.toml                         every combination of settings, every seed
    rtrl stream log.csv --target speed            your own rows, as they come
    tail -f log.csv | rtrl stream - --target speed --horizon 5 > forecast.csv
    rtrl inspect rtrl_out/log/state.rtrl          what it has become
    rtrl export rtrl_out/log --out c              as C, to learn on without Python
    """


for command in (tasks, train, compare, sweep, stream, inspect, export):
    app.command()(command)


def run(arguments: list[str]) -> None:
    """Run a command and exit: 0 if all went well, 2 with one line for a mistake of the user."""
    given_as(arguments)
    keep_programs()
    try:
        app(args=arguments, prog_name="rtrl")
    except UsageError as error:
        print(f"rtrl: {error}", file=sys.stderr)
        sys.exit(2)
