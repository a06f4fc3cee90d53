"""What a run on classes leaves behind: the closing table, ``result.json``, ``curve.png``."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rtrl.cli import _report
from rtrl.cli._class_score import ClassScore, last_class
from rtrl.cli._data import Data
from rtrl.cli._experts import WeightsOverTime
from rtrl.cli._learn import WINDOW, Done, class_names
from rtrl.cli._picture import Line, draw
from rtrl.cli._setup import Setup, as_dict, label

#: Experts that are a simple method by themselves, and what they are called among the floors.
FLOORS = {"class frequencies": "majority class"}


class Told(NamedTuple):
    """How well classes were told.

    Attributes:
        accuracy, cross_entropy: of the classifier (``""``) and every expert.
        last_class: accuracy of the last class known.
        over: the experts' weights.
        history: accuracy along the way.
        shown: the first step of it that means something.
    """

    accuracy: dict[str, float]
    cross_entropy: dict[str, float]
    last_class: float
    over: WeightsOverTime
    history: list[dict[str, float]]
    shown: int


def close_class_stream(
    console: Any,
    command: str,
    setup: Setup,
    score: ClassScore,
    folder: Path,
    *,
    rows: int,
    new: int,
    left_out: int,
    speed: float,
) -> None:
    """Report on a stream of ``rows``, ``new`` of them since it was resumed."""
    h = setup.horizon or 0
    told = Told(
        score.accuracy(), score.cross_entropy(), score.last_class(), score.over, score.history,
        h + WINDOW // 5,
    )  # fmt: skip
    what = f"accuracy of all {rows:,} rows, each predicted {h} rows ahead"
    figures = {f"accuracy_last_{WINDOW}": score.recent(), "rows_per_second": speed}
    more = {"steps": rows, "left_out": left_out}
    floors = _close(console, command, setup, told, folder, what, "", figures, more)
    pace = f", {speed:,.0f} rows/s" if speed == speed else ""
    console.print(f"{new:,} rows learned, {left_out:,} left out{pace}", soft_wrap=True)
    _draw(folder, setup, told, floors, "")


def close_class_run(console: Any, command: str, data: Data, done: Done, folder: Path) -> None:
    """Report on ``rtrl train``: figures are those of the second half."""
    setup, run = done.setup, done.run
    names, half = ("", *class_names(setup, data)), run.done // 2
    over = WeightsOverTime(names[1:])
    arrays = run.arrays
    right, surprise = arrays.get("right", NONE), arrays.get("surprise", NONE)
    each = [dict(zip(names, _means(a[half:], len(names)), strict=True)) for a in (right, surprise)]
    classes = data.content.ys[: run.done, 0]
    last = _means(last_class(classes, data.horizon)[half:, None], 1)[0]
    told = Told(
        each[0], each[1], last, over.restore(arrays) if arrays else over, run.history,
        data.horizon + WINDOW // 5,
    )  # fmt: skip
    what = f"accuracy of the second half, each class revealed {data.horizon} rows late"
    speed = done.figures["steps_per_second"]
    more = {"steps": run.done, "finished": done.finished}
    note = f"{speed:,.0f} rows/s" if speed == speed else ""
    floors = _close(
        console, command, setup, told, folder, what, note, {"steps_per_second": speed}, more
    )
    if run.done:
        _draw(folder, setup, told, floors, "; numbers: shaded half", (half, run.done))
    console.print(f"Written: {folder}/curve.png, result.json", soft_wrap=True)


NONE = np.zeros((0, 0))


def _means(values: np.ndarray, size: int) -> list[float]:
    """Of every column, over the rows where the first is known."""
    known = values[np.isfinite(values[:, :1]).all(1)]
    return known.mean(0).tolist() if len(known) else [float("nan")] * size


def _close(
    console: Any,
    command: str,
    setup: Setup,
    told: Told,
    folder: Path,
    what: str,
    note: str,
    figures: dict[str, float],
    more: dict[str, Any],
) -> dict[str, float]:
    """Print the table and write ``result.json``; give the floors."""
    name, ours = Path(setup.task).name, label(setup)
    accuracy, surprise, weights = told.accuracy, told.cross_entropy, told.over.mean_weights()
    floors = {"last class": told.last_class} if setup.horizon else {}
    simple = [k for k in told.over.names if _is_floor(k)]
    floors |= {FLOORS.get(k, k): accuracy[k] for k in simple}
    asked = [k for k in told.over.told() if not _is_floor(k)]
    notes = {FLOORS.get(k, k): f"floor, {_nats(surprise[k])}" for k in simple}
    notes |= {k: f"expert, {_nats(surprise[k])}, weight {weights[k]:.0%}" for k in asked}
    notes[ours] = ", ".join(part for part in (_nats(surprise[""]), note) if part)
    console.print()
    _report.print_table(
        console, f"{name}: {what}", "accuracy", {ours: accuracy[""]},
        {**floors, **{k: accuracy[k] for k in asked}}, notes,
    )  # fmt: skip
    run = {
        "label": ours,
        "setup": as_dict(setup),
        **more,
        "figures": {"accuracy": accuracy[""], "cross_entropy": surprise[""], **figures},
        "history": told.history,
        "experts": {
            k: {"accuracy": accuracy[k], "cross_entropy": surprise[k], "weight": weights[k]}
            for k in told.over.names
        },
    }
    _report.write_result(folder, command, name, what, "accuracy", setup.seed, floors, [run])
    return floors


def _draw(
    folder: Path,
    setup: Setup,
    told: Told,
    floors: dict[str, float],
    more: str,
    scored: tuple[float, float] | None = None,
) -> None:
    history = [r for r in told.history if r["step"] > told.shown]
    if not history:
        return
    ours = label(setup)
    line = Line(
        ours if scored else f"{ours} (all rows)", [r["step"] for r in history],
        [r["accuracy"] for r in history], told.accuracy[""],
    )  # fmt: skip
    name = Path(setup.task).name
    title = f"{name}: right answers as it learns, predicting {setup.horizon} rows ahead{more}"
    draw(
        folder / "curve.png", title, "accuracy", "row", [line], floors, scored=scored,
        over=f" over the last {WINDOW}", weights=told.over.over_time(),
    )  # fmt: skip


def _is_floor(name: str) -> bool:
    return name in FLOORS or name.startswith("logistic")


def _nats(surprise: float) -> str:
    return f"cross entropy {surprise:.3f}"
