"""Compiled programs in files: what was traced, lowered and compiled once need not be again."""

import contextlib
import functools
import hashlib
import os
import pickle
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from rtrl.learners._jit import Jitted

MOST = 24  # files; the oldest go
SUFFIX = ".program"
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
    program = _read(path, rest, jax.tree.map(np.array, last) if jitted.donate_last else last)
    if program is None:
        with _compiling():
            program = jitted.lower(*arguments).compile()
        _write(path, program)
    jitted.use(program, *arguments)


def _read(path: Path, *arrays: list[Any]) -> Any:
    """The program of a file; None where there is none, or it does not run."""
    try:
        if not _ours(path):  # to read it is to run it
            return None
        program = serialize_executable.deserialize_and_load(*pickle.loads(path.read_bytes()))
        jax.block_until_ready(program(*arrays))
        return program
    except Exception:  # whatever a damaged file gives rise to: it is written anew
        return None


def _ours(path: Path) -> bool:
    """Whether nobody else could have written a file."""
    if os.name != "posix":
        return True
    about = path.stat()
    return about.st_uid == os.geteuid() and not about.st_mode & 0o022


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError, ValueError, NotImplementedError):
        content = pickle.dumps(serialize_executable.serialize(program))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.chmod(0o600)
        os.replace(temporary, path)
        there = sorted(path.parent.glob("*" + SUFFIX), key=lambda p: p.stat().st_mtime)
        for old in there[:-MOST]:
            old.unlink()


def _asked() -> tuple:
    """Settings that a program may depend on."""
    config: Any = jax.config
    environment = {k: v for k, v in os.environ.items() if k.startswith(("XLA_", "JAX_"))}
    apart = ("CACHE", "PLATFORM")  # where programs are kept changes none of them
    found = sorted(i for i in environment.items() if not any(part in i[0] for part in apart))
    return config.jax_enable_x64, config.jax_debug_nans, config.jax_default_matmul_precision, found


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
