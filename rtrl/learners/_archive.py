"""Arrays in one file: an uncompressed zip, readable by `numpy.load`, that holds no pickle.

``header.json`` has the format, versions, and the path, shape and dtype of every leaf; a member
``.npy`` follows for every leaf, or, in a part of a set, for every piece of a leaf that it has.
"""

import importlib.metadata
import io
import json
import math
import zipfile
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FORMAT = "rtrl-state"
VERSION = 1
_HEADER = "header.json"


class Leaf(NamedTuple):
    """An array of a state, as a file describes it."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    key_impl: str | None = None  # the generator of typed PRNG keys, whose data are stored

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.path or '(the whole state)'} {self.dtype}{list(self.shape)}"


class Piece(NamedTuple):
    """A block of an array: of which leaf, where it begins, and its shape."""

    leaf: int
    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def data_of(leaf: Any) -> Any:
    """What is stored of an array: of PRNG keys their data."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def describe(path: str, leaf: Any) -> Leaf:
    impl = jax.random.key_impl(leaf) if is_key(leaf) else None
    if impl is None:
        storable = leaf.dtype.kind in "biufc" or leaf.dtype.isbuiltin == 2  # 2: such as bfloat16
    else:
        storable = isinstance(impl, str)  # a generator that is registered under a name
    if not storable or isinstance(leaf, jax.ShapeDtypeStruct):
        raise ValueError(f"leaf {path} cannot be saved: {type(leaf).__name__} of {leaf.dtype}")
    return Leaf(path, leaf.shape, leaf.dtype.name, impl and str(impl))


def header(kind: str, leaves: list[Leaf], **more: Any) -> dict[str, Any]:
    described = [leaf._asdict() for leaf in leaves]
    return {
        "format": kind, "version": VERSION, "rtrl": _rtrl_version(), **more, "leaves": described
    }  # fmt: skip


def write(file: BinaryIO, leaves: list[Leaf], pieces: list[tuple[Piece, Any]], **more: Any) -> None:
    """Write pieces of leaves; without ``more`` those are the leaves whole, in their order."""
    if more:
        more["pieces"] = [piece for piece, _ in pieces]
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open(_HEADER, "w") as member:
            member.write(json.dumps(header(FORMAT, leaves, **more), indent=1).encode())
        for i, (_, data) in enumerate(pieces):
            # Told beforehand: the size is not known when a member is opened, and a trace may have
            # more than 4 GB.
            with archive.open(_member(i), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _to_numpy(data), allow_pickle=False)


def read_header(name: str, header: Any, kind: str = FORMAT) -> list[Leaf]:
    if not isinstance(header, dict) or header.get("format") != kind:
        raise ValueError(f"{name} is not an rtrl state: its header does not say {kind!r}")
    version = header.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ValueError(
            f"{name} has format version {version}, written by rtrl {header.get('rtrl')}; "
            f"this rtrl reads versions up to {VERSION}: upgrade rtrl to load it"
        )
    try:
        return [Leaf(**{**leaf, "shape": tuple(leaf["shape"])}) for leaf in header["leaves"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{name} is truncated or damaged: no {error} in its header") from error


class Archive:
    """A file as `write` wrote it, open for reading.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not such a file, or is damaged.
    """

    def __init__(self, name: str):
        self._file = open(name, "rb")  # noqa: SIM115  (closed by `close`)
        try:
            self._zip = zipfile.ZipFile(self._file)
            self.header = json.loads(self._zip.read(_HEADER))
        # A damaged zip fails in many ways, zlib's and struct's among them: all mean the same here.
        except Exception as error:
            self._file.close()
            raise ValueError(
                f"{name} is not an rtrl state, or is truncated or damaged: {error}"
            ) from error

    @property
    def pieces(self) -> list[Piece]:
        """Those of a part of a set."""
        return [Piece(leaf, tuple(start), tuple(shape))
                for leaf, start, shape in self.header["pieces"]]  # fmt: skip

    def read(self, member: int, leaf: Leaf, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """A leaf, or a piece of one of this shape; checked by the sum that the zip has of it."""
        data = self._zip.read(_member(member))
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        # Bits of a type that the .npy format does not know, such as bfloat16: seen as such again.
        if leaf.key_impl is None and array.dtype.name != leaf.dtype:
            array = array.view(leaf.dtype)
        shape = leaf.shape if shape is None else shape
        if shape != array.shape[: len(shape)]:  # key data have one axis more
            raise ValueError(f"{leaf} is stored with shape {array.shape}")
        return array

    def close(self) -> None:
        self._file.close()


def _to_numpy(data: Any) -> np.ndarray:
    array = np.asarray(data)
    if array.dtype.isbuiltin == 2:  # unknown to the .npy format: store the bits
        return array.view(f"u{array.dtype.itemsize}")
    # Native byte order, as the names of dtypes in the header tell of none.
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _member(i: int) -> str:
    return f"{i:05d}.npy"


def _rtrl_version() -> str:
    try:
        return importlib.metadata.version("rtrl")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
