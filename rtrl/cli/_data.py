"""What a run learns from: a stream, batches without end, or a labelled set; and its floors."""

import ast
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from rtrl.cli._errors import UsageError, refuse
from rtrl.cli._names import FILE, find_task, is_file
from rtrl.cli._progress import error_console
from rtrl.cli._table import Reports, naming_options, places, print_columns, refuse_no_target
from rtrl.streams.evaluate import NRMSE
from rtrl.tables import Column, Table, read
from rtrl.tasks import Sequences, Stream, Task, baselines, copying_loss

PROBE = 256  # sequences that are looked at to learn a task's sizes
TOKENS = 256  # of an embedding, where timesteps are tokens


class Data(NamedTuple):
    """A task with the sizes a network needs.

    Attributes:
        task: its name and what its docstring says.
        kind: "stream", "classes" (a stream of them), "sequences" or "labelled".
        content: a `Stream`, a function of a seed giving `Sequences`, or a `Split`.
        in_size: features of a timestep; ``None`` where a timestep is a token.
        out_size: numbers of a prediction.
        loss: of one prediction and target.
        metric: what is reported: "nrmse", "accuracy" or "loss".
        horizon: timesteps from an input to its target (0 but for streams).
        targets: names of what is predicted, for the picture.
        scaled: which inputs of a stream are on a scale of their own already.
        own: where among the inputs the targets' own values are.
        columns: of a file, what the targets were taken for.
    """

    task: Task
    kind: str
    content: Any
    in_size: int | None
    out_size: int
    loss: Callable
    metric: str
    horizon: int = 0
    targets: tuple[str, ...] = ()
    scaled: tuple[bool, ...] = ()
    own: tuple[int, ...] | None = None
    columns: tuple[Column, ...] = ()


def longest(data: Data) -> int:
    """Timesteps of the longest sequence of a task that is no stream."""
    if data.kind == "labelled":
        return int(data.content.train.lengths.max())
    return len(data.content(0, 1).xs)


def squared_error(prediction, target):
    """Half of it, over the targets that are there; NaN, which teaches nothing, if none is."""
    there = jnp.isfinite(target)
    apart = jnp.where(there, prediction - jnp.where(there, target, 0), 0)
    return jnp.where(there.any(), 0.5 * jnp.sum(apart**2), jnp.nan)


def cross_entropy(prediction, target):
    return optax.softmax_cross_entropy_with_integer_labels(prediction, target)


def load(
    name: str,
    *,
    horizon: int | None = None,
    target: list[str] | None = None,
    batch: int | None = None,
    settings: dict[str, Any] | None = None,
) -> Data:
    """Load a task by name, or a file of rows.

    ``settings`` are more keyword arguments of the task's function.
    """
    task, settings = find_task(name), dict(settings or {})
    known = inspect.signature(task.function).parameters
    for key in settings:
        if key not in known or key.startswith("_") or key in ("batch_size", "source", "target"):
            refuse("--set", f"an argument of {task.name} ({_list(known)})", repr(key))
    if horizon is not None and "horizon" not in known:
        raise UsageError(f"--horizon: {task.name} is no stream, so it has none.")
    if target and not is_file(name):
        raise UsageError(f"--target: {task.name} is no file, so it has no columns.")
    if horizon is not None:
        settings["horizon"] = horizon
    try:
        if task.kind == "labelled":
            return _labelled(task, task.function(**settings))
        if task.kind == "sequences":
            return _sequences(task, batch, settings)
        if task is FILE:
            return _file(name, target, settings)
        ahead = settings.get("horizon", known["horizon"].default)
        stream = task.function(**settings)
    except (ValueError, TypeError, OSError, ImportError) as error:
        text = str(error).removeprefix(f"{task.name}: ").replace("data_dir=", "--set data_dir=")
        raise UsageError(f"{name}: {text}") from error
    return _stream(task, stream, ahead, (f"{task.name}",))


