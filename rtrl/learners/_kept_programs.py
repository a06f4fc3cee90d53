"""Compiled programs in files: what was traced, lowered and compiled once need not be again."""

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from rtrl.learners._jit import Jitted

MOST = 24  # files; the oldest go
SUFFIX = ".program"
DIGEST = hashlib.sha256().digest_size  # bytes, before what they are the digest of
MADE_WITH = ("jax", "jaxlib", "equinox", "optax", "numpy")


def keep_program(jitted: Jitted, about: str, *arguments: Any) -> None:
    """Let ``jitted`` use the program that a file holds for these arguments, or write that file.

    JAX's own cache saves compiling, which is a third of what a large program takes to begin with:
    it is found by what tracing and lowering give. Here it is found by what they are given. The
    files lie in JAX's folder, and where it has none nothing is kept.

    Args:
        jitted: what is to be called later.
        about: all that the program depends on beside the shapes of arrays, this package's source,
            versions, the machine and JAX's settings.
        arguments: as of that call.
    """
    config: Any = jax.config
    folder = config.jax_compilation_cache_dir
    if not folder or not config.jax_enable_compilation_cache or jax.default_backend() != "cpu":
        return
    arrays = jitted.arrays_of(*arguments)
    shapes = jax.tree.map(lambda a: (a.shape, str(a.dtype)), arrays)
    name = jitted.function.__name__
    key = hashlib.sha256(repr((name, about, shapes, _here(), _asked())).encode()).hexdigest()
    path = Path(folder) / f"{name}-{key[:32]}{SUFFIX}"
    rest, last = arrays
    program = _read(path, rest, last, jitted.donate_last)
    if program is None:
        with _compiling():
            program = jitted.compile(*arguments)
        _write(path, program)
    jitted.use(program, *arguments)


def _read(path: Path, rest: list[Any], last: list[Any], donated: bool) -> Any:
    """The program of a file; None where there is none, or it does not run."""
    try:
        content = _content(path)
        if content is None:
            return None
        program = serialize_executable.deserialize_and_load(*pickle.loads(content))
        jax.block_until_ready(program(rest, [_copied(a) for a in last] if donated else last))
        return program
    except Exception:  # whatever an unfit file gives rise to: it is written anew
        return None


def _content(path: Path) -> bytes | None:
    """What was written to a file, whole; None where anybody else could have written it.

    To unpickle it is to run it, and a damaged program may crash, or give other numbers. What is
    asked and what is read are of one open file, whatever takes its name meanwhile.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        about = os.fstat(file.fileno())
        if os.name == "posix" and (about.st_uid != os.geteuid() or about.st_mode & 0o022):
            return None
        digest, content = file.read(DIGEST), file.read()
    return content if digest == hashlib.sha256(content).digest() else None


def _copied(array: Any) -> Any:
    """What may be used up in its place; keys of random numbers are no array to numpy."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        data = jnp.array(jax.random.key_data(array), copy=True)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    return np.array(array)


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Compile here and now: a program that XLA read from a file can't be written whole again."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # it asks once whether it is to be used
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
        compilation_cache.reset_cache()


def _write(path: Path, program: Any) -> None:
    """Whole or not at all; where it can't be written, the next start takes longer."""
    with contextlib.suppress(OSError, ValueError, NotImplementedError):
        content = pickle.dumps(serialize_executable.serialize(program))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Named as a program: one left by a process that was killed goes with the oldest.
        descriptor, temporary = tempfile.mkstemp(SUFFIX, ".", path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        there = sorted(path.parent.glob("*" + SUFFIX), key=lambda p: p.stat().st_mtime)
        for old in there[:-MOST]:
            old.unlink()


def _asked() -> tuple:
    """Settings that a program may depend on."""
    config: Any = jax.config
    environment = {k: v for k, v in os.environ.items() if k.startswith(("XLA_", "JAX_", "RTRL_"))}
    apart = ("CACHE", "PLATFORM")  # where programs are kept changes none of them
    found = sorted(i for i in environment.items() if not any(part in i[0] for part in apart))
    settings = config.jax_enable_x64, config.jax_debug_nans, config.jax_default_matmul_precision
    return jax.device_count(), *settings, found


@functools.cache
def _here() -> str:
    """This source, the packages and the processor."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for file in sorted({*root.rglob("*.py"), *(root / "kernels").rglob("*.py")}):  # maybe a link
        digest.update(file.read_bytes())
    versions = [metadata.version(name) for name in MADE_WITH]
    digest.update(repr((versions, platform.python_version(), platform.machine())).encode())
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        digest.update(repr(sorted({line for line in lines if line.startswith("flags")})).encode())
    return digest.hexdigest()
