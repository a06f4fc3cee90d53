"""The pictures and the table of `scaling.py`, made from its JSON."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

STYLES = {
    "BPTT": ("0.35", "s", "--"),
    "RTRL, K = 64": ("C3", "o", "-"),
    "RTRL, K = 1": ("C1", "^", "-"),
}


def draw(results: dict[str, Any], folder: Path) -> None:
    pictures = {"chunk": _chunk, "time": _time, "size": _size, "cosine": _cosine}
    for name, function in pictures.items():
        if name in results:
            figure = function(results[name])
            figure.savefig(folder / f"scaling_{name}.png", dpi=110)


def _axes(columns: int, width: float = 6.0):
    figure = Figure(figsize=(width * columns, 5), layout="constrained")
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for axes in panels:
        axes.grid(color="0.92", which="major")
        axes.tick_params(labelsize=12)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _chunk(result: dict[str, Any]) -> Figure:
    cells = list(dict.fromkeys(row["cell"] for row in result["rows"]))
    figure, panels = _axes(len(cells))
    for axes, cell in zip(panels, cells, strict=True):
        rows = [row for row in result["rows"] if row["cell"] == cell]
        ours = [row for row in rows if row["K"]]
        (bptt,) = (row["microseconds"]["median"] for row in rows if not row["K"])
        sizes = [row["K"] for row in ours]
        axes.plot(sizes, [r["microseconds"]["median"] for r in ours], "o-", color="C3", lw=2,
                  label="RTRL, chunks of K")  # fmt: skip
        axes.axhline(bptt, color="0.35", ls="--", lw=2, label=f"BPTT over all T = {result['T']}")
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(k) for k in sizes])
        axes.set_yscale("log")
        axes.set_yticks(ticks := _ticks(bptt, ours), [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        axes.set_xlabel("K, timesteps per chunk", size=13)
        axes.set_title(f"{cell}, 4 layers, N = 64, H = 128, batch 1", size=13)
    panels[0].set_ylabel("microseconds per timestep", size=13)
    panels[0].legend(frameon=False, fontsize=12)
    return figure


def _ticks(bptt: float, rows: list[dict[str, Any]]) -> list[float]:
    values = [bptt, *(row["microseconds"]["median"] for row in rows)]
    every = (m * 10**e for e in range(5) for m in (1, 2, 5))
    return [t for t in every if 0.7 * min(values) <= t <= 1.4 * max(values)]


def _time(result: dict[str, Any]) -> Figure:
    figure, (memory, seconds) = _axes(2)
    for rule, (colour, marker, line) in STYLES.items():
        rows = [row for row in result["rows"] if row["rule"] == rule]
        style = {"color": colour, "marker": marker, "ls": line, "lw": 2, "label": rule}
        memory.plot([r["T"] for r in rows],
                    [(r["temporaries"] + r["carried"]) / 2**20 for r in rows], **style)  # fmt: skip
        timed = [r for r in rows if r["seconds"]]
        seconds.plot([r["T"] for r in timed],
                     [1e6 * r["seconds"]["median"] / r["T"] for r in timed], **style)  # fmt: skip
    machine = result["memory of the machine"] / 2**20
    memory.axhline(machine, color="0.6", lw=1)
    memory.text(1e3, 1.1 * machine, "free memory of this machine", color="0.4", size=12)
    memory.set_title("Working memory", size=13)
    memory.set_ylabel("MiB: temporaries and carried state", size=13)
    seconds.set_title("Time (what fits and takes less than a minute)", size=13)
    seconds.set_ylabel("microseconds per timestep", size=13)
    for axes in (memory, seconds):
        axes.set(xscale="log", yscale="log")
        axes.set_xlabel("T, timesteps", size=13)
        axes.minorticks_off()
    low, high = seconds.get_ylim()
    ticks = [m * 10**e for e in range(-1, 5) for m in (1, 2, 5)]
    ticks = [t for t in ticks if low <= t <= high]
    seconds.set_yticks(ticks, [f"{t:g}" for t in ticks])
    memory.set_ylim(top=6 * machine)
    memory.legend(frameon=False, fontsize=12, loc="upper left", bbox_to_anchor=(0, 0.82))
    return figure


def _size(result: dict[str, Any]) -> Figure:
    figure, panels = _axes(2)
    for axes, what in zip(panels, ("N", "H"), strict=True):
        for rule, (colour, marker, line) in STYLES.items():
            rows = [r for r in result["rows"] if (r["what"], r["rule"]) == (what, rule)]
            sizes = [r["size"] for r in rows]
            axes.plot(sizes, [r["microseconds"]["median"] for r in rows], color=colour,
                      marker=marker, ls=line, lw=2, label=rule)  # fmt: skip
            axes.set(xscale="log", yscale="log")
            axes.set_xticks(sizes, [str(n) for n in sizes])
            axes.minorticks_off()
        low, high = axes.get_ylim()
        ticks = [m * 10**e for e in range(-1, 5) for m in (1, 2, 5)]
        ticks = [t for t in ticks if low <= t <= high]
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
        other = "H = 128 features" if what == "N" else "N = 128 modules"
        name = "N, modules" if what == "N" else "H, features"
        axes.set_xlabel(name, size=13)
        axes.set_title(f"LRU, 1 layer, batch 1, {other}", size=13)
    panels[0].set_ylabel("microseconds per timestep", size=13)
    panels[0].legend(frameon=False, fontsize=12)
    return figure


def _cosine(result: dict[str, Any]) -> Figure:
    """1 - cosine against cost: the lower left is where one wants to be."""
    figure, (axes,) = _axes(1, 9.5)
    figure.set_figheight(6.5)
    styles = {
        "RTRL, chunk errors": ("C3", "o", "-"),
        "RTRL, timestep errors": ("C1", "^", ":"),
        "TBPTT, no trace": ("C0", "s", "--"),
        "Truncated": ("C2", "D", ":"),
        "Spatial": ("C4", "v", ":"),
    }
    floor = 1e-4
    for rule, (colour, marker, line) in styles.items():
        rows = [row for row in result["rows"] if row["rule"] == rule]
        x = [row["cost"]["median"] for row in rows]
        y = [max(1 - row["cosine"], floor) for row in rows]
        axes.plot(x, y, color=colour, marker=marker, ls=line, lw=1.8, ms=7, label=rule)
        curve = rule in ("RTRL, chunk errors", "TBPTT, no trace")
        for row, a, b in zip(rows, x, y, strict=True):
            beside = curve and row["K"] >= 16  # where curves run downwards
            above = rule in ("Spatial", "TBPTT, no trace")
            offset = (-9, -4) if beside else (0, 8 if above else -16)
            exact = 1 - row["cosine"] < 1e-6
            axes.annotate(
                f"{row['K']} = T: exact" if exact else f"{row['K']}", (a, b), xytext=offset,
                textcoords="offset points", ha="right" if beside else "center", size=10,
                color=colour,
            )  # fmt: skip
    axes.axvline(1, color="0.35", ls="--", lw=1)
    axes.text(1, 1.6, "time of BPTT ", color="0.35", size=11, ha="right", va="top")
    axes.set(xscale="log", yscale="log", ylim=(floor / 2, 2))
    low, high = axes.get_xlim()
    ticks = [t for t in (0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7, 10) if low <= t <= high]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("time per timestep relative to BPTT over the whole sequence", size=13)
    axes.set_ylabel("1 - cosine to BPTT's gradient, mean over layers", size=13)
    network = "LRU, 4 layers, N = 64, H = 128, batch 20, T = 256"
    axes.set_title(f"{network}; numbers: K, timesteps per chunk", size=12)
    axes.legend(frameon=False, fontsize=12, loc="lower right")
    return figure


def table(results: dict[str, Any]) -> str:
    lines = []
    for name, result in results.items():
        packages = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
        lines += [f"## {name}", "", f"`{result['command']}`: {result['cores']} cores, load "
                  f"{result['load']} at the end; {packages}", ""]  # fmt: skip
        heads = list(result["rows"][0])
        lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for row in result["rows"]:
            lines.append("| " + " | ".join(_cell(row[head]) for head in heads) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['median']:g} ({value['min']:g} to {value['max']:g})"
    if isinstance(value, float):
        return f"{value:.6f}"
    return f"{value:,}" if isinstance(value, int) else "-" if value is None else str(value)
