"""The state of a learner as numbers in a row: names, kinds and places, the same in Python and C."""

import re
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np

from rtrl.validate import require

#: How a kind of number is kept: the type in C, and its bytes in a file.
KINDS = {
    "float32": ("float", "<f4"),
    "int32": ("int", "<i4"),
    "uint32": ("unsigned", "<u4"),
    "bool": ("int", "<i4"),
}
C_WORDS = set(
    "auto break case char const continue default do double else enum extern float for goto if "
    "inline int long register restrict return short signed sizeof static struct switch typedef "
    "union unsigned void volatile while".split()
)


class Member(NamedTuple):
    """An array of the state.

    Attributes:
        name: in C.
        path: in Python, such as ``model.encoder.weight``.
        part: ``re`` or ``im`` of a complex array, else empty.
        shape: of the array.
        dtype: of its numbers (of one part).
    """

    name: str
    path: str
    part: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))


def leaves(state: Any) -> list[tuple[str, Any]]:
    """The arrays of a state by path; keys of random numbers stay in Python."""
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        if stored(leaf):
            found.append((jax.tree_util.keystr(path).lstrip("."), leaf))
    return found


def stored(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
        return False
    return not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def members(state: Any) -> list[Member]:
    """The arrays of a state in order, complex ones in two parts.

    Raises:
        ValueError: an array of a kind that has no place on a device, named.
    """
    found: list[Member] = []
    taken: set[str] = set()
    for path, leaf in leaves(state):
        kind = np.dtype(leaf.dtype).name
        parts, dtype = (("re", "im"), "float32") if kind == "complex64" else (("",), kind)
        require(dtype in KINDS, "state", "arrays of float32, complex64, int32, uint32 or bool "
                "(a learner made in JAX's 32-bit mode)", f"{path} of {kind}")  # fmt: skip
        for part in parts:
            name = _identifier(path, part, taken)
            found.append(Member(name, path, part, tuple(leaf.shape), dtype))
    return found


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


def numbers(state: Any) -> list[np.ndarray]:
    """The values of `members`, in that order."""
    values = []
    for _, leaf in leaves(state):
        value = np.asarray(leaf)
        values += [value.real, value.imag] if np.iscomplexobj(value) else [value]
    return values
