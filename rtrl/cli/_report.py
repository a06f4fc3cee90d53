"""What a run leaves behind: a closing table, ``result.json``, ``curve.png``, TensorBoard."""

import importlib
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from rtrl.cli._errors import UsageError

PACKAGES = ("rtrl", "jax", "jaxlib", "equinox", "optax", "numpy")
BETTER = {"nrmse": "lower is better", "loss": "lower is better", "accuracy": "higher is better"}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Written whole or not at all; NaN becomes null."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(_plain(result), indent=1, allow_nan=False) + "\n")
    os.replace(temporary, path)


def write_result(
    folder: Path,
    command: str,
    task: str,
    what: str,
    metric: str,
    seed: int | None,
    floors: dict[str, float],
    runs: list[dict[str, Any]],
) -> None:
    """``result.json``: the command, the versions, the seed and the figures."""
    result = {
        "command": command,
        "task": task,
        "what": what,
        "metric": metric,
        "versions": versions(),
        "seed": seed,
        "floors": floors,
        "runs": runs,
    }
    write_json(folder / "result.json", result)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value


def print_table(
    console: Any,
    title: str,
    metric: str,
    results: dict[str, float],
    floors: dict[str, float],
    notes: dict[str, str],
) -> None:
    """Results in bold among the floors, the best first."""
    from rich.table import Table

    console.print(title, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("method", no_wrap=True)
    table.add_column(metric_name(metric), justify="right")
    table.add_column("", no_wrap=False)
    rows = [(value, name, True) for name, value in results.items()]
    rows += [(value, name, False) for name, value in floors.items()]
    sign = -1 if metric == "accuracy" else 1
    rows.sort(key=lambda row: (row[0] != row[0], sign * row[0]))
    for value, name, ours in rows:
        figure = "-" if value != value else f"{value:.3f}"
        note = notes.get(name, "" if ours else "floor")
        table.add_row(name, figure, note, style="bold" if ours else None)
    console.print(table)


def metric_name(metric: str) -> str:
    return {"nrmse": "NRMSE", "accuracy": "accuracy", "loss": "loss"}[metric]


class Scalars:
    """Scalars for TensorBoard; nothing without ``--tensorboard``."""

    def __init__(self, folder: Path | None):
        self._writer = None if folder is None else _writer(str(folder))

    def add(self, values: dict[str, float], step: int) -> None:
        if self._writer is not None:
            for name, value in values.items():
                if name != "step" and value == value:
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _writer(folder: str) -> Any:
    for module, name in (("tensorboardX", "SummaryWriter"), ("tensorboard.summary", "Writer")):
        try:
            return getattr(importlib.import_module(module), name)(folder)
        except (ImportError, AttributeError):
            continue
    raise UsageError(
        "--tensorboard: TensorBoard is not installed: pip install tensorboardX tensorboard"
    )


def note(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)
