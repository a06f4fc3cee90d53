"""The table and the picture of `bench/streams.py`."""

from pathlib import Path

import numpy as np
from _stream_series import SERIES, halves
from streams import ABLATIONS, OURS, PARTS, best, ratios, read


def table() -> str:
    """Every series, both halves of them, and what each part buys."""
    chosen, kept = halves()
    lines = [
        "| series | rows ahead | best simple method | NRMSE | forecaster | over best | "
        "second half | first 100 | truncated |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for title, names in (("chosen on", chosen), ("kept back", kept)):
        lines.append(f"| **{title}** | | | | | | | | |")
        for name in names:
            ours, other = read(name, OURS), read(name, "truncated")
            if ours is None:
                continue
            method, figure = best(name, "all")
            over = [ours[part] / best(name, part)[1] for part in PARTS]
            mark = "**" if over[0] > 1.03 else ""
            bare = f"{other['all'] / figure:.2f}" if other else "-"
            lines.append(
                f"| {name} | {SERIES[name][2]} | {method} | {figure:.4f} | {ours['all']:.4f} | "
                f"{mark}{over[0]:.3f}{mark} | {over[1]:.3f} | {over[2]:.3f} | {bare} |"
            )
    lines += [
        "",
        "| forecaster over best simple | " + " | ".join(PARTS) + " |",
        "|---|---|---|---|",
    ]
    for title, names in (("chosen on", chosen), ("kept back", kept)):
        each = [ratios(names, OURS, part) for part in PARTS]
        if len(each[0]):
            lines.append(f"| geometric mean, {title} | " + _row(map(_mean, each)) + " |")
            lines.append(f"| worst, {title} | " + _row(map(np.max, each)) + " |")
    lines += ["", "| | geometric mean, chosen on | kept back | worst of all |", "|---|---|---|---|"]
    for method in (OURS, *ABLATIONS, "truncated"):
        each = [ratios(names, method, "all") for names in (chosen, kept)]
        if len(each[0]) == len(chosen) and len(each[1]) == len(kept):
            worst = np.max(np.concatenate(each))
            lines.append(f"| {method} | " + _row([*map(_mean, each), worst]) + " |")
    return "\n".join(lines) + "\n"


def _mean(values: np.ndarray) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _row(values) -> str:
    return " | ".join(f"{value:.3f}" for value in values)


def draw(path: Path) -> None:
    """The forecaster over the best simple method of every series, sorted."""
    from matplotlib.figure import Figure

    chosen, _ = halves()
    names = sorted((n for n in SERIES if read(n, OURS)), key=lambda n: ratios([n], OURS, "all")[0])
    figure = Figure(figsize=(9, 0.27 * len(names) + 1.4), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        ours = ratios([name], OURS, "all")[0]
        colour = "C0" if name in chosen else "C3"
        axes.plot([1, ours], [place, place], color=colour, lw=1)
        axes.plot(ours, place, "o", color=colour)
        early = ratios([name], OURS, "first 100")[0]
        axes.plot(early, place, "|", color=colour, ms=9)
    axes.axvline(1, color="0.4", lw=1)
    axes.axvline(1.03, color="0.4", lw=1, ls=":")
    axes.set_xscale("log")
    ticks = [0.4, 0.5, 0.6, 0.8, 1, 1.2]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("NRMSE over that of the best simple method of the series (bar: first 100 rows)")
    axes.set_title("Forecaster: blue, series it was chosen on; red, kept back", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
