"""Compiled programs kept on disk: the second start of a command takes a part of the first."""

import os
from pathlib import Path


def keep_programs() -> None:
    """Let JAX keep compiled programs in the user's cache folder, unless it is told of another.

    By the environment, which JAX reads when it is imported: help is told without it.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rtrl"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
