"""The pictures of the curse's experiments."""

from typing import Any

import numpy as np
from _analysis_runs import RESULTS
from _curse_deep import STACKS
from _curse_hessian import RATE
from _curse_tables import budget, errors_of
from _curse_teachers import CHANGES, NU0, STEPS
from matplotlib.figure import Figure

from rtrl import analysis


def panels(columns: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5 * columns, 4.6), layout="constrained")
    return figure, figure.subplots(1, columns)


def draw(found: dict) -> None:
    draw_energies(found["energies"])
    draw_teachers(found["teachers"])
    draw_hessians(found["hessian"])
    draw_stacks(found["deep"])


def draw_energies(rows: list) -> None:
    figure, axes = panels(3)
    analysis.draw_curse(axes[0])
    for r in rows:
        axes[0].errorbar(-1 / np.log(r["lambda"]), r["sampled"], 3 * r["error"], color="k",
                         marker="o", ms=4)  # fmt: skip
    axes[0].plot([], [], "ko", label="RTRL traces of our cell")
    axes[0].legend(frameon=False)
    analysis.draw_landscape(axes[1])
    analysis.draw_remedies(axes[2])
    figure.savefig(RESULTS / "curse_3_1.png", dpi=90)


def draw_teachers(teachers: dict) -> None:
    figure, axes = panels(3)
    memory = 1 / (1 - np.array(NU0))
    for i, kind in enumerate(("LRU", "dense")):
        for method, line in zip(STEPS, ("o-", "s--"), strict=True):
            each = [errors_of(teachers.get((kind, v, method)), "first") for v in NU0]
            for m, errors in zip(memory, each, strict=True):
                kept = [e for e in errors if e is not None]
                axes[0].plot([m] * len(kept), kept, ".", color=f"C{i}", alpha=0.5)
            axes[0].plot(memory, list(map(mean, each)), line, color=f"C{i}",
                         label=f"{kind}, {method}")  # fmt: skip
    axes[0].axhline(1, color="0.8", zorder=0)
    axes[0].set(title="Ever longer memory (fewer batches)", xscale="log", yscale="log",
                xlabel="teacher's memory 1 / (1 - ν0)", ylabel="error / variance",
                ylim=(1e-8, 10))  # fmt: skip
    axes[0].legend(frameon=False)
    for ax, method in zip(axes[1:], STEPS, strict=True):
        for which, style in (("first", "o"), ("runs", "_")):
            for i, kind in enumerate(CHANGES):
                errors = errors_of(teachers.get((kind, NU0[-1], method)), which)
                kept = [e for e in errors if e is not None]
                ax.plot(
                    [i] * len(kept), kept, style, color=f"C{i}", ms=7 if style == "o" else 18, mew=2
                )
            ax.plot([], [], style, color="0.4", label=budget(NU0[-1], method, which))
        ax.axhline(1, color="0.8", zorder=0)
        ax.set_xticks(range(len(CHANGES)), [k.replace(" ", "\n") for k in CHANGES], fontsize=8)
        ax.set(title=f"From dense to LRU, {method} (ν0 = {NU0[-1]})", ylabel="error / variance",
               yscale="log", ylim=(1e-8, 10))  # fmt: skip
        ax.legend(frameon=False, loc="lower left")
    figure.savefig(RESULTS / "curse_3_3.png", dpi=90)


def mean(errors: list) -> float:
    """Geometric mean; nothing where a run diverged or none was made."""
    return float(np.exp(np.mean(np.log(errors)))) if errors and None not in errors else np.nan


def draw_hessians(found: dict) -> None:
    figure = Figure(figsize=(16, 13), layout="constrained")
    axes: Any = figure.subplots(4, len(found), height_ratios=(3, 1.4, 1.2, 1.2))
    for (name, h), column in zip(found.items(), axes.T, strict=True):
        hessian, vectors, spectrum, rates = column
        H = np.asarray(h["hessian"])
        values, V = np.linalg.eigh(H)
        hessian.imshow(np.log10(np.maximum(np.abs(H), 1e-8 * np.abs(H).max())))
        hessian.set(title=f"{name}: log |Hessian|, {h['parameters']} parameters")
        top = len(h["spread"])
        vectors.imshow((V[:, ::-1][:, :top] ** 2).T, vmin=0, vmax=1, cmap="Greys", aspect="auto")
        vectors.set(ylabel="by eigenvalue", title="top eigenvectors, squared")
        for ax in (hessian, vectors):
            ax.set_xticks([])
            ax.set_yticks([])
        spectrum.plot(range(1, 11), values[::-1][:10], "o-")
        spectrum.set(yscale="log", ylim=(1e-2, 1e8), ylabel="eigenvalue", xlabel="rank")
        rates.plot(range(1, h["parameters"] + 1), np.sort(h["rates"]), ".-", color="C1")
        rates.axhline(RATE, color="0.7")
        rates.set(yscale="log", ylim=(1e-7, 1), ylabel="Adam's rate", xlabel="parameters, sorted")
    figure.savefig(RESULTS / "curse_3_4.png", dpi=70)


def draw_stacks(found: dict) -> None:
    figure, axes = panels(3)
    lines = {"recurrent": "-", "modulus": "-", "angle": ":", "step": "--"}
    for i, stack in enumerate(STACKS):
        rows = found[stack]
        memory = [1 / (1 - r["nu0"]) for r in rows]
        axes[0].plot(memory, [r["first"] for r in rows], "o-", color=f"C{i}", label=stack)
        axes[0].plot(memory, [r["fourth"] for r in rows], "s--", color=f"C{i}")
        for name in rows[0]["gradients"]:
            values = [r["gradients"][name] for r in rows]
            if name in lines:
                axes[1].plot(memory, values, lines[name], color=f"C{i}", marker="o", ms=4,
                             label=f"{stack}, {name}")  # fmt: skip
            elif name == "feedforward":
                axes[2].plot(memory, values, "o-", color=f"C{i}", label=stack)
    titles = ("E|h|² of the first and (dashed) fourth layer", "Gradients of eigenvalues",
              "Gradients of what has no memory")  # fmt: skip
    for ax, title in zip(axes, titles, strict=True):
        ax.set(title=title, xlabel="memory 1 / (1 - ν0)", xscale="log", yscale="log")
        ax.legend(frameon=False, fontsize=8)
    figure.savefig(RESULTS / "curse_3_5.png", dpi=90)
