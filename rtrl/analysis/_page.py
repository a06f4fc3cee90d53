"""One page about a learner: the words on top, one picture for each question below."""

import textwrap
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from rtrl.analysis._measured import Layer, Measured
from rtrl.analysis._timescales import high_quantile

COLOURS = ("C0", "C1", "C2", "C4", "C5", "C6", "C8", "C9")


def draw_page(measured: Measured, words: list[str]) -> Any:
    """Draw what was measured of a learner.

    Args:
        measured: from `measure`.
        words: what is wrong, one string each.

    Returns a matplotlib ``Figure``.
    """
    from matplotlib.figure import Figure

    lines = [line for w in words for line in textwrap.wrap(w, 128, subsequent_indent="    ")]
    height = 0.26 * len(lines) + 0.7
    figure = Figure(figsize=(13, 10 + height))
    top = figure.add_gridspec(1, 1, top=0.985, bottom=1 - height / (10 + height), left=0.03)
    text: Any = figure.add_subplot(top[0])
    text.axis("off")
    text.text(0, 1, "\n".join(lines), va="top", fontsize=11.5, linespacing=1.4,
              color="C3" if words[0][:7] != "Nothing" else "C2")  # fmt: skip
    grid = figure.add_gridspec(
        3, 3, top=0.965 - height / (10 + height), bottom=0.06, left=0.075, right=0.98,
        hspace=0.52, wspace=0.28,
    )  # fmt: skip
    panels: list[Any] = [figure.add_subplot(cell) for cell in grid]
    draw_replay(panels[0], measured)
    draw_owed(panels[1], measured)
    draw_lags(panels[2], measured.layers)
    draw_timescales(panels[3], measured.layers)
    draw_effective(panels[4], measured.layers)
    draw_alignment(panels[5], measured)
    draw_staleness(panels[6], measured.layers)
    draw_modules(panels[7], measured.layers)
    draw_memory(panels[8], measured.memory)
    for ax in panels:
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_fontsize(11.5)
        ax.title.set_horizontalalignment("left")
        ax.title.set_x(0)
    return figure


def draw_replay(ax: Any, measured: Measured) -> None:
    """Draw the loss of the window by the factor on its updates: the learner is at 1."""
    factors, losses = measured.replay.factors, measured.replay.losses
    places = np.arange(len(factors))
    finite = np.isfinite(losses)
    ax.plot(places[finite], losses[finite], "o-", color="C0")
    ax.plot(places[factors == 1], losses[factors == 1], "o", color="C3", ms=9, label="as it is")
    ax.axhline(measured.constant_loss, color="0.5", ls=":", label="best constant")
    if not finite.all():
        for place in places[~finite]:
            ax.annotate("∞", (place, 0.9), xycoords=("data", "axes fraction"), ha="center")
    ax.set_xticks(places, [f"{f:g}" for f in factors])
    _log_if_wide(ax, [*losses[finite], measured.constant_loss])
    ax.set(title="Would another rate do better?", xlabel="updates times", ylabel="loss")
    ax.legend(frameon=False, fontsize=9)


def draw_owed(ax: Any, measured: Measured) -> None:
    """Draw what old inputs explain of today's errors, beside how long the network remembers."""
    owed = np.maximum(measured.owed, 0)
    ax.fill_between(np.arange(len(owed)), owed, step="mid", color="C3", alpha=0.7)
    for layer, colour in zip(measured.layers, COLOURS * len(measured.layers), strict=False):
        tau = high_quantile(layer.timescales)
        if np.isfinite(tau) and tau < len(owed):
            ax.axvline(tau, color=colour, ls="--", lw=1.5, label=f"{layer.name} remembers")
    ax.set(title="What the error still owes to the past", xlabel="lag of the input, timesteps",
           ylabel="R² of today's error")  # fmt: skip
    ax.set_ylim(0, max(0.2, 1.1 * max(owed, default=0.0)))
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize=9)


def draw_lags(ax: Any, layers: list[Layer]) -> None:
    """Draw how much of the gradient comes from causes at most so many timesteps ago."""
    for layer, colour in zip(layers, COLOURS * len(layers), strict=False):
        if layer.lag_share is not None:
            ax.plot(np.cumsum(layer.lag_share), color=colour, label=layer.name)
    ax.axhline(1, color="0.8", lw=1, zorder=0)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xlim(left=0)
    ax.set(title="How far back the gradient reaches", xlabel="lag, timesteps",
           ylabel="share of the gradient")  # fmt: skip
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize=9, loc="lower right")


def draw_timescales(ax: Any, layers: list[Layer]) -> None:
    """Draw the time scales of every layer, as they are and as they were at first."""
    edges = np.logspace(-1, 4, 31)
    for layer, colour in zip(layers, COLOURS * len(layers), strict=False):
        now = np.where(layer.timescales < 0, np.inf, layer.timescales)
        ax.hist(np.clip(now, edges[0], edges[-1]), edges, color=colour, alpha=0.6,
                label=layer.name)  # fmt: skip
        if layer.initial is not None:
            first = np.where(layer.initial < 0, np.inf, layer.initial)
            ax.hist(np.clip(first, edges[0], edges[-1]), edges, histtype="step", color=colour,
                    ls=":", lw=1.8, label=f"{layer.name} at first")  # fmt: skip
    ax.set_xscale("log")
    ax.set(title="Time scales", xlabel="timesteps (right edge: 10⁴ and more)", ylabel="modules")
    ax.legend(frameon=False, fontsize=9)


