"""Where in the source an operation comes from: what names and comments in the C are made of."""

import linecache
import re
from pathlib import Path
from typing import Any, NamedTuple

#: Packages whose frames say nothing about what a person wrote.
_MACHINERY = ("/jax/", "/jaxlib/", "/equinox/", "/jaxtyping/", "/beartype/")
_PEOPLE = ("/equinox/nn/",)
#: Functions that only pass things on.
_PASSING = ("each", "branch", "_decorated", "<lambda>", "<listcomp>", "<dictcomp>", "<genexpr>")


class Origin(NamedTuple):
    """The innermost line that a person wrote: its function, file, number, and the name it sets.

    ``back``: whether it is the derivative of that line.
    """

    function: str
    file: str
    line: int
    name: str
    back: bool


def origin_of(eqn: Any) -> Origin:
    back = "transpose" in str(eqn.source_info.name_stack)
    for file, function, line in _frames(eqn):
        machinery = any(p in file for p in _MACHINERY) and not any(p in file for p in _PEOPLE)
        if not machinery and not function.split(".")[-1].startswith(_PASSING):
            return Origin(function, file, line, _assigned(file, line), back)
    return Origin("", "", 0, "", back)


def user_of(origin: Origin) -> str:
    """In words, for a message."""
    if not origin.file:
        return "JAX itself"
    return f"{origin.function} ({Path(origin.file).name}, line {origin.line})"


def _frames(eqn: Any):
    traceback = eqn.source_info.traceback
    if traceback is None:
        return
    for frame in traceback.frames:
        if not frame.file_name.startswith("<"):
            yield frame.file_name, frame.function_name, frame.line_num


def _assigned(file: str, line: int) -> str:
    """The variable that a line of source sets, if it sets one."""
    found = re.match(r"\s*(\w+)\s*(?::[^=]+)?=[^=]", linecache.getline(file, line))
    return found[1] if found else ""
