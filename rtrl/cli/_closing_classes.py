"""What a stream of classes leaves behind: the closing table, ``result.json``, ``curve.png``."""

from pathlib import Path
from typing import Any

from rtrl.cli import _report
from rtrl.cli._class_score import ClassScore
from rtrl.cli._learn import WINDOW
from rtrl.cli._picture import Line, draw
from rtrl.cli._setup import Setup, as_dict, label

#: Experts that are a simple method by themselves, and what they are called among the floors.
FLOORS = {"class frequencies": "majority class"}


def close_classes(
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
    name, h, ours = Path(setup.task).name, setup.horizon or 0, label(setup)
    what = f"accuracy of all {rows:,} rows, each predicted {h} rows ahead"
    accuracy, surprise = score.accuracy(), score.cross_entropy()
    weights = score.over.mean_weights()
    floors = {"last class": score.last_class()} if h else {}
    floors |= {FLOORS.get(k, k): accuracy[k] for k in score.names if _is_floor(k)}
    told = [k for k in score.over.told() if not _is_floor(k)]
    notes = {FLOORS.get(k, k): f"floor, {_nats(surprise[k])}" for k in score.names if _is_floor(k)}
    notes |= {k: f"expert, {_nats(surprise[k])}, weight {weights[k]:.0%}" for k in told}
    notes[ours] = _nats(surprise[""])
    console.print()
    _report.print_table(
        console, f"{name}: {what}", "accuracy", {ours: accuracy[""]},
        {**floors, **{k: accuracy[k] for k in told}}, notes,
    )  # fmt: skip
    pace = f", {speed:,.0f} rows/s" if speed == speed else ""
    console.print(f"{new:,} rows learned, {left_out:,} left out{pace}", soft_wrap=True)
    run = {
        "label": ours,
        "setup": as_dict(setup),
        "steps": rows,
        "left_out": left_out,
        "figures": {
            "accuracy": accuracy[""],
            "cross_entropy": surprise[""],
            f"accuracy_last_{WINDOW}": score.recent(),
            "rows_per_second": speed,
        },
        "history": score.history,
        "experts": {
            k: {"accuracy": accuracy[k], "cross_entropy": surprise[k], "weight": weights[k]}
            for k in score.names
        },
    }
    _report.write_result(folder, command, name, what, "accuracy", setup.seed, floors, [run])
    history = [r for r in score.history if r["step"] > h + WINDOW // 5]
    if not history:
        return
    line = Line(
        f"{ours} (all rows)", [r["step"] for r in history], [r["accuracy"] for r in history],
        accuracy[""],
    )  # fmt: skip
    title = f"{name}: right answers as it learns, predicting {h} rows ahead"
    draw(
        folder / "curve.png", title, "accuracy", "row", [line], floors,
        over=f" over the last {WINDOW}", weights=score.over.over_time(),
    )  # fmt: skip


def _is_floor(name: str) -> bool:
    return name in FLOORS or name.startswith("logistic")


def _nats(surprise: float) -> str:
    return f"cross entropy {surprise:.3f}"
