import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from rtrl.tasks._adding import adding
from rtrl.tasks._copying import copying
from rtrl.tasks._delayed_match import delayed_match
from rtrl.tasks._digits import digits
from rtrl.tasks._henon import henon
from rtrl.tasks._imdb import imdb
from rtrl.tasks._japanese_vowels import japanese_vowels
from rtrl.tasks._lag_regression import lag_regression
from rtrl.tasks._listops import listops
from rtrl.tasks._lorenz import lorenz
from rtrl.tasks._mackey_glass import mackey_glass
from rtrl.tasks._modular_sum import modular_sum
from rtrl.tasks._parity import parity
from rtrl.tasks._santafe import santafe
from rtrl.tasks._scifar import scifar
from rtrl.tasks._shd import shd
from rtrl.tasks._smnist import psmnist, smnist

SEQUENCES = (copying, adding, delayed_match, parity, modular_sum, lag_regression)
STREAMS = (mackey_glass, lorenz, henon, santafe)
LABELLED = (digits, japanese_vowels, smnist, psmnist, scifar, imdb, listops, shd)


Kind = Literal["sequences", "stream", "labelled"]


class Task(NamedTuple):
    """What the docstring of a task says.

    Attributes:
        name: as in `rtrl.tasks`.
        kind: "sequences" for fresh batches without end (a call gives `Sequences`), "stream" for one
            long stream (`Stream`, or rows as they come), "labelled" for a fixed set (`Split`).
        function: the task itself.
        summary: one line.
        shapes, floors, source: paragraphs, as one line each (shapes: one line an array).
    """

    name: str
    kind: Kind
    function: Callable[..., Any]
    summary: str
    shapes: str
    floors: str
    source: str


def summary() -> list[Task]:
    """List all tasks, in the words of their docstrings."""
    kinds: tuple[tuple[Kind, tuple[Callable[..., Any], ...]], ...] = (
        ("sequences", SEQUENCES),
        ("stream", STREAMS),
        ("labelled", LABELLED),
    )
    return [_task(kind, function) for kind, functions in kinds for function in functions]


def _task(kind: Kind, function: Callable[..., Any]) -> Task:
    text = re.sub(r"(?m)^    ", "", function.__doc__ or "")
    first, _, _ = text.partition("\n")

    def part(name: str) -> str:
        found = re.search(rf"\b{name}\b[,:]?\s*(.*?)(?=\n\n|\Z)", text, re.DOTALL)
        return " ".join(found[1].split()) if found else ""

    shapes = re.search(r"(?m)^Shapes[^:]*:.*(\n.+)*", text)
    lines = shapes[0] if shapes else ""
    joined = re.sub(r"\n {8,}", " ", lines) if "\n    " in lines else " ".join(lines.split())
    return Task(
        name=function.__name__,
        kind=kind,
        function=function,
        summary=first,
        shapes=joined,
        floors=part("Floors"),
        source=part("Source"),
    )
