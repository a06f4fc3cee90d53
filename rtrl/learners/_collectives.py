"""What travels between devices, read off a compiled program."""

import math
import re
from typing import Any, NamedTuple

from jaxtyping import ArrayLike, PyTree

from rtrl.learners import _inputs
from rtrl.learners._feed import feed, samples_here
from rtrl.learners._state import LearnerState
from rtrl.learners._step import advance_many


class Collective(NamedTuple):
    """One operation by which devices exchange numbers.

    Attributes:
        kind: such as ``"all-reduce"`` (a sum over devices) or ``"all-gather"``.
        shapes: of the arrays that a device ends up with, as in ``"f32[4,16]"``.
        bytes: of all of them, on one device. A ring of D devices sends ``2 (D - 1) / D`` times as
            much over every link for a sum, ``(D - 1) / D`` times for a gather.
        source: what it is for: the name of the operation in the program.
        repeated: whether it stands in a loop or a branch, and so may run many times or never.
    """

    kind: str
    shapes: tuple[str, ...]
    bytes: int
    source: str
    repeated: bool


_KINDS = "all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter"
_LINE = re.compile(rf"= (?P<type>.*?) (?P<kind>{_KINDS})(?:-start)?\(")
_SHAPE = re.compile(r"([a-z]+[0-9]*[a-z0-9]*)\[([0-9,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) .*\{$")
#: Of the types of operations that only begin: a gather's says what is sent, then what comes; that
#: of a permutation also holds two counters.
_RESULTS = {
    "all-gather": lambda shapes: shapes[len(shapes) // 2 :],
    "collective-permute": lambda shapes: shapes[1:2],
}
_BITS = {"pred": 8, "c64": 64, "c128": 128}


def collectives(
    learner: Any,
    state: LearnerState,
    xs: ArrayLike,
    ys: PyTree[ArrayLike] | None = None,
    *,
    chunk: int = 1,
) -> list[Collective]:
    """List everything that travels between devices in one chunk of learning; runs nothing.

    Args:
        learner: an `OnlineLearner`.
        state: its state, from `shard`.
        xs, ys: data as for `OnlineLearner.scan`, of ``chunk`` timesteps.
        chunk: timesteps per chunk.

    Returns every collective of the compiled program, in its order; empty for one device.
    """
    return collectives_in(compiled_text(learner, state, xs, ys, chunk))


def compiled_text(learner: Any, state: LearnerState, xs: Any, ys: Any, chunk: int) -> str:
    """The program that learns these data, as XLA has compiled it for one device of the mesh."""
    data = _inputs.prepare(state.model, xs, ys, None, None, samples_here(state))
    data = feed(state, data, time=True)
    return advance_many.donating.compile(learner, data, chunk, state).as_text() or ""


def collectives_in(text: str) -> list[Collective]:
    """The collectives of a compiled program, given as text."""
    found, entry = [], False
    for line in text.splitlines():
        computation = _COMPUTATION.match(line)
        if computation:
            entry = bool(computation[1])
        match = _LINE.search(line)
        if match is None:
            continue
        shapes = _SHAPE.findall(match["type"])
        if f"{match['kind']}-start(" in line:  # what comes, of a type that may say more
            shapes = _RESULTS.get(match["kind"], lambda shapes: shapes)(shapes)
        name = re.search(r'op_name="([^"]*)"', line)
        found.append(
            Collective(
                kind=match["kind"],
                shapes=tuple(f"{kind}[{sizes}]" for kind, sizes in shapes),
                bytes=sum(size_of(*shape) for shape in shapes),
                source=name[1] if name else "",
                repeated=not entry,
            )
        )
    return found


def size_of(kind: str, sizes: str) -> int:
    """Bytes of an array, from its type as XLA writes it."""
    digits = re.search(r"[0-9]+", kind)
    bits = _BITS.get(kind) or int(digits[0] if digits else 8)
    return math.prod(map(int, filter(None, sizes.split(",")))) * bits // 8


def arrays_in(text: str) -> list[tuple[str, int]]:
    """Every array in a compiled program, as it is written, and its bytes."""
    return [(f"{kind}[{sizes}]", size_of(kind, sizes)) for kind, sizes in set(_SHAPE.findall(text))]
