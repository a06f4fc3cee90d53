"""State files of runs: one atomic file with the learner's state and what it takes to build it."""

import contextlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import rtrl
from rtrl.cli._errors import UsageError

STATE = "state.rtrl"


def save(path: Path, about: dict[str, Any], state: Any, arrays: dict[str, np.ndarray]) -> None:
    """Write a state, with JSON about it and arrays beside it."""
    about = {**about, "arrays": {k: [list(a.shape), str(a.dtype)] for k, a in arrays.items()}}
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    rtrl.save(path, {"about": text, "arrays": arrays, "state": state})


def read_about(path: Path, argument: str = "STATE") -> dict[str, Any]:
    """What a state file says about itself, without building anything."""
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read("header.json"))
            if header["leaves"][0]["path"] != "['about']":
                raise KeyError("about")
            with archive.open("00000.npy") as member:
                return json.loads(np.lib.format.read_array(member).tobytes())
    except OSError as error:
        raise UsageError(f"{argument}: can't read {path}: {error.strerror}.") from error
    except Exception as error:
        raise UsageError(
            f"{argument}: {path} is damaged, or is no state of `rtrl train` or `rtrl stream`."
        ) from error


def load(path: Path, about: dict[str, Any], like: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """The state and the arrays; ``like`` is a fresh state."""
    size = len(_text_of(path))
    arrays = {k: np.zeros(shape, kind) for k, (shape, kind) in about["arrays"].items()}
    whole = {"about": np.zeros(size, np.uint8), "arrays": arrays, "state": like}
    try:
        found = rtrl.load(path, like=whole)
    except ValueError as error:
        raise UsageError(f"--resume: {error}") from error
    return found["state"], found["arrays"]


def _text_of(path: Path) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open("00000.npy") as member:
        return np.lib.format.read_array(member)


def folder(out: Path | None, task: str, argument: str = "--out") -> Path:
    """The folder of a run, made if need be."""
    name = "stdin" if task == "-" else Path(task).stem
    path = Path("rtrl_out") / name if out is None else out
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{argument}: can't make the folder {path}: {error.strerror}.") from error
    return path


def keep_previous(path: Path) -> Path | None:
    """Move a state that a new run would overwrite out of the way."""
    if not path.exists():
        return None
    previous = path.with_name("previous-" + path.name)
    with contextlib.suppress(OSError):
        os.replace(path, previous)
        return previous
    return None
