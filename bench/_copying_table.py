"""What `copying_schedule.py` found, beside table 4.1: a table and a picture."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

#: Final training loss, mean of five seeds.
PUBLISHED = {
    "LRU": {"spatial": 0.466, "truncated": 0.262, "RTRL": 0.00844, "BPTT": 7.59e-6},
    "linear": {"spatial": 0.620, "truncated": 0.581, "SnAp-1": 0.582, "BPTT": 1.07e-4},
    "GRU, 1 layer": {"spatial": 0.626, "truncated": 0.620, "SnAp-1": 0.316, "BPTT": 0.261},
    "GRU, 4 layers": {"spatial": 0.655, "truncated": 0.649, "SnAp-1": 0.327, "BPTT": 0.194},
}
RULES = ("spatial", "truncated", "RTRL", "SnAp-1", "RTRL, 16 + 16", "BPTT")


class Line(NamedTuple):
    """Runs of one cell, rule and schedule: losses of all blocks by rate, ``(seeds, blocks)``."""

    cell: str
    rule: str
    schedule: int
    updates: int
    speed: str  # of all networks of the program together
    losses: dict[float, np.ndarray]

    def final(self, rate: float) -> np.ndarray:
        return self.losses[rate][:, -1]

    @property
    def best(self) -> float:
        return min(self.losses, key=lambda rate: self.final(rate).mean())


def lines(results: list[dict]) -> list[Line]:
    """Results by cell, rule and schedule in the order of table 4.1, longest schedules first."""

    def order(key):
        cell, rule, schedule = key
        return list(PUBLISHED).index(cell), -schedule, RULES.index(rule)

    keys = sorted({(r["cell"], r["rule"], r["schedule"]) for r in results}, key=order)
    found = []
    for key in keys:
        runs = [r for r in results if (r["cell"], r["rule"], r["schedule"]) == key]
        losses = {}
        for rate in sorted({r["rate"] for r in runs}):
            rows = [r["loss"] for r in runs if r["rate"] == rate]  # null: no longer finite
            losses[rate] = np.array([[math.inf if x is None else x for x in row] for row in rows])
        first = runs[0]
        speed = f"{first['ms_per_update']:.3g} ({first['members']}, {first['device']})"
        found.append(Line(*key, first["updates"], speed, losses))
    return found


def table(results: list[dict], block: int) -> str:
    text = [
        f"Mean training loss of the last {block} updates: the mean over seeds at the best rate (in "
        "brackets the lowest and the highest), as published, and the means at all rates tried. The "
        "time is of all networks of a program together (in brackets how many, on what).",
        "",
        "| cell | rule | updates | of | seeds | best rate | loss | published | by rate, 1e-3 "
        "| ms an update |",
        "|---|---|---:|---:|---:|---:|---|---:|---|---|",
    ]
    for line in lines(results):
        final = line.final(line.best)
        spread = f" ({final.min():.2g} to {final.max():.2g})" if len(final) > 1 else ""
        published = PUBLISHED[line.cell].get(line.rule)
        by_rate = [f"{1000 * rate:g}: {line.final(rate).mean():.2g}" for rate in line.losses]
        text.append(
            f"| {line.cell} | {line.rule} | {line.updates:,} | {line.schedule:,} | {len(final)} "
            f"| {line.best:g} | {final.mean():.3g}{spread} "
            f"| {'-' if published is None else f'{published:.3g}'} | {', '.join(by_rate)} "
            f"| {line.speed} |"
        )
    return "\n".join(text)


def draw(results: list[dict], block: int, path: Path) -> None:
    """Networks of LRUs under the whole schedule: a line a rule, its seeds shaded."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    of_lrus = [line for line in lines(results) if line.cell == "LRU"]
    longest = max(line.schedule for line in of_lrus)
    for line in of_lrus:
        if line.schedule < longest:
            continue
        colour, losses = f"C{RULES.index(line.rule)}", line.losses[line.best]
        updates = block * (0.5 + np.arange(losses.shape[1]))
        axes.plot(updates, np.exp(np.log(losses).mean(0)), color=colour, lw=2, label=line.rule)
        axes.fill_between(updates, losses.min(0), losses.max(0), color=colour, alpha=0.2, lw=0)
        published = PUBLISHED["LRU"].get(line.rule)
        if published is not None:
            axes.plot(longest, published, "o", color=colour, ms=7, clip_on=False)
    axes.axhline(np.log(2), color="0.5", ls=":")
    axes.set(yscale="log", xlim=(0, longest), xlabel="update")
    axes.set_ylabel("training loss (dots: published; dotted line: chance)")
    axes.set_title("Table 4.1: LRUs, each rule at its best rate")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
