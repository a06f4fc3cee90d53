"""Saving and loading a learner's whole state: one file, written atomically, resumed bit by bit.

The file is an uncompressed zip, readable by `numpy.load`: `header.json` (format, versions, and the
path, shape and dtype of every leaf) and one `.npy` member per leaf. It holds no pickle.
"""

import importlib.metadata
import io
import itertools
import json
import os
import zipfile
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rtrl.learners._replace_file import replacing
from rtrl.learners._state import require_there

_FORMAT = "rtrl-state"
_VERSION = 1
_HEADER = "header.json"
_NEEDS_X64 = ("float64", "int64", "uint64", "complex128")
_T = TypeVar("_T")


def save(path: str | os.PathLike[str], state: Any) -> None:
    """Writes every array of a state to one file, atomically.

    At any moment, also after a crash or a power cut, `path` holds either the previous file or the
    new one, whole. Array leaves (JAX and numpy arrays of any numeric dtype, typed PRNG keys) are
    stored bit by bit. Other leaves (Python numbers, strings, functions) and static fields are
    configuration: they are not stored, and `load` takes them from its ``like``.

    Args:
        path: the file to write, exactly as named (no suffix is added). An existing one is replaced.
        state: any pytree, such as the state of an `OnlineLearner`.

    Raises:
        ValueError: a leaf is an array that cannot be stored (of objects, say), or a call with
            donate=True has used up the state.
        OSError: the file cannot be written. The previous file is untouched, as with any error.
    """
    require_there(state)
    leaves = [(key, leaf) for key, leaf in _flatten(state)[0] if _is_array(leaf)]
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "rtrl": _rtrl_version(),
        "leaves": [_describe(key, leaf)._asdict() for key, leaf in leaves],
    }
    with replacing(os.fspath(path)) as file, zipfile.ZipFile(file, "w") as archive:
        with archive.open(_HEADER, "w") as member:
            member.write(json.dumps(header, indent=1).encode())
        for i, (_, leaf) in enumerate(leaves):
            # Told beforehand: the size is not known when a member is opened, and a trace may have
            # more than 4 GB.
            with archive.open(_member(i), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _to_numpy(leaf), allow_pickle=False)


def load(path: str | os.PathLike[str], like: _T) -> _T:
    """Reads a state written by `save`.

    The whole file is read and checked before anything is built.

    Args:
        path: the file to read.
        like: a pytree of the same structure, for example a freshly initialised state. Its arrays
            (or `jax.ShapeDtypeStruct`s) say which shapes and dtypes to expect; all its other
            leaves and its static fields appear in the result as they are.

    Returns:
        `like` with the stored values, bit by bit: numpy arrays where `like` has numpy arrays, and
        otherwise JAX arrays on the default device, with exactly the stored dtype and no weak type.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a state, is truncated or damaged, was written in a newer format,
            does not fit `like` (the first differing leaf is named), or holds 64-bit numbers while
            JAX's 64-bit mode is off.
    """
    name = os.fspath(path)
    leaves, structure = _flatten(like)
    with open(name, "rb") as file:
        try:
            archive = zipfile.ZipFile(file)
            header = json.loads(archive.read(_HEADER))
        # A damaged zip fails in many ways, zlib's and struct's among them: all mean the same here.
        except Exception as error:
            raise ValueError(
                f"{name} is not an rtrl state, or is truncated or damaged: {error}"
            ) from error
        found = _read_header(name, header)
        _check_fit(name, leaves, found)
        try:
            arrays = [_read(archive.read(_member(i)), leaf) for i, leaf in enumerate(found)]
        except Exception as error:
            raise ValueError(f"{name} is truncated or damaged: {error}") from error
    # Nothing is built before every array has been read: a damaged file changes nothing.
    values = iter(zip(found, arrays, strict=True))
    return jax.tree_util.tree_unflatten(
        structure,
        [_build(leaf, *next(values)) if _is_array(leaf) else leaf for _, leaf in leaves],
    )


