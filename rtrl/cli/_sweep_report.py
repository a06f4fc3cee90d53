"""What a sweep leaves behind: a table with mean and spread, ``result.json`` and ``sweep.png``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rtrl.cli import _report
from rtrl.cli._closing import STEP, WHAT
from rtrl.cli._data import floors
from rtrl.cli._setup import label
from rtrl.cli._sweep_picture import draw
from rtrl.cli._sweep_run import Job, data_of, file_of, length_of

#: What may tell settings apart beside rule, chunk and overlap.
MORE = ("cell", "depth", "hidden", "width", "optimizer", "batch", "horizon", "warmup")


class Outcome(NamedTuple):
    """What a setting reached: the figure and the history of every seed."""

    name: str
    rate: float | None
    figures: np.ndarray
    seconds: float
    histories: list[list[dict[str, Any]]]

    @property
    def mean(self) -> float:
        return float(self.figures.mean())

    @property
    def spread(self) -> float:
        """Standard deviation over seeds, NaN of one."""
        return float(self.figures.std(ddof=1)) if len(self.figures) > 1 else float("nan")


def figure_of(file: Path) -> tuple[float, str]:
    """The figure of a run and what it is; NaN if there is none."""
    run = json.loads(file.read_text())
    value = run["figures"][run["metric"]]
    return (float("nan") if value is None else value), run["metric"]


def rank(value: float, metric: str) -> float:
    """Small is good; what is no number is worst."""
    if value != value:
        return float("inf")
    return -value if metric == "accuracy" else value


def outcome(jobs: list[Job], folder: Path, name: str) -> Outcome:
    runs = [json.loads(file_of(folder, job).read_text()) for job in jobs]
    figures = np.array([figure_of(file_of(folder, job))[0] for job in jobs])
    seconds = float(np.mean([run["seconds"] for run in runs]))
    return Outcome(name, jobs[0].setup.lr, figures, seconds, [run["history"] for run in runs])


def names_of(judged: list[list[Job]]) -> list[str]:
    """Of settings: the rule as it acts, and whatever else differs between them."""
    setups = [asdict(jobs[0].setup) for jobs in judged]
    differ = [key for key in MORE if len({setup[key] for setup in setups}) > 1]
    return [", ".join([label(jobs[0].setup), *(f"{key} {setup[key]}" for key in differ)])
            for jobs, setup in zip(judged, setups, strict=True)]  # fmt: skip


def close_sweep(
    console: Any, command: str, name: str, folder: Path, judged: list[list[Job]]
) -> None:
    """Tell what every setting reached, the best first."""
    first = judged[0][0]
    data = data_of(first.setup)
    found = [outcome(jobs, folder, called)
             for jobs, called in zip(judged, names_of(judged), strict=True)]  # fmt: skip
    found.sort(key=lambda o: rank(o.mean, data.metric))
    one_horizon = len({jobs[0].setup.horizon for jobs in judged}) == 1
    references = floors(data, length_of(first, data)) if one_horizon else {}
    if first.setup.settings and data.kind != "stream":
        references = {f"{k} (defaults)": v for k, v in references.items()}
    what = WHAT[data.kind].format(h=data.horizon if one_horizon else "its horizon of",
                                  metric=data.metric)  # fmt: skip
    title = f"{name}: {what}"
    text = table(title, data.metric, found, references)
    (folder / "table.md").write_text(text)
    _report.write_json(
        folder / "result.json",
        {
            "command": command,
            "task": first.setup.task,
            "what": what,
            "metric": data.metric,
            "versions": _report.versions(),
            "floors": references,
            "settings": [
                {
                    "label": o.name,
                    "rate": o.rate,
                    "figures": o.figures.tolist(),
                    "mean": o.mean,
                    "spread": o.spread,
                    "seconds": o.seconds,
                }
                for o in found
            ],
            "runs": [job.name for jobs in judged for job in jobs],
        },
    )
    draw(folder / "sweep.png", title, data.metric, STEP[data.kind], found, references)
    console.print(text, soft_wrap=True)
    console.print(f"Written: {folder}/table.md, result.json, sweep.png", soft_wrap=True)


def table(title: str, metric: str, found: list[Outcome], references: dict[str, float]) -> str:
    """Markdown, to be read as it is."""
    heads = ["setting", "rate", "seeds", f"mean {_report.metric_name(metric)}", "spread", "lowest",
             "highest", "seconds"]  # fmt: skip
    rows = [
        [o.name, "-" if o.rate is None else f"{o.rate:g}", str(len(o.figures)),
         *(_digits(v) for v in (o.mean, o.spread, o.figures.min(), o.figures.max())),
         f"{o.seconds:.1f}"]
        for o in found
    ]  # fmt: skip
    rows += [[f"{name} (floor)", "", "", _digits(v), "", "", "", ""]
             for name, v in references.items()]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return f"| {first[0]:{first[1]}} | " + " | ".join(f"{c:>{w}}" for c, w in rest) + " |"

    rule = f"|{'-' * (widths[0] + 2)}|" + "|".join("-" * (w + 1) + ":" for w in widths[1:]) + "|"
    return "\n".join([title, "", line(heads), rule, *map(line, rows), "",
                      "Spread: standard deviation over seeds.", ""])  # fmt: skip


def _digits(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"
