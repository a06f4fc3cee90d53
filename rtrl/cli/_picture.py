"""``curve.png``: what a run did, to be read without the table."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rtrl.cli._report import BETTER, metric_name

SHOWN = 200  # timesteps of a stream that are drawn beside their predictions
COLOURS = ("C3", "C0", "C2", "C1", "C4", "C5", "C6", "C8", "C9", "C7")
STYLES = (":", "--", "-.", (0, (8, 2)), (0, (2, 2)), (0, (3, 1, 1, 1, 1, 1)))
GREYS = ("0.3", "0.5", "0.3", "0.5")


class Line:
    """A curve of a figure over the run, and the number that stands for it in the legend."""

    def __init__(self, name: str, steps: ArrayLike, values: ArrayLike, final: float):
        self.name, self.final = name, final
        self.steps, self.values = np.asarray(steps, float), np.asarray(values, float)


def draw(
    path: Path,
    title: str,
    metric: str,
    step_name: str,
    lines: list[Line],
    floors: dict[str, float],
    forecast: tuple[np.ndarray, np.ndarray, np.ndarray, str, str] | None = None,
    *,
    over: str = "",
    scored: tuple[float, float] | None = None,
    weights: tuple[np.ndarray, dict[str, np.ndarray]] | None = None,
) -> None:
    """Draw the curves with the floors as horizontal lines.

    Args:
        forecast: timesteps, truth, prediction, the name of what is predicted and of what
            predicts, for a second panel; streams have it.
        over: what a point of a curve is taken over, for the axis.
        scored: the timesteps that the numbers are taken over, to be shaded.
        weights: of experts, at some timesteps, for a last panel.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = 1 + (forecast is not None) + (weights is not None)
    figure = Figure(figsize=(11, 5.2 * panels), layout="constrained")
    axes: Any = figure.subplots(panels, 1, squeeze=False)[:, 0]
    _draw_curves(axes[0], title, metric, lines, floors)
    axes[0].set_xlabel(step_name)
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel(f"{metric_name(metric)}{over}, {BETTER[metric]}")
    if scored is not None:
        axes[0].axvspan(*scored, color="0.95", zorder=0)
    if forecast is not None:
        _draw_forecast(axes[1], *forecast)
    if weights is not None:
        _draw_weights(axes[-1], step_name, *weights)
    for one in axes:
        one.tick_params(labelsize=12)
        one.xaxis.label.set_size(13)
        one.yaxis.label.set_size(13)
        one.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)


def _draw_curves(
    axes: Any, title: str, metric: str, lines: list[Line], floors: dict[str, float]
) -> None:
    entries = []
    for colour, line in zip(COLOURS * (1 + len(lines) // len(COLOURS)), lines, strict=False):
        known = np.isfinite(line.values)
        marker = "o" if known.sum() <= 30 else None
        (drawn,) = axes.plot(
            line.steps[known], line.values[known], color=colour, lw=2, marker=marker, ms=4
        )
        entries.append((line.final, drawn, line.name))
    for number, (name, value) in enumerate(floors.items()):
        if np.isfinite(value):
            style, grey = STYLES[number % len(STYLES)], GREYS[number % len(GREYS)]
            entries.append((value, axes.axhline(value, color=grey, ls=style, lw=1.8), name))
    axes.set_title(title, size=14, loc="left")
    values = np.concatenate([line.values[np.isfinite(line.values)] for line in lines])
    shown = np.array([v for v in floors.values() if np.isfinite(v)])
    if metric == "accuracy":
        axes.set_ylim(0, 1.02)
    elif values.size and (values > 0).all():
        everything = np.concatenate([values, shown[shown > 0]])
        low, high = everything.min() / 1.3, min(everything.max(), 5 * np.median(everything)) * 1.2
        if high / low > 8:
            log_axis(axes)
        axes.set_ylim(low if high / low > 8 else 0, high)
    axes.grid(axis="y", color="0.9")
    entries.sort(key=lambda entry: (entry[0] != entry[0], -entry[0]))  # as they lie in the picture
    axes.legend(
        [drawn for _, drawn, _ in entries],
        [f"{value:.3f}  {name}" for value, _, name in entries],
        loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=11, frameon=False,
    )  # fmt: skip


def _draw_weights(
    axes: Any, step_name: str, steps: np.ndarray, weights: dict[str, np.ndarray]
) -> None:
    colours = [*COLOURS[1 : len(weights)], "0.85"]
    axes.stackplot(steps, *weights.values(), labels=list(weights), colors=colours)
    axes.set_title("How much each expert counted", size=14, loc="left")
    axes.set_xlabel(step_name)
    axes.set_ylabel("weight")
    axes.set_ylim(0, 1)
    if len(steps) > 1:
        axes.set_xlim(steps[0], steps[-1])
    handles, names = axes.get_legend_handles_labels()  # as they lie in the picture
    axes.legend(
        handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=11,
        frameon=False,
    )  # fmt: skip


def log_axis(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _draw_forecast(
    axes: Any, steps: np.ndarray, truth: np.ndarray, prediction: np.ndarray, name: str, whose: str
) -> None:
    axes.plot(steps, truth, color="0.7", lw=5, label="measured")
    axes.plot(steps, prediction, color="C3", lw=1.5, label="predicted, before it came")
    axes.set_title(f"Prediction and truth, the last {len(steps)}: {whose}", size=14, loc="left")
    axes.set_xlabel("timestep")
    axes.set_ylabel(name)
    known = np.concatenate([truth, prediction])
    known = known[np.isfinite(known)]
    if known.size:
        low, high = known.min(), known.max()
        margin = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=11, frameon=False)
