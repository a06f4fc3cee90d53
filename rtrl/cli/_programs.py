"""Compiled programs kept on disk: the second start of a command takes a part of the first."""

import os
from pathlib import Path

import jax


def keep_programs() -> None:
    """Let JAX keep compiled programs in the user's cache folder, unless it is told of another."""
    settled = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if settled is not None or "JAX_ENABLE_COMPILATION_CACHE" in os.environ:
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rtrl"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
