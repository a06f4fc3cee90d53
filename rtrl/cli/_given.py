"""What was given on the command line, as a run takes it."""

import shlex
from typing import Any

from rtrl.cli._errors import UsageError


def setup_of(options: dict[str, Any]) -> Any:
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
    settings = {**parse_settings(options.get("settings")), **reading(options)}
    given["settings"] = settings or None
    given["target"] = options["target"] or None
    return Setup(**given)


def refuse_of_files(setup: Any, options: dict[str, Any]) -> None:
    """Refuse options of files where what is learned is a task."""
    from rtrl.cli._names import is_file
    from rtrl.cli._table import OPTIONS, reading

    if not is_file(setup.task) and (given := reading(options)):
        raise UsageError(f"{OPTIONS[next(iter(given))]}: {setup.task} is no file.")


_arguments: list[str] = []


def given_as(arguments: list[str]) -> None:
    """Keep the arguments, for the record."""
    _arguments[:] = arguments


def command_line() -> str:
    """The command as one would type it."""
    return shlex.join(["rtrl", *_arguments])
