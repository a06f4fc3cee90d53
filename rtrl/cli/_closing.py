"""What a run leaves behind: the closing table, ``result.json`` and ``curve.png``."""

from pathlib import Path
from typing import Any

import numpy as np

from rtrl.cli import _report
from rtrl.cli._data import Data, floors
from rtrl.cli._experts import ExpertScore
from rtrl.cli._learn import RECENT, WINDOW, Done, Run, expert_score
from rtrl.cli._picture import SHOWN, Line, draw
from rtrl.cli._score import Score
from rtrl.cli._setup import FORECASTER, Setup, as_dict, build_forecaster, label

UNIT = {"stream": "timesteps", "classes": "rows", "sequences": "batches", "labelled": "batches"}
STEP = {"stream": "timestep", "sequences": "batch", "labelled": "epoch"}
WHAT = {
    "stream": "NRMSE of the second half, every target revealed {h} timesteps late",
    "sequences": f"{{metric}}, mean over the last {2 * RECENT} batches of fresh sequences",
    "labelled": "accuracy on the held-out part, logits averaged over time",
}


def close_runs(
    console: Any, command: str, data: Data, done: "list[Done]", folder: Path, name: str
) -> None:
    """Report on runs of the same data."""
    steps = min(d.run.done for d in done)
    references = floors(data, steps)
    if done[0].setup.settings and data.kind != "stream":
        references = {f"{k} (defaults)": v for k, v in references.items()}
    named = {label(d.setup): d for d in done}
    experts = _experts_of(data, done[0])
    told, notes = _expert_rows(experts, references)
    what = WHAT[data.kind].format(h=data.horizon, metric=data.metric)
    title, streaming = f"{name}: {what}", data.kind == "stream"
    console.print()
    _report.print_table(
        console, title, data.metric,
        {k: d.figures[data.metric] for k, d in named.items()}, {**references, **told},
        {**{k: _speed(d, UNIT[data.kind]) for k, d in named.items()}, **notes},
    )  # fmt: skip
    if data.task.floors and not streaming:
        console.print(f"Floors in the words of the task: {data.task.floors}", soft_wrap=True)
    runs = [
        {
            "label": k,
            "setup": as_dict(d.setup),
            "steps": d.run.done,
            "finished": d.finished,
            "figures": d.figures,
            "history": d.run.history,
            **_expert_figures(experts),
        }
        for k, d in named.items()
    ]
    seed = done[0].setup.seed
    _report.write_result(folder, command, name, what, data.metric, seed, references, runs)
    best = min(done, key=lambda d: _rank(d.figures[data.metric], data.metric))
    late = f"{name}: error as it learns, predicting {data.horizon} ahead; numbers: shaded half"
    draw(
        folder / "curve.png", late if streaming else title, data.metric, STEP[data.kind],
        [curve(data, d, k) for k, d in named.items()], references,
        _forecast(data, best) if streaming and best.run.done else None,
        over=f" over the last {WINDOW}" if streaming else "",
        scored=(steps // 2, steps) if streaming else None,
        weights=experts and experts.over.over_time(),
    )  # fmt: skip
    console.print(f"Written: {folder}/curve.png, result.json", soft_wrap=True)


def close_stream(
    console: Any,
    command: str,
    setup: Setup,
    score: Score,
    folder: Path,
    *,
    rows: int,
    new: int,
    left_out: int,
    speed: float,
    targets: list[str],
    experts: ExpertScore | None = None,
) -> None:
    """Report on a stream of ``rows``, ``new`` of them since it was resumed."""
    name, h = Path(setup.task).name, setup.horizon or 0
    what = f"NRMSE of all {rows:,} rows, each predicted {h} rows ahead"
    references = {"mean of the target": 1.0}
    if h:
        references["last value"] = score.last_value()
    told, notes = _expert_rows(experts, references)
    ours, recent = label(setup), score.recent()
    console.print()
    _report.print_table(
        console, f"{name}: {what}", "nrmse", {ours: score.overall()}, {**references, **told},
        {ours: f"last {WINDOW}: {recent:.3f}" if recent == recent else "", **notes},
    )  # fmt: skip
    pace = f", {speed:,.0f} rows/s" if speed == speed else ""
    console.print(f"{new:,} rows learned, {left_out:,} left out{pace}", soft_wrap=True)
    figures = {"nrmse": score.overall(), f"nrmse_last_{WINDOW}": recent, "rows_per_second": speed}
    run = {
        "label": ours,
        "setup": as_dict(setup),
        "steps": rows,
        "left_out": left_out,
        "figures": figures,
        "history": score.history,
        **_expert_figures(experts),
    }
    _report.write_result(folder, command, name, what, "nrmse", setup.seed, references, [run])
    pairs = score.pairs()[-SHOWN:]
    history = _settled(score.history, h)
    if not (history and len(pairs)):
        return
    line = Line(
        f"{ours} (all rows)", [r["step"] for r in history], [r["nrmse"] for r in history],
        score.overall(),
    )  # fmt: skip
    draw(
        folder / "curve.png", f"{name}: error as it learns, predicting {h} rows ahead", "nrmse",
        "row", [line], references,
        (np.arange(rows - len(pairs), rows) + 1, pairs[:, 1, 0], pairs[:, 0, 0], targets[0],
         ours),
        over=f" over the last {WINDOW}", weights=experts and experts.over.over_time(),
    )  # fmt: skip


def _experts_of(data: Data, done: Done) -> ExpertScore | None:
    """How the experts of a run did, if it was one of a forecaster that has begun."""
    if done.setup.learner != FORECASTER or not done.run.arrays:
        return None
    forecaster = build_forecaster(done.setup, data.in_size or 0, data.out_size, data.own)
    return expert_score(forecaster.names, data, done.run.done).restore(done.run.arrays)


def _expert_rows(
    experts: ExpertScore | None, floors: dict[str, float]
) -> tuple[dict[str, float], dict[str, str]]:
    """Figures and weights of the experts that counted most, for the table."""
    if experts is None:
        return {}, {}
    figures, weights = experts.nrmse(), experts.over.mean_weights()
    notes = {name: f"expert, weight {weights[name]:.0%}" for name in experts.over.told()}
    notes = {k: "floor, " + v if k in floors else v for k, v in notes.items()}
    return {name: figures[name] for name in notes if name not in floors}, notes


def _expert_figures(experts: ExpertScore | None) -> dict[str, Any]:
    """All experts, for ``result.json``."""
    if experts is None:
        return {}
    figures, weights = experts.nrmse(), experts.over.mean_weights()
    return {"experts": {k: {"nrmse": v, "weight": weights[k]} for k, v in figures.items()}}


def _speed(done: Done, unit: str) -> str:
    speed = done.figures["steps_per_second"]
    return f"{speed:,.0f} {unit}/s" if speed == speed else ""


def _rank(value: float, metric: str) -> float:
    return float("inf") if value != value else -value if metric == "accuracy" else value


def _settled(history: list[dict[str, float]], horizon: int) -> list[dict[str, float]]:
    """Without the beginning, where there are too few errors to average, or no scale yet."""
    return [r for r in history if r["step"] > horizon + WINDOW // 5]


def curve(data: Data, done: Done, name: str) -> Line:
    """The figure of a run over its steps, smoothed where it is noisy."""
    rows, metric = done.run.history, data.metric
    final = done.figures[metric]
    if data.kind == "labelled":
        return Line(name, [r["epoch"] for r in rows], [r["accuracy"] for r in rows], final)
    if data.kind == "stream":
        rows = _settled(rows, data.horizon)
        return Line(name, [r["step"] for r in rows], [r["nrmse"] for r in rows], final)
    values = np.array([r[metric] for r in rows]) * (2 if metric == "loss" else 1)
    span = max(1, min(RECENT // 2, len(values) // 10))
    smooth = np.convolve(values, np.ones(span) / span, "valid") if len(values) else values
    return Line(name, np.arange(span, span + len(smooth)), smooth, final)


def _forecast(data: Data, done: Done) -> tuple[np.ndarray, np.ndarray, np.ndarray, str, str]:
    """The last timesteps of a stream: when, truth, prediction, and the names of both."""
    run: Run = done.run
    last = slice(max(0, run.done - SHOWN), run.done)
    when = np.arange(run.done)[last] + data.horizon
    truth = np.asarray(data.content.ys[:, 0], np.float64)[last]
    return when, truth, run.arrays["predictions"][last, 0], data.targets[0], label(done.setup)