class _Leaf(NamedTuple):
    path: str
    shape: tuple[int, ...]
    dtype: str
    key_impl: str | None = None  # the generator of typed PRNG keys, whose data are stored

    def __str__(self) -> str:
        return f"{self.path or '(the whole state)'} {self.dtype}{list(self.shape)}"


def _flatten(tree: Any) -> tuple[list[tuple[str, Any]], Any]:
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves], structure


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(path: str, leaf: Any) -> _Leaf:
    impl = jax.random.key_impl(leaf) if _is_key(leaf) else None
    if impl is None:
        storable = leaf.dtype.kind in "biufc" or leaf.dtype.isbuiltin == 2  # 2: such as bfloat16
    else:
        storable = isinstance(impl, str)  # a generator that is registered under a name
    if not storable or isinstance(leaf, jax.ShapeDtypeStruct):
        raise ValueError(f"leaf {path} cannot be saved: {type(leaf).__name__} of {leaf.dtype}")
    return _Leaf(path, leaf.shape, leaf.dtype.name, impl and str(impl))


def _to_numpy(leaf: Any) -> np.ndarray:
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    if array.dtype.isbuiltin == 2:  # unknown to the .npy format: store the bits
        return array.view(f"u{array.dtype.itemsize}")
    # Native byte order, as the names of dtypes in the header tell of none.
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_header(name: str, header: Any) -> list[_Leaf]:
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"{name} is not an rtrl state: its header does not say {_FORMAT!r}")
    if header["version"] > _VERSION:
        raise ValueError(
            f"{name} has format version {header['version']}, written by rtrl {header['rtrl']}; "
            f"this rtrl reads versions up to {_VERSION}: upgrade rtrl to load it"
        )
    return [_Leaf(**{**leaf, "shape": tuple(leaf["shape"])}) for leaf in header["leaves"]]


def _check_fit(name: str, leaves: list[tuple[str, Any]], found: list[_Leaf]) -> None:
    expected = [(path, leaf) for path, leaf in leaves if _is_array(leaf)]
    # To the longer of the two: leaves too many are as wrong as leaves too few.
    for wanted, have in itertools.zip_longest(expected, found):
        path, like = wanted or ("", None)
        want = None if like is None else _Leaf(path, tuple(like.shape), like.dtype.name)
        into_numpy = isinstance(like, np.ndarray | np.generic)
        too_wide = have and have.dtype in _NEEDS_X64 and not _x64_is_on()
        hint = ""
        if too_wide and not into_numpy:
            hint = "; to load 64-bit arrays, enable x64: jax.config.update('jax_enable_x64', True)"
        if hint or want is None or have is None or want[:3] != have[:3]:
            raise ValueError(
                f"{name} does not fit `like`: expected {want or 'no more leaves'}, "
                f"the file has {have or 'no more leaves'}{hint}"
            )


def _x64_is_on() -> bool:
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64


def _read(member: bytes, leaf: _Leaf) -> np.ndarray:
    array = np.lib.format.read_array(io.BytesIO(member), allow_pickle=False)
    # Bits of a type that the .npy format does not know, such as bfloat16: seen as such again.
    if leaf.key_impl is None and array.dtype.name != leaf.dtype:
        array = array.view(leaf.dtype)
    if leaf.shape != array.shape[: len(leaf.shape)]:  # key data have one axis more
        raise ValueError(f"{leaf} is stored with shape {array.shape}")
    return array


def _build(like: Any, leaf: _Leaf, array: np.ndarray) -> Any:
    if isinstance(like, np.ndarray):
        return array
    if isinstance(like, np.generic):
        return array[()]
    if leaf.key_impl is not None:
        return jax.random.wrap_key_data(jnp.array(array), impl=leaf.key_impl)
    # A copy: on a CPU JAX may share numpy's memory, and a donated state would write into it.
    return jnp.array(array)


def _member(i: int) -> str:
    return f"{i:05d}.npy"


def _rtrl_version() -> str:
    try:
        return importlib.metadata.version("rtrl")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
