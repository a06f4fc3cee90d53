"""Table 4.1: the copy task under the paper's whole schedule, run for hours or a piece at a time.

    python bench/copying_schedule.py --rule "RTRL, 16 + 16"     go on with one run until it is done
    python bench/copying_schedule.py --rule BPTT --rate 4e-3 --seed 1 --minutes 5
    python bench/copying_schedule.py --cell linear --rule SnAp-1 --updates 5000
    python bench/copying_schedule.py --times                    milliseconds of one update, by rule
    python bench/copying_schedule.py --table                    only write the table

20,000 sequences, 25 epochs in a new order each, batch 20: 25,000 updates, one a sequence; dropout
.1, AdamW without decay of weights, the same rate for all parameters, cosine to zero. Four layers,
N = 64; H = 128 with LRUs (268,430 parameters), H = 146 with dense linear recurrences (267,956).
The paper scans rates over 1e-3 times 1 to 32; here each is a run. "RTRL" is the paper's rule, for
dense recurrences SnAp-1.

Every 500 updates all there is (network, optimizer, traces, keys, losses so far) goes to
build/copying_schedule/, and the means of the training loss of 500 updates each to one JSON file in
bench/results/copying_schedule/. A run that was stopped goes on from there as if nothing had
happened, bit for bit. ``--updates``: a shorter schedule, with a cosine of its own.

Source: Zucchet et al. (2023), table 4.1 and table B.2; layer norm before the recurrence, as in the
released code.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

import rtrl
from rtrl.tasks import copying, copying_loss

RESULTS = Path(__file__).parent / "results" / "copying_schedule"
CHECKPOINTS = Path("build") / "copying_schedule"
SAMPLES, BATCH, UPDATES, BLOCK = 20_000, 20, 25_000, 500
#: Features between the layers, cell, parameters.
CELLS: dict[str, tuple[int, Any, int]] = {
    "LRU": (128, rtrl.cells.LRU, 268_430),
    "linear": (146, rtrl.cells.LinearRNN, 267_956),
}
#: Rule, timesteps per chunk, overlap.
RULES: dict[str, tuple[rtrl.rules.Rule, int, int]] = {
    "spatial": (rtrl.Spatial(), 48, 0),
    "truncated": (rtrl.Truncated(), 48, 0),
    "RTRL": (rtrl.RTRL(errors="timestep"), 48, 0),
    "SnAp-1": (rtrl.SnAp1("timestep"), 48, 0),
    "RTRL, 16 + 16": (rtrl.RTRL(), 16, 16),
    "BPTT": (rtrl.BPTT(), 48, 0),
}
#: Final training loss, mean of five seeds.
PUBLISHED = {
    ("LRU", "spatial"): 0.466, ("LRU", "truncated"): 0.262, ("LRU", "RTRL"): 0.00844,
    ("LRU", "BPTT"): 7.59e-6, ("linear", "spatial"): 0.620, ("linear", "truncated"): 0.581,
    ("linear", "SnAp-1"): 0.582, ("linear", "BPTT"): 1.07e-4,
}  # fmt: skip


class Run:
    """One run: how it begins, how it goes on by a block of updates, what is kept of it."""

    def __init__(self, cell: str, rule: str, rate: float, seed: int, updates: int):
        width, kind, parameters = CELLS[cell]
        self.what = {"cell": cell, "rule": rule, "rate": rate, "seed": seed, "schedule": updates}
        self.name = f"{cell.lower()}-{slug(rule)}-{rate:g}-{updates}-{seed}"
        model = rtrl.SequenceModel(
            8, 14, width, 4, lambda size, key: kind(size, 64, key=key), dropout=0.1,
            key=jax.random.key(seed),
        )  # fmt: skip
        sizes = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
        assert sum(a.size for a in sizes) == parameters, sum(a.size for a in sizes)
        learning_rule, self.chunk, overlap = RULES[rule]
        self.learner = rtrl.OnlineLearner(
            copying_loss,
            rtrl.paper_optimizer(model, rate, module_factor=1.0, decay_steps=updates),
            rule=learning_rule, overlap=overlap, update_every=48 // self.chunk,
        )  # fmt: skip
        state = self.learner.init(model, BATCH, key=jax.random.key(1000 + seed))
        self.kept = (state, np.zeros(updates // BLOCK))  # and the mean loss of every block
        self.done, self.seed, self.updates = 0, seed, updates
        self.data = copying(SAMPLES, rng=seed)
        file = RESULTS / f"{self.name}.json"
        if file.exists() and self.checkpoint.exists():
            self.kept = rtrl.load(self.checkpoint, self.kept)
            # The checkpoint may be one block ahead of the file, if the process was killed between.
            self.done = BLOCK * int(np.count_nonzero(self.kept[1]))

    @property
    def checkpoint(self) -> Path:
        return CHECKPOINTS / f"{self.name}.rtrl"

    def update(self, state, count: int):
        """The update with this number: the new state and the loss of its sequences."""
        epoch, batch = divmod(count, SAMPLES // BATCH)
        order = np.random.default_rng((self.seed, epoch)).permutation(SAMPLES)
        chosen = order[batch * BATCH : (batch + 1) * BATCH]
        xs, ys, weights = (a[:, chosen] for a in self.data)
        resets = np.arange(len(xs)) == 0
        state, out = self.learner.scan(
            state, xs, ys, weights=weights, resets=resets, chunk=self.chunk
        )
        return state, float((np.asarray(out.loss) * weights[:, 0]).sum())

    def block(self) -> None:
        """Go on by one block and keep it."""
        start = time.perf_counter()
        (state, means), losses = self.kept, []
        for count in range(self.done, self.done + BLOCK):
            state, loss = self.update(state, count)
            losses.append(loss)
        means[self.done // BLOCK] = np.mean(losses)
        self.kept, self.done = (state, means), self.done + BLOCK
        rtrl.save(self.checkpoint, self.kept)
        seconds = time.perf_counter() - start
        found = self.what | {
            "updates": self.done,
            "loss": [float(f"{m:.4g}") for m in means[: self.done // BLOCK]],
            "ms_per_update": round(1000 * seconds / BLOCK, 1),
            "jax": jax.__version__,
            "command": "python bench/copying_schedule.py",
        }
        (RESULTS / f"{self.name}.json").write_text(json.dumps(found) + "\n")
        print(f"{self.name}: update {self.done}, loss {np.mean(losses):.5f}, {seconds:.0f} s",
              flush=True)  # fmt: skip


def slug(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def times() -> None:
    """Milliseconds of one update of every rule, the least of ten."""
    for cell, rule in [*(("LRU", r) for r in RULES if r != "SnAp-1"), ("linear", "SnAp-1")]:
        run, spent = Run(cell, rule, 1e-3, 0, UPDATES), []
        state = run.kept[0]
        for count in range(11):
            start = time.perf_counter()
            state, _ = run.update(state, count)
            spent.append(time.perf_counter() - start)
        print(f"{cell}, {rule}: {1000 * min(spent):.0f} ms an update", flush=True)


def table() -> str:
    lines = [
        "Mean training loss (dropout .1) of the last 500 updates so far.",
        "",
        "| cell | rule | rate | seed | updates | of | loss | ms an update | published |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for file in sorted(RESULTS.glob("*.json")):
        r = json.loads(file.read_text())
        published = PUBLISHED.get((r["cell"], r["rule"]))
        lines.append(
            f"| {r['cell']} | {r['rule']} | {r['rate']:g} | {r['seed']} | {r['updates']:,} "
            f"| {r['schedule']:,} | {r['loss'][-1]:.4g} | {r['ms_per_update']:.0f} "
            f"| {'-' if published is None else f'{published:.3g}'} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=list(CELLS), default="LRU")
    parser.add_argument("--rule", choices=list(RULES), default="RTRL, 16 + 16")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=UPDATES, help="a multiple of 500")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no block after these")
    parser.add_argument("--times", action="store_true", help="only time one update of each rule")
    parser.add_argument("--table", action="store_true", help="only write the table")
    chosen = parser.parse_args()
    for folder in (RESULTS, CHECKPOINTS):
        folder.mkdir(parents=True, exist_ok=True)
    if chosen.times:
        return times()
    start = time.perf_counter()
    if not chosen.table:
        run = Run(chosen.cell, chosen.rule, chosen.rate, chosen.seed, chosen.updates)
        while run.done < run.updates and time.perf_counter() - start < 60 * chosen.minutes:
            run.block()
    (RESULTS.parent / "copying_schedule.md").write_text(table() + "\n")
    print(table())


if __name__ == "__main__":
    main()
