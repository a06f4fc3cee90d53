"""The demo's first picture: what the stream looks like, and wrong answers over the pass."""

from pathlib import Path
from typing import Any

import numpy as np

from rtrl.cli.demo._digits import WINDOW, Images, Labels, wrong

SHOWN = 10  # images at the top


def draw_digits(path: Path, images: Images, answers: dict[str, Labels], labels: Labels) -> None:
    """Draw the last images as they come in, and the share of wrong answers; ours first."""
    from matplotlib.figure import Figure

    ours, *others = answers
    figure = Figure(figsize=(12, 9), layout="constrained")
    parts: Any = figure.subfigures(3, 1, height_ratios=(1.1, 1, 3.4))
    rows = range(len(images) - SHOWN, len(images))
    for axes, row in zip(parts[0].subplots(1, SHOWN), rows, strict=True):
        axes.imshow(images[row].reshape(8, 8), cmap="gray_r")
        told, right = answers[ours][row], labels[row]
        axes.set_title(f"told {told}", size=12, color="C2" if told == right else "C3")
        axes.set_axis_off()
    stream = parts[1].subplots()
    seen = images[list(rows)].ravel()
    stream.plot(np.arange(len(seen)), seen, color="0.3", lw=0.8)
    for end in range(0, len(seen) + 1, 64):
        stream.axvline(end, color="C0", lw=1)
    stream.set_title("The same as the learner sees them: a pixel a timestep, named at every line",
                     size=13, loc="left")  # fmt: skip
    stream.set(xlim=(0, len(seen)), yticks=[])
    axes = parts[2].subplots()
    half = len(labels) // 2
    axes.axvspan(half, len(labels), color="0.95")
    steps = np.arange(WINDOW, len(labels) + 1)
    styles = ("-", "--", "-.", ":", "--", "-.", ":")
    colours = ("C3", "0.6", "0.4", "0.3", "C0", "C2", "C4")
    for name, style, colour in zip(answers, styles, colours, strict=False):
        bad = np.concatenate([[0], np.cumsum(answers[name] != labels)])
        running = 100 * (bad[steps] - bad[steps - WINDOW]) / WINDOW
        label = f"{'rtrl' if name == ours else name}: {wrong(answers[name], labels):.1%}"
        axes.plot(steps, running, style, color=colour, lw=3 if name == ours else 1.6, label=label)
    axes.set_title(
        f"Wrong answers among the last {WINDOW} as it learns; numbers: second half (shaded)",
        size=13, loc="left",
    )  # fmt: skip
    axes.set_xlabel("image", size=13)
    axes.set_ylabel("wrong, %", size=13)
    axes.set(xlim=(0, len(labels)), ylim=(0, 100))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=11, frameon=False)
    axes.grid(axis="y", color="0.85")
    figure.savefig(path, dpi=100)
