"""Saving and loading a learner's whole state: written atomically, resumed bit by bit.

One file (`_archive`); of a state that several processes hold a part each and a manifest (`_parts`).
"""

import contextlib
import itertools
import os
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rtrl.learners import _archive, _parts
from rtrl.learners._archive import Leaf
from rtrl.learners._replace_file import replacing
from rtrl.learners._state import require_there

_NEEDS_X64 = ("float64", "int64", "uint64", "complex128")
_T = TypeVar("_T")


def save(path: str | os.PathLike[str], state: Any) -> None:
    """Writes every array of a state, atomically.

    At any moment, also after a crash or a power cut, `path` holds either the previous state or the
    new one, whole. Array leaves (JAX and numpy arrays of any numeric dtype, typed PRNG keys) are
    stored bit by bit. Other leaves (Python numbers, strings, functions) and static fields are
    configuration: they are not stored, and `load` takes them from its ``like``.

    A state that one process holds is one file, on however many devices. One that several processes
    hold (`rtrl.shard`) all of them must save together, to a folder that all of them see: every
    process writes a file of its own beside `path`, what its devices have, and `path` becomes a
    manifest that names them. If one can't, none has.

    Args:
        path: the file to write, exactly as named (no suffix is added). An existing one is replaced.
        state: any pytree, such as the state of an `OnlineLearner`.

    Raises:
        ValueError: a leaf is an array that cannot be stored (of objects, say), or a call with
            donate=True has used up the state.
        OSError: a file cannot be written. The previous state is untouched, as with any error.
    """
    require_there(state)
    name = os.fspath(path)
    leaves = [(key, leaf) for key, leaf in _flatten(state)[0] if _is_array(leaf)]
    described = [_archive.describe(key, leaf) for key, leaf in leaves]
    if _parts.spread_over_processes([leaf for _, leaf in leaves]):
        return _parts.save_parts(name, leaves)
    pieces: Any = [(None, _archive.data_of(leaf)) for _, leaf in leaves]
    with replacing(name) as file:
        _archive.write(file, described, pieces)
    with contextlib.suppress(OSError):  # the file is in place, whole, whatever fails here
        _parts.remove_parts(name, None)


def load(path: str | os.PathLike[str], like: _T) -> _T:
    """Reads a state written by `save`, onto the devices that `like` is on.

    Everything that is needed is read and checked before anything is built.

    Args:
        path: the file to read.
        like: a pytree of the same structure, for example a freshly initialised state. Its arrays
            (or `jax.ShapeDtypeStruct`s) say which shapes and dtypes to expect; all its other
            leaves and its static fields appear in the result as they are. Where its arrays are
            spread over devices (`rtrl.shard`), so are those of the result, whatever number of
            devices and processes saved them.

    Returns:
        `like` with the stored values, bit by bit: numpy arrays where `like` has numpy arrays, and
        otherwise JAX arrays, on the default device unless `like` has them spread, with exactly the
        stored dtype and no weak type.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a state, is truncated or damaged, was written in a newer format,
            does not fit `like` (the first differing leaf is named), or holds 64-bit numbers while
            JAX's 64-bit mode is off.
    """
    name = os.fspath(path)
    leaves, structure = _flatten(like)
    wanted = [leaf for _, leaf in leaves if _is_array(leaf)]
    manifest = _parts.read_manifest(name)
    if manifest is None:
        found, arrays = _read_file(name, leaves, wanted)
    else:
        found, arrays = _read_set(name, manifest, leaves, wanted)
    # Nothing is built before every array has been read: a damaged file changes nothing.
    values = (_build(*part) for part in zip(wanted, found, arrays, strict=True))
    return jax.tree_util.tree_unflatten(
        structure, [next(values) if _is_array(leaf) else leaf for _, leaf in leaves]
    )


def _read_file(name, leaves, wanted):
    archive = _archive.Archive(name)
    with contextlib.closing(archive):
        found = _archive.read_header(name, archive.header)
        _check_fit(name, leaves, found)
        try:
            whole = [archive.read(i, leaf) for i, leaf in enumerate(found)]
        except Exception as error:
            raise ValueError(f"{name} is truncated or damaged: {error}") from error
    pairs = zip(wanted, whole, strict=True)
    return found, [_regions(like, lambda index, a=a: np.asarray(a[index])) for like, a in pairs]


def _read_set(name, manifest, leaves, wanted):
    found = _archive.read_header(name, manifest, _parts.MANIFEST)
    _check_fit(name, leaves, found)
    try:
        parts = _parts.Parts(name, manifest, found)
        with contextlib.closing(parts):
            arrays = [
                _regions(like, lambda index, i=i: parts.region(i, index))
                for i, like in enumerate(wanted)
            ]
    except Exception as error:
        raise ValueError(f"a part of {name} is missing, truncated or damaged: {error}") from error
    return found, arrays


def _regions(like: Any, read: Any) -> Any:
    """What this process needs of an array: all of it, or a dict of regions by where they begin."""
    sharding = _spread(like)
    if sharding is None:
        return read((slice(None),) * len(like.shape))
    regions = {}
    for index in sharding.addressable_devices_indices_map(like.shape).values():
        key = _key(index, like.shape)
        if key not in regions:
            regions[key] = read(index)
    return regions


def _key(index, shape) -> tuple:
    return tuple(s.indices(n)[:2] for s, n in zip(index, shape, strict=True))


def _spread(like: Any) -> Any:
    """The sharding of an array over several devices; keys are the same on all of them."""
    if isinstance(like, np.ndarray | np.generic) or _archive.is_key(like):
        return None
    sharding = getattr(like, "sharding", None)
    return sharding if sharding is not None and len(sharding.device_set) > 1 else None


def _flatten(tree: Any) -> tuple[list[tuple[str, Any]], Any]:
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves], structure


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def _check_fit(name: str, leaves: list[tuple[str, Any]], found: list[Leaf]) -> None:
    expected = [(path, leaf) for path, leaf in leaves if _is_array(leaf)]
    # To the longer of the two: leaves too many are as wrong as leaves too few.
    for wanted, have in itertools.zip_longest(expected, found):
        path, like = wanted or ("", None)
        want = None if like is None else Leaf(path, tuple(like.shape), like.dtype.name)
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


def _build(like: Any, leaf: Leaf, array: Any) -> Any:
    if isinstance(like, np.ndarray):
        return array
    if isinstance(like, np.generic):
        return array[()]
    if leaf.key_impl is not None:
        return _key_like(like, leaf, array)
    sharding = _spread(like)
    if sharding is None:
        # A copy: on a CPU JAX may share numpy's memory, and a donated state would write into it.
        return jnp.array(array)
    return jax.make_array_from_callback(
        leaf.shape, sharding, lambda index: jnp.array(array[_key(index, leaf.shape)])
    )


def _key_like(like: Any, leaf: Leaf, data: np.ndarray) -> jax.Array:
    sharding = getattr(like, "sharding", None)
    if sharding is None or len(sharding.device_set) == 1:
        return jax.random.wrap_key_data(jnp.array(data), impl=leaf.key_impl)
    everywhere = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    placed = jax.make_array_from_callback(data.shape, everywhere, lambda index: data[index])
    return jax.jit(lambda d: jax.random.wrap_key_data(d, impl=leaf.key_impl))(placed)