def draw_effective(ax: Any, layers: list[Layer]) -> None:
    """Draw at which rate an error teaches a layer about what it did so many timesteps before."""
    for layer, colour in zip(layers, COLOURS * len(layers), strict=False):
        known = np.isfinite(layer.rate) and layer.rate > 0
        rates = layer.effective if known else layer.retention
        label = layer.name if known else f"{layer.name}: of 1, what modules keep"
        ax.plot(np.arange(1, len(rates)), rates[1:], color=colour, label=label)
    _plain_log(ax, "x", "y")
    low, high = ax.get_ylim()
    ax.set_ylim(bottom=max(low, 1e-6 * high))
    ax.set(title="Effective rates: optimizer's times f(lag)", xlabel="lag, timesteps",
           ylabel="rate f(lag)")  # fmt: skip
    ax.legend(frameon=False, fontsize=9)


def draw_alignment(ax: Any, measured: Measured) -> None:
    """Draw the cosine between the rule's gradient and BPTT's, layer by layer."""
    layers = measured.layers
    places = np.arange(len(layers))
    for x, colour, layer in zip(places, COLOURS * len(layers), layers, strict=False):
        cosine = 0 if np.isnan(layer.cosine) else layer.cosine
        ax.bar(x, cosine, 0.6, color=colour)
        ax.annotate("no gradient" if np.isnan(layer.cosine) else f"{layer.cosine:.3f}",
                    (x, max(cosine, 0)), ha="center", va="bottom", fontsize=10)  # fmt: skip
    ax.set_xticks(places, [x.name for x in layers])
    ax.set(title="Alignment with BPTT's gradient", ylabel=f"cosine, {measured.rule}",
           ylim=(min(0, *(np.nan_to_num(x.cosine) for x in layers)) * 1.1, 1.15))  # fmt: skip


def draw_staleness(ax: Any, layers: list[Layer]) -> None:
    """Draw how far the carried trace of each layer is from one of today's parameters."""
    for x, (layer, colour) in enumerate(zip(layers, COLOURS * len(layers), strict=False)):
        s = layer.staleness
        if np.isnan(s.relative):
            ax.annotate("can't be told", (x, 0.05), ha="center", fontsize=10)
            continue
        ax.bar(x, min(s.relative, 1.2), 0.6, color=colour)
        ax.annotate(f"{s.relative:.2f}\n({s.judged:.0%} judged)", (x, min(s.relative, 1.2)),
                    ha="center", va="bottom", fontsize=9)  # fmt: skip
    ax.set_xticks(range(len(layers)), [x.name for x in layers])
    ax.axhline(1, color="0.8", lw=1, zorder=0)
    ax.set(title="Carried trace against one of today", ylabel="distance / norm", ylim=(0, 1.5))


def draw_modules(ax: Any, layers: list[Layer]) -> None:
    """Draw every module by how its state moves and what gradient it gets; none is on the axes."""
    for layer, colour in zip(layers, COLOURS * len(layers), strict=False):
        stuck = _stuck(layer)
        move, gradient = layer.state_move, layer.gradient_size
        ax.scatter(_floored(move), _floored(gradient), s=14, color=colour, alpha=0.6,
                   label=layer.name)  # fmt: skip
        if stuck.any():
            place = _floored(move)[stuck], _floored(gradient)[stuck]
            ax.scatter(*place, s=45, lw=1, facecolors="none", edgecolors="C3",
                       label=f"{layer.name} saturated")  # fmt: skip
    _plain_log(ax, "x", "y")
    ax.set(title="Every module: dead ones lie at the edges", xlabel="its state moves by",
           ylabel="its gradient")  # fmt: skip
    ax.legend(frameon=False, fontsize=9)


def _stuck(layer: Layer) -> np.ndarray:
    stuck = np.zeros(layer.state_move.shape, bool)
    for gate in layer.gates:
        stuck |= gate.saturated >= 0.8
    return stuck


def _floored(values: Float[np.ndarray, " N"]) -> Array | np.ndarray:
    return np.maximum(values, 1e-10)


def draw_memory(ax: Any, memory: dict[str, int]) -> None:
    """Draw the bytes that the learner holds, by what for."""
    names = list(memory)
    sizes = np.array([memory[name] for name in names]) / 1e3
    ax.barh(names, sizes, color="0.6")
    for y, size in enumerate(sizes):
        ax.annotate(f" {size:,.1f} kB", (size, y), va="center", fontsize=10)
    ax.invert_yaxis()
    ax.set(title="Memory, however long the stream", xlabel="kB", xlim=(0, 1.35 * sizes.max() or 1))


def _log_if_wide(ax: Any, values: list[float]) -> None:
    there = [v for v in values if v > 0 and np.isfinite(v)]
    if there and max(there) / min(there) > 8 and len(there) == len(values):
        _plain_log(ax, "y")


def _plain_log(ax: Any, *axes: str) -> None:
    """Logarithmic axes with plain numbers: powers of ten, or 1, 2 and 5 times them if few."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for name in axes:
        getattr(ax, f"set_{name}scale")("log")
        axis = getattr(ax, f"{name}axis")
        low, high = getattr(ax, f"get_{name}lim")()
        axis.set_major_locator(LogLocator(subs=(1,) if high / low > 100 else (1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
