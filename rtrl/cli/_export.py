"""``rtrl export``: a learner as C."""

from pathlib import Path
from typing import Any

from rtrl import device
from rtrl.cli import _state
from rtrl.cli._errors import UsageError
from rtrl.cli._inspect import rebuild
from rtrl.cli._setup import OF_EXPERTS, Setup


def export(console: Any, path: Path, out: Path, name: str) -> None:
    """Write the learner of a state file as a folder of C."""
    about = _state.read_about(path)
    setup = Setup(**about["setup"])
    if setup.learner in OF_EXPERTS:
        raise UsageError(
            f"STATE: is of a {setup.learner}; train with --learner network to export it."
        )
    learner, state = rebuild(path, about, setup)
    try:
        out.mkdir(parents=True, exist_ok=True)
        device.export(learner, state, out, name)
    except ValueError as error:
        raise UsageError(_named(error, setup)) from error
    except OSError as error:
        raise UsageError(f"--out: can't write to {out}: {error.strerror}.") from error
    console.print(f"{name}.h, {name}.c, main.c, Makefile and README.md are in {out}.")
    console.print(f"make -C {out} && {out}/{name} < rows.csv > predictions.csv", soft_wrap=True)


def _named(error: ValueError, setup: Setup) -> str:
    """A refusal in the words of the command line."""
    argument, _, rest = str(error).partition(": ")
    if argument == "name":
        return f"--name: {rest}"
    chunk = setup.chunk
    if chunk != 1 and ("chunks of" in rest or "chunks do not overlap" in rest):
        chunks = f"chunks of {chunk}" if chunk else "whole sequences"
        return f"STATE: learned in {chunks}; train it with --chunk 1 to export it."
    return f"STATE: {rest}"
