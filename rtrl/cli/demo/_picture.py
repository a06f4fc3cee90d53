"""The demo's picture: prediction against truth, and the error over the pass."""

from pathlib import Path

import numpy as np

from rtrl.cli.demo._laser import HELD, WINDOW, running_nrmse, second_half_nrmse


def collapse(series: np.ndarray) -> int:
    """The timestep at which the oscillation of a series ``(time,)`` collapses most."""
    span = 40
    windows = np.lib.stride_tricks.sliding_window_view(series, span)
    swing = np.ptp(windows, axis=1)
    return span + int(np.argmax(swing[:-span] - swing[span:]))


def draw(path: Path, predictions: dict[str, np.ndarray], ys: np.ndarray) -> None:
    """Draw prediction against truth around a collapse, and the error over the pass.

    ``predictions`` of the targets ``ys``, both ``(time, 1)``, by method, ours first.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ours, *others = predictions
    half = len(ys) // 2
    centre = half + collapse(ys[half:, 0])
    stretch = np.arange(max(half, centre - 140), min(len(ys), centre + 80))

    figure = Figure(figsize=(12, 9), layout="constrained")
    top, bottom = figure.subplots(2, 1)
    top.plot(stretch, ys[stretch, 0], color="0.7", lw=5, label="measured")
    top.plot(
        stretch, predictions[ours][stretch, 0], color="C3", lw=1.5,
        label="forecast by rtrl, one sample ahead",
    )  # fmt: skip
    top.set_title("A collapse of the laser in the second half of the stream", size=14)
    top.set_ylabel("intensity (0 to 255)")
    top.set(xlim=(stretch[0], stretch[-1]), ylim=(-20, 310))

    bottom.axvspan(half, len(ys), color="0.95")
    error = second_half_nrmse(predictions[ours], ys)
    settled = np.arange(HELD + WINDOW // 10, len(ys))  # before that too few forecasts to average
    bottom.plot(
        settled, running_nrmse(predictions[ours], ys)[settled], color="C3", lw=2,
        label=f"rtrl: {error:.3f}",
    )  # fmt: skip
    for name, style, colour in zip(others, (":", "--", "-."), ("0.3", "C0", "C2"), strict=True):
        error = second_half_nrmse(predictions[name], ys)
        bottom.axhline(error, color=colour, ls=style, lw=2, label=f"{name}: {error:.3f}")
    bottom.set_title(
        f"Error of rtrl over the last {WINDOW} forecasts as it learns; "
        "numbers and lines: second half (shaded)",
        size=14,
    )
    bottom.set_ylabel("NRMSE (log)")
    bottom.set(xlim=(0, len(ys)), yscale="log")
    bottom.set_ylim(min(0.04, bottom.get_ylim()[0]), 5)
    bottom.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bottom.yaxis.set_minor_locator(NullLocator())
    bottom.grid(axis="y", color="0.85")
    for axes in (top, bottom):
        axes.set_xlabel("sample")
        axes.legend(loc="upper right", ncols=2, fontsize=12)
        axes.tick_params(labelsize=12)
        axes.xaxis.label.set_size(13)
        axes.yaxis.label.set_size(13)
    figure.savefig(path, dpi=100)
