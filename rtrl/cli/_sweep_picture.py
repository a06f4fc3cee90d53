"""``sweep.png``: how every setting learned, and where its seeds ended."""

from pathlib import Path
from typing import Any

import numpy as np

from rtrl.cli._picture import COLOURS, GREYS, STYLES, log_axis
from rtrl.cli._report import BETTER, metric_name


def draw(
    path: Path, title: str, metric: str, step_name: str, found: list, floors: dict[str, float]
) -> None:
    """Draw the mean over seeds along the run with the range of the seeds, and every seed's figure.

    Args:
        found: outcomes, the best first.
        floors: as lines where the figures are.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, max(5.0, 0.4 * len(found) + 2)), layout="constrained")
    axes: Any = figure.subplots(1, 2)
    for place, one in enumerate(found):
        colour = COLOURS[place % len(COLOURS)]
        steps, values = curves(one.histories, metric)
        if values.size:
            axes[0].plot(steps, values.mean(0), color=colour, lw=1.8)
            axes[0].fill_between(
                steps, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0
            )
        axes[1].scatter(one.figures, np.full(len(one.figures), place), color=colour, s=22, zorder=3)
        axes[1].plot([one.mean] * 2, [place - 0.3, place + 0.3], color=colour, lw=2)
    for number, (name, value) in enumerate(floors.items()):
        if np.isfinite(value):
            axes[1].axvline(value, color=GREYS[number % 4], ls=STYLES[number % 6], lw=1.2,
                            label=f"{value:.3f}  {name}")  # fmt: skip
    names = [f"{one.name}{'' if one.rate is None else f', rate {one.rate:g}'}" for one in found]
    axes[1].set_yticks(range(len(found)), names)
    axes[1].invert_yaxis()
    axes[1].set_xlabel(f"{metric_name(metric)} of every seed and their mean, {BETTER[metric]}")
    axes[0].set_xlabel(step_name)
    axes[0].set_ylabel(f"{metric_name(metric)}, mean and range of the seeds")
    figure.suptitle(title, x=0.01, ha="left", size=13)
    low, high = axes[0].get_ylim()
    lowest = min((line.get_ydata().min() for line in axes[0].lines), default=0)
    if metric != "accuracy" and lowest > 0 and high / lowest > 8:
        log_axis(axes[0])
        axes[0].set_ylim(max(low, lowest / 1.3), high)
    if floors:
        axes[1].legend(frameon=False, fontsize=9, loc="upper center",
                       bbox_to_anchor=(0.3, -0.12), ncols=2)  # fmt: skip
    for one in axes:
        one.grid(axis="y" if one is axes[0] else "x", color="0.92")
        one.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)


def curves(histories: list[list[dict[str, Any]]], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps that all seeds have a figure of, and the figures, ``(seeds, steps)``."""
    known = [{row["step"]: row[metric] for row in history if row[metric] is not None}
             for history in histories]  # fmt: skip
    steps = sorted(set.intersection(*map(set, known)))
    return np.array(steps), np.array([[seed[step] for step in steps] for seed in known])