def parse_settings(pairs: list[str] | None) -> dict[str, Any]:
    """``["length=64", "by=rows"]`` as keyword arguments."""
    settings = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            refuse("--set", "key=value, such as length=64", repr(pair))
        try:
            settings[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[key] = value
    return settings


def _list(parameters: Any) -> str:
    hidden = ("batch_size", "source", "target", "on_problem", "decided")
    return ", ".join(p for p in parameters if not p.startswith("_") and p not in hidden)


def _stream(task: Task, stream: Stream, horizon: int, targets: tuple[str, ...]) -> Data:
    sizes = stream.xs.shape[1], stream.ys.shape[1]
    return Data(task, "stream", stream, *sizes, squared_error, "nrmse", horizon, targets)


def _file(path: str, target: list[str] | None, settings: dict[str, Any]) -> Data:
    if path == "-":
        raise UsageError("TASK: standard input is for `rtrl stream -`; give a file here.")
    reports = Reports()
    with naming_options(path):
        if not target:
            refuse_no_target(path)
        with read(path, target, on_problem=reports, **settings) as table:
            print_columns(error_console(), table)
            stream = table.arrays()
    reports.close(table)
    return data_of(table, stream)


def data_of(table: Table, stream: Stream) -> Data:
    """A file's rows, or those that are there so far."""
    data = _stream(FILE, stream, table.horizon, tuple(table.targets))
    columns = tuple(table.columns[number] for number in table.plan.targets)
    own = places(table.targets, table.features)
    return data._replace(scaled=tuple(table.scaled.tolist()), own=own, columns=columns)


def _sequences(task: Task, batch: int | None, settings: dict[str, Any]) -> Data:
    settings.pop("rng", None)

    def draw(seed: Any, size: int | None = batch) -> Sequences:
        return task.function(size, rng=np.random.default_rng(seed), **settings)

    probe = draw(0, PROBE)
    if not np.issubdtype(probe.ys.dtype, np.integer):
        sizes = probe.xs.shape[-1], probe.ys.shape[-1]
        return Data(task, "sequences", draw, *sizes, squared_error, "loss")
    if probe.ys.ndim == 3:  # several two-class answers at a timestep
        sizes = probe.xs.shape[-1], 2 * probe.ys.shape[-1]
        return Data(task, "sequences", draw, *sizes, copying_loss, "accuracy")
    classes = int(probe.ys.max()) + 1
    return Data(task, "sequences", draw, probe.xs.shape[-1], classes, cross_entropy, "accuracy")


def _labelled(task: Task, split: Any) -> Data:
    example = split.train.read(0)
    in_size = example.shape[1] if example.ndim == 2 else None
    return Data(task, "labelled", split, in_size, split.train.classes, cross_entropy, "accuracy")


def floors(data: Data, steps: int) -> dict[str, float]:
    """What simple methods reach on the same data, by name: computed for streams, else published.

    For a stream: NRMSE of the second half of the first ``steps`` timesteps.
    """
    if data.kind != "stream":
        found = dict(PUBLISHED.get(data.task.name, {}))
        uniform = {"uniform answer": 1 / data.out_size} if data.metric == "accuracy" else {}
        return found or uniform
    ys = np.asarray(data.content.ys[:steps], np.float64)
    h, half = data.horizon, steps // 2
    found = {"mean of the target": 1.0}
    if h == 0 or half < h:
        return found
    last = np.concatenate([np.full((h, ys.shape[1]), np.nan), ys[:-h]])
    found["last value"] = nrmse(last[half:], ys[half:])
    if ys.shape[1] > 1 or not np.isfinite(ys).all() or steps < 4 * h:
        return found
    try:
        series = data.content.series(h)[: steps + h]
        skip = 0
    except ValueError:  # other inputs: the target's own past
        series, skip = ys[:, 0], h
    for name, method in METHODS.items():
        forecast = method(series, h).astype(np.float64)[half - skip :]
        found[name] = nrmse(forecast[:, None], ys[half:])
    return found


METHODS = {
    "regression on 10 lags (online)": baselines.rls_lags,
    "echo state network (200)": baselines.esn,
}

#: From the docstrings of the tasks, which a test compares.
PUBLISHED: dict[str, dict[str, float]] = {
    "copying": {"without memory": 0.5},
    "adding": {"always 1": 0.167},
    "delayed_match": {"the probe alone": 0.5},
    "parity": {"without memory": 0.5},
    "lag_regression": {"without memory": 0.947, "nothing beats (noise)": 0.09},
    "digits": {
        "largest class": 0.103,
        "logistic regression, last row": 0.507,
        "logistic regression, whole image": 0.969,
        "echo state network (100), by pixels": 0.764,
        "echo state network (100), by rows": 0.938,
    },
    "japanese_vowels": {"largest class": 0.238, "logistic regression, mean and deviation": 0.962},
    "smnist": {"largest class": 0.1135, "linear, whole image": 0.88},
    "psmnist": {"largest class": 0.1135, "linear, whole image": 0.88},
    "scifar": {"chance": 0.1, "paper: truncated": 0.6, "paper: RTRL": 0.796, "paper: BPTT": 0.834},
    "imdb": {"chance": 0.5, "paper: truncated": 0.84, "paper: RTRL": 0.865, "paper: BPTT": 0.877},
    "listops": {
        "largest class": 0.173,
        "root operator alone": 0.371,
        "paper: RTRL": 0.376,
        "paper: BPTT": 0.398,
    },
    "shd": {"chance": 0.05},
}


def nrmse(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Over the timesteps where both are there; NaN where nothing is, or the target is constant."""
    known = np.isfinite(predictions).all(1) & np.isfinite(targets).all(1)
    if not known.any():
        return float("nan")
    metric = NRMSE()
    return metric.value(metric.summary(predictions[known], targets[known]))
