"""Measured learnability windows beside predicted ones, for gates of every kind.

    python bench/learnability.py     what is missing is computed; then the table and the picture
    python bench/learnability.py --table     the table and the picture of what there is
    python bench/_learnability_runs.py LRU BPTT 0     one run alone, for many cores

The lag regression of arXiv 2512.05790, of half its width: white inputs of 4 features, targets a sum
of one direction of them 4, 8, ... 256 timesteps ago, with noise; T = 768, 64 neurons, a linear
readout (the paper: lags 32 to 256, T = 1024, 128 neurons). Every cell is trained by BPTT and online
in chunks of 16, three seeds. Measured: the lag up to which coefficients are at least a quarter
recovered on fresh data. Predicted: ``H_N`` from the envelope of the cell's effective learning
rates and the tail index of its gradients' noise, with one constant for all runs, fitted. Both are
measured at shares of training, and each part of the prediction is replaced in turn. An hour on one
core.

Writes bench/results/analysis/learnability/*.json, learnability.md and learnability.png.
"""

import argparse
import itertools
from typing import Any

import numpy as np
from _analysis_runs import RESULTS, kept
from _learnability_runs import STEPS, attainable_at_first, experiments, name_of, train
from _learnability_tables import Runs, at, predicted, sizes, table, window
from _learnability_task import CELLS, LAGS

from rtrl import analysis

COMMAND = "python bench/learnability.py"
VERDICT = """\
## What agrees with the theory, and what does not

Agrees: learning broadens envelopes (what GRUs, LSTMs and LRUs keep over 64 timesteps grows some
ten- to twentyfold); gradients are heavy-tailed where something is learned (tail index 1.4 to 1.9).
Of the DiagGates the published one, whose neurons see each other, learns far lags.

Does not:

- Longer training does not bring predicted and measured windows together: at no stage is there a
  rank correlation to speak of. Cells that learn little have stopped after a quarter of the
  training.
- The tail index acts against the theory. It says that heavier tails shorten windows; here the
  gradients of cells that learn nothing are Gaussian (2.0), and tails get heavier as lags are
  learned. With one index for all the correlation rises to 0.6.
- The envelope hardly tells cells apart. After training, DiagGate, LSTM and LRU keep about as much
  over 64 timesteps, and recover there 0.02, 0.04 to 0.14, and 0.7 to 1.
- The constant is none: f at the measured window, which the theory holds to be one threshold,
  spans a factor of twenty between cells.

What does go with the windows is what modules bring to the output: mu times what the input writes
and what the readout reads. It is near to what is measured, and no forecast: at first it says
little.

And what no rate shows: independent leaky modules keep the past, but mixed. The best readout of
their states recovers a fifth of the coefficient at lag 4 untrained, a quarter to a third trained,
and at every stage after the first the network recovers all of that. LRUs turn at many angles, and
untrained ones already give the lags 4 to 16 whole. In the published DiagGate what a readout could
recover grows along training, and it, too, recovers nearly all of it. What limits windows here is
what states tell apart, not how much gradient arrives.

Not done: 128 neurons; the published ConstGate and SharedGate; all seeds of all cells (the table
lists those there are).
"""


def draw(runs: Runs) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.8), layout="constrained")
    axes: Any = figure.subplots(1, 3)
    found, _ = predicted(runs)
    for (i, name), method in itertools.product(enumerate(CELLS), STEPS):
        here = {k: s for k, s in runs.items() if k[:2] == (name, method)}
        if not here:
            continue
        line, label = ("-", name) if method == "BPTT" else ("--", "")
        f = np.mean([sizes(s[-1], "envelope") for s in here.values()], 0)
        analysis.draw_envelope(axes[0], f, label, color=f"C{i}", ls=line)
        if method == "BPTT":
            first = np.mean([sizes(at(s, 0), "envelope") for s in here.values()], 0)
            analysis.draw_envelope(axes[0], first, color=f"C{i}", ls=":", lw=1)
        shares = np.mean([s[-1]["recovered"] for s in here.values()], 0)
        axes[1].plot(LAGS, shares, line, marker="o", color=f"C{i}", label=label)
        for k, s in here.items():
            spread = 1 + 0.12 * (k[2] - 1) + 0.03 * (i - 3)  # seeds and cells side by side
            marker = "o" if method == "BPTT" else "s"
            axes[2].plot(
                (1 + window(s[-1])) * spread, 1 + found[k], marker, color=f"C{i}", alpha=0.7
            )
    axes[0].set(title="Envelopes (dashed: online; dotted: at first)", ylim=(1e-5, 1.5))
    axes[1].set_xscale("log", base=2)
    axes[1].set(title="What was learned", xlabel="lag", ylabel="share of the coefficient")
    axes[2].plot([1, 300], [1, 300], color="0.8")
    axes[2].set(title="Windows (squares: online)", xlabel="1 + measured", ylabel="1 + predicted",
                xscale="log", yscale="log")  # fmt: skip
    axes[1].legend(frameon=False, fontsize=9)
    figure.savefig(RESULTS / "learnability.png", dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="train nothing")
    only_table = parser.parse_args().table
    runs: Runs = {}
    for name, method, seed in experiments():
        stem = name_of(name, method, seed)
        if only_table and not (RESULTS / f"{stem}.json").exists():
            continue
        runs[name, method, seed] = kept(
            stem, lambda n=name, m=method, s=seed: train(n, m, s, STEPS[m]), COMMAND
        )
    attainable = kept("learnability_attainable", attainable_at_first, COMMAND)
    (RESULTS / "learnability.md").write_text(table(runs, attainable, VERDICT))
    draw(runs)


if __name__ == "__main__":
    main()
