"""What `diagnose` hands back: words, a table, a page."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rtrl.analysis._finding import Finding
from rtrl.analysis._findings import reach
from rtrl.analysis._measured import Layer, Measured
from rtrl.analysis._page import draw_page
from rtrl.analysis._timescales import high_quantile

WELL = "Nothing is wrong that can be seen on this window."


@dataclass(frozen=True)
class Diagnosis:
    """What a learner does on a window, and what is wrong with it; made by `diagnose`.

    Attributes:
        findings: what is wrong, the likeliest cause first, then what is worth knowing.
        measured: all that was measured, arrays by layer.
    """

    findings: list[Finding]
    measured: Measured

    @property
    def problems(self) -> list[Finding]:
        """The findings that say that something is wrong."""
        return [f for f in self.findings if f.problem]

    def __str__(self) -> str:
        words = [f"- {f}" for f in self.findings]
        if not self.problems:
            words = [f"- {WELL}", *words]
        return "\n".join([*words, "", self.table()])

    def table(self) -> str:
        """Give what was measured as text, one line per layer and quantity."""
        m = self.measured
        lines = [
            f"Window: {m.window[0]:,} timesteps of {m.window[1]:,} samples, after {m.steps:,}; "
            f"{m.rule}",
            f"Loss {m.loss:.4g}; of the best constant prediction {m.constant_loss:.4g}",
            "Window learned again with updates times "
            + ", ".join(
                f"{f:g}: {x:.3g}" for f, x in zip(m.replay.factors, m.replay.losses, strict=True)
            ),
            f"Longest time scale {reach(m.layers):.3g} timesteps; an old input explains up to "
            f"{max(m.owed, default=0.0):.0%} of the error, at lag {_argmax(m.owed)}",
            "Memory " + ", ".join(f"{k} {v / 1e3:,.1f} kB" for k, v in m.memory.items()),
            "",
        ]
        rows = [_row(layer) for layer in m.layers]
        heads = list(rows[0])
        columns = [[head, *(row[head] for row in rows)] for head in heads]
        for row in zip(*columns, strict=True):
            cells = (
                f"{cell:>{max(map(len, column))}}"
                for cell, column in zip(row, columns, strict=True)
            )
            lines.append("  ".join(cells))
        return "\n".join(lines)

    def figure(self) -> Any:
        """Draw one page: the words, and a picture for each of the questions.

        Returns a matplotlib ``Figure``; ``figure().savefig("page.png")`` writes it.
        """
        words = [str(f) for f in self.findings if f.problem] or [WELL]
        return draw_page(self.measured, words)


def _argmax(values: np.ndarray) -> int | str:
    return int(np.argmax(values)) if len(values) else "-"


def _row(layer: Layer) -> dict[str, str]:
    tau = np.where(layer.timescales < 0, np.inf, layer.timescales)
    s = layer.staleness
    stuck = max((float((g.saturated >= 0.8).mean()) for g in layer.gates), default=float("nan"))
    still = layer.state_move <= 1e-6 * np.maximum(layer.state_size, 1e-12)
    figures = {
        "tau median": np.quantile(tau, 0.5, method="higher"),
        "tau 90%": high_quantile(layer.timescales),
        "state": float(np.sqrt((layer.state_size**2).mean())),
        "cosine": layer.cosine,
        "share": layer.share,
        "stale": s.relative,
        "identity": s.identity,
        "moved": layer.update,
        "rate": layer.rate,
        "saturated": stuck,
        "still": float(still.mean()),
    }
    row = {"layer": layer.name, "cell": layer.cell}
    return row | {k: "-" if np.isnan(v) else f"{v:.3g}" for k, v in figures.items()}
