"""A learner as a folder of C."""

import os
import re
from pathlib import Path
from typing import Any

from rtrl.cells import cells_of
from rtrl.device import _files
from rtrl.device._layout import C_WORDS
from rtrl.device._source import source
from rtrl.learners import OnlineLearner
from rtrl.streams import Standardized
from rtrl.validate import require


def export(learner: Any, state: Any, folder: str | os.PathLike[str], name: str = "learner") -> None:
    """Write a learner as C99: predict and learn, one timestep after the other, without Python.

    The folder gets ``name.h`` (the interface, to read first), ``name.c``, ``main.c`` (rows on
    standard input, predictions on standard output), a ``Makefile``, an Arduino sketch and a
    ``README.md`` with the memory it takes. The C needs ``math.h`` and ``string.h`` alone; its
    memory is static, its loops have fixed lengths, its numbers are float32, complex ones taken
    apart. It begins with ``state`` as it is, learning continues where it stood. What the learner
    keeps in fewer bits (``trace_dtype``, `rtrl.narrow_moments`) stays so, bfloat16 as ``unsigned
    short`` and int8 as ``signed char``, rounded by the same random bits; a matrix made of it is
    computed again where it is needed, which saves memory and takes time.

    ``on_nonfinite="raise"`` becomes ``"skip"``: ``name_step`` returns how many were skipped. What
    has overflowed in a state or trace does not begin anew, which would take a copy of the traces:
    give the learner a `rtrl.Guard`, which goes along.

    Args:
        learner: an `OnlineLearner` whose rule learns from single timesteps.
        state: its state, without a batch axis, in float32.
        folder: where to write; made if need be, files of these names are replaced.
        name: of the files and of all that they define; an identifier of C.

    Raises:
        ValueError: an argument of the wrong kind, or the step holds an operation that has no form
            in C (such as the random numbers of dropout): the message names the primitive and the
            function that used it.
    """
    valid = isinstance(name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name)
    require(bool(valid) and name not in C_WORDS and name != "main", "name",
            "an identifier of C, such as 'learner'", name)  # fmt: skip
    c = source(learner, state, name)
    cells = ", ".join(dict.fromkeys(_cells(state.model)))
    about = f"A network of {cells} that learns by {type(_inner(learner).rule).__name__}"
    files = {
        f"{name}.h": _files.header(name, c),
        f"{name}.c": c.text,
        "main.c": _files.main(name, c),
        "Makefile": _files.makefile(name),
        f"{name}.ino": _files.sketch(name),
        "README.md": _files.readme(name, c, about),
    }
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (path / file).write_text(text)


def _inner(learner: Any) -> OnlineLearner:
    return learner.learner if isinstance(learner, Standardized) else learner


def _cells(model: Any) -> list[str]:
    return [type(cell).__name__ for cell in cells_of(model)]
