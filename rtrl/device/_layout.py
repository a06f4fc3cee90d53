"""The state of a learner as numbers in a row: names, kinds and places, the same in Python and C."""

import re
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtrl.learners import LearnerState, StreamState
from rtrl.streams import StandardizedState
from rtrl.validate import require

#: How a kind of number is kept: the type in C, and its bytes in a file.
KINDS = {
    "float32": ("float", "<f4"),
    "int32": ("int", "<i4"),
    "uint32": ("unsigned", "<u4"),
    "bool": ("int", "<i4"),
    "bfloat16": ("unsigned short", "<u2"),
    "int8": ("signed char", "<i1"),
    "float64": ("double", "<f8"),
    "int64": ("long long", "<i8"),
}
C_WORDS = set(
    "auto break case char const continue default do double else enum extern float for goto if "
    "inline int long register restrict return short signed sizeof static struct switch typedef "
    "union unsigned void volatile while".split()
)
#: What a stream holds beside its learner.
_HELD = ("xs", "ys", "weights", "resets", "known", "held", "settled", "items")


class Member(NamedTuple):
    """An array of the state.

    Attributes:
        name: in C.
        path: in Python, such as ``model.encoder.weight``.
        part: ``re`` or ``im`` of a complex array, else empty.
        shape: of the array.
        dtype: of its numbers (of one part).
        leaf: which of the state's arrays it is (or is a part of).
    """

    name: str
    path: str
    part: str
    shape: tuple[int, ...]
    dtype: str
    leaf: int

    @property
    def itemsize(self) -> int:
        """Bytes of a number: 4, but for running moments and counts of a stream, which have 8, and
        what is kept narrow."""
        return np.dtype(KINDS[self.dtype][1]).itemsize

    @property
    def wide(self) -> bool:
        """Whether its numbers take 8 bytes."""
        return self.itemsize == 8

    @property
    def narrow(self) -> bool:
        """Whether they take fewer than 4."""
        return self.itemsize < 4

    @property
    def single(self) -> bool:
        """Whether it is one number in C; arrays that loops are written for stay arrays."""
        looped = self.wide or self.name.startswith("stream_")
        return self.shape == () or (self.size == 1 and not looped)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))


def leaves(state: Any, at: str = "") -> list[tuple[str, Any]]:
    """The arrays of a state by path; keys of random numbers stay in Python.

    Args:
        at: where the state is within another one.
    """
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        if stored(leaf):
            found.append(((at + jax.tree_util.keystr(path)).lstrip("."), leaf))
    return found


def stored(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
        return False
    return not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def members(state: Any) -> list[Member]:
    """The arrays of a state in order, complex ones in two parts.

    Those of 4 bytes come first, then those of 2 and of 1, which end at a multiple of 4, then 8.

    Raises:
        ValueError: an array of a kind that has no place on a device, named.
    """
    found: list[Member] = []
    taken: set[str] = set()
    at = core_of(state)[1].lstrip(".")
    inside = f"{at}." if at else ""
    stream = None if stream_of(state) is None else inside.removesuffix("learner.")
    for leaf, (path, value) in enumerate(leaves(state)):
        kind = np.dtype(value.dtype).name
        parts, dtype = (("re", "im"), "float32") if kind == "complex64" else (("",), kind)
        learned = path.startswith(inside)
        wide = dtype in ("float64", "int64")
        require(dtype in KINDS and not (learned and wide), "state", "arrays of float32, complex64, "
                "bfloat16, int8, int32, uint32 or bool (a learner made in JAX's 32-bit mode)",
                f"{path} of {kind}")  # fmt: skip
        for part in parts:
            short = path.removeprefix(inside) if learned else _around(path, stream)
            name = _identifier(short, part, taken)
            found.append(Member(name, path, part, tuple(value.shape), dtype, leaf))
    return sorted(found, key=lambda m: (m.wide, -m.itemsize))


def core_of(state: Any) -> tuple[LearnerState, str]:
    """The learner's own state inside a stream's and a standardised one's, and its path."""
    path = ""
    while isinstance(state, StandardizedState | StreamState):
        state, path = state.learner, path + ".learner"
    return state, path


def stream_of(state: Any) -> StreamState | None:
    inner = state.learner if isinstance(state, StandardizedState) else state
    return inner if isinstance(inner, StreamState) else None


def _around(path: str, stream: str | None) -> str:
    """A name for what a stream or a standardised learner holds beside the learner."""
    if stream is None or not path.startswith(stream):
        return path
    name = path.removeprefix(stream)
    if name.startswith("carry"):
        return name.replace("carry", "ahead", 1)
    return f"stream_{name}" if name.startswith(_HELD) else path


def _identifier(path: str, part: str, taken: set[str]) -> str:
    name = path.removeprefix("model.").replace("opt_state", "optimizer")
    name = re.sub(r"\W+", "_", name).strip("_") + ("_" + part if part else "")
    if name in C_WORDS or name[0].isdigit():
        name += "_"
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def fingerprint(layout: list[Member]) -> int:
    """A number that is another one for another layout."""
    lines = (f"{m.path} {m.part} {list(m.shape)} {m.dtype}" for m in layout)
    return zlib.crc32("\n".join(lines).encode())


def numbers(state: Any, layout: list[Member]) -> list[np.ndarray]:
    """The values of the members of a state; of bfloat16 the bits."""
    values = [np.asarray(leaf) for _, leaf in leaves(state)]
    values = [a.view(np.uint16) if a.dtype.name == "bfloat16" else a for a in values]
    part = {"re": np.real, "im": np.imag, "": np.asarray}
    return [part[m.part](values[m.leaf]) for m in layout]


def size_of(layout: list[Member]) -> int:
    """Bytes of the numbers of a state, in memory and in a file."""
    return sum(m.itemsize * m.size for m in layout) + padding(layout)


def padding(layout: list[Member]) -> int:
    """Bytes after the narrow numbers."""
    return -sum(m.itemsize * m.size for m in layout if m.narrow) % 4
