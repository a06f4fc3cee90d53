"""Figure 4.3: how well online gradients align with BPTT's along training, and what is learned.

    python bench/alignment.py                run what is missing (a quarter of a minute a run)
    python bench/alignment.py --minutes 5    start no run after five minutes
    python bench/alignment.py --table        only the table and the picture

A run is one JSON file in bench/results/alignment/. The copy task (20 patterns of 7 bits, 7 silent
timesteps), the paper's network with layer norm after the skip; at seven points of training the
gradient of the rule that trains is compared with BPTT's over 100 fresh sequences: the cosine of all
parameters of a layer, then the mean over layers (encoder and decoder left out). Panels, as in the
figure: by depth (A, B), by the smallest |lambda| at first, the others up to 1 (C, D), by rule
(E, F); above the alignment, below the training loss. What is not in the figure: chunks of 16 with
an overlap of 16.

Shortened: N = 32 and H = 64 in place of 64 and 128, batch 20 in place of 50, 400 updates in place
of 10,000, no dropout, three seeds; a rate of 2e-3 (half for modules) everywhere, where the paper
has 1e-3 in A and B and a scanned rate in E and F. No rate was chosen here.

Source: Zucchet, thesis (2025), figure 4.3 and table B.1.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import provenance

import rtrl
from rtrl.tasks import copying, copying_loss

RESULTS = Path(__file__).parent / "results" / "alignment"
SEEDS, UPDATES, BATCH, RATE = (0, 1, 2), 400, 20, 2e-3
LOOKED_AT = (0, 25, 50, 100, 200, 300, 400)
MEAN_OF = 25  # updates, of the losses that are kept
DEPTHS, LEAST = (1, 2, 3, 4), (0.0, 0.5, 0.75, 0.9)
ONLINE, OVERLAP = "RTRL", "RTRL, 16 + 16"
#: Rule, chunk, overlap.
RULES: dict[str, tuple[rtrl.rules.Rule, int, int]] = {
    ONLINE: (rtrl.RTRL(errors="timestep"), 48, 0),
    "truncated": (rtrl.Truncated(), 48, 0),
    "spatial": (rtrl.Spatial(), 48, 0),
    OVERLAP: (rtrl.RTRL(), 16, 16),
    "BPTT": (rtrl.BPTT(), 48, 0),
}
Case = tuple[int, float, str]  # depth, smallest |lambda|, rule
#: The columns of the figure: what is varied, and its cases by the name of their line.
PANELS: dict[str, dict[str, Case]] = {
    "depth": {f"{depth} layers": (depth, 0.0, ONLINE) for depth in DEPTHS},
    "smallest |λ|": {f"|λ| from {least}": (4, least, ONLINE) for least in LEAST},
    "rule": {name: (4, 0.0, name) for name in RULES},
}
PANELS["depth"] = {name.replace("1 layers", "1 layer"): c for name, c in PANELS["depth"].items()}
CASES = list(dict.fromkeys(c for lines in reversed(PANELS.values()) for c in lines.values()))


def gradient_of(model, rule: str, data):
    kind, chunk, overlap = RULES[rule]
    xs, ys, weights = data
    return rtrl.sequence_gradient(
        model, copying_loss, xs, ys, rule=kind, chunk=chunk, overlap=overlap, weights=weights
    )


def run(depth: int, least: float, rule: str, seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    model = rtrl.SequenceModel(
        8, 14, 64, depth, lambda size, key: rtrl.cells.LRU(size, 32, r_min=least, key=key),
        norm="post", key=jax.random.key(seed),
    )  # fmt: skip
    optimizer = rtrl.paper_optimizer(model, RATE, decay_steps=UPDATES)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, data):
        loss, grads = gradient_of(eqx.combine(params, static), rule, data)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    fresh = jax.tree.map(jnp.asarray, tuple(copying(100, rng=1000 + seed)))
    rng, losses, alignment = np.random.default_rng(seed), [], []
    for count in range(UPDATES + 1):
        if count in LOOKED_AT:
            network = eqx.combine(params, static)
            _, exact = gradient_of(network, "BPTT", fresh)
            _, grads = gradient_of(network, rule, fresh)
            layers = rtrl.analysis.cosine_by_layer(grads, exact)
            alignment.append([round(float(layers[f"layers[{i}]"]), 6) for i in range(depth)])
        if count < UPDATES:
            data = jax.tree.map(jnp.asarray, tuple(copying(BATCH, rng=rng)))
            params, state, loss = update(params, state, data)
            losses.append(float(loss))
    means = np.mean(np.reshape(losses, (-1, MEAN_OF)), 1)
    seconds = round(time.perf_counter() - start, 1)
    print(f"{depth} layers, |lambda| from {least}, {rule}, seed {seed}: loss {means[-1]:.4f}, "
          f"alignment {np.mean(alignment[-1]):.3f}, {seconds} s", flush=True)  # fmt: skip
    return {
        "depth": depth, "least": least, "rule": rule, "seed": seed, "updates": LOOKED_AT,
        "alignment_by_layer": alignment, "loss": means.round(5).tolist(), "seconds": seconds,
    } | provenance()  # fmt: skip


def file_of(case: Case, seed: int) -> Path:
    depth, least, rule = case
    name = "".join(c for c in rule.lower() if c.isalnum())
    return RESULTS / f"depth{depth}-least{least:g}-{name}-{seed}.json"


def results_of(case: Case) -> list[dict]:
    files = [file_of(case, seed) for seed in SEEDS]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def mean_of(results: list[dict], key: str) -> np.ndarray:
    return np.mean([r[key] for r in results], 0)


def table(found: dict[Case, list[dict]]) -> str:
    lines = [
        "Cosine to BPTT's gradient along training (mean over layers; the last column by layer, "
        f"first to last, after {UPDATES} updates), and training loss of the last {MEAN_OF}; means "
        f"over {max(map(len, found.values()))} seeds, of the loss with its lowest and highest.",
        "",
        "| varied | line | "
        + " | ".join(f"at {n}" for n in LOOKED_AT)
        + " | loss | by layer at the end |",
        "|---|---|" + "---:|" * (len(LOOKED_AT) + 1) + "---|",
    ]
    for varied, cases in PANELS.items():
        for name, case in cases.items():
            if case not in found:
                continue
            layers = mean_of(found[case], "alignment_by_layer")
            losses = [r["loss"][-1] for r in found[case]]
            cells = [f"{np.mean(a):.3f}" for a in layers]
            cells += [f"{np.mean(losses):.3f} ({min(losses):.3f}-{max(losses):.3f})"]
            last = " ".join(f"{a:.3f}" for a in layers[-1])
            lines.append(
                f"| {varied} | {name} | {' | '.join(cells)} | {last} |".replace("|λ|", "λ")
            )
    return "\n".join(lines)


def draw(found: dict[Case, list[dict]], path: Path) -> None:
    """Two rows: alignment, loss. Three columns: depth, smallest |lambda|, rule."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.2), layout="constrained")
    rows = figure.subplots(2, len(PANELS), sharex=True, sharey="row")
    for column, (varied, cases) in enumerate(PANELS.items()):
        top, bottom = rows[:, column]
        shades = [f"C{i}" for i in range(9)] if varied == "rule" else list("3210")
        for i, (name, case) in enumerate(cases.items()):
            if case not in found:
                continue
            colour = shades[i] if varied == "rule" else (0.1, 0.3, 0.25 + 0.22 * i, 1 - 0.2 * i)
            results = found[case]
            style = {"color": colour, "lw": 2, "label": name}
            if name != "BPTT":
                top.plot(LOOKED_AT, mean_of(results, "alignment_by_layer").mean(1), **style)
            losses = [r["loss"] for r in results]
            updates = MEAN_OF * (0.5 + np.arange(len(losses[0])))
            bottom.plot(updates, np.mean(losses, 0), **style)
            span = np.min(losses, 0), np.max(losses, 0)
            bottom.fill_between(updates, *span, color=style["color"], alpha=0.15, lw=0)
        bottom.axhline(np.log(2), color="0.5", ls=":")
        top.set_title(f"{'ACE'[column]}: {varied}")
        bottom.set(title="BDF"[column], xlabel="update", yscale="log")
        bottom.legend(frameon=False, fontsize=9)
        for axes in (top, bottom):
            axes.grid(color="0.92")
    rows[0, 0].set_ylabel("cosine to BPTT, mean over layers")
    rows[1, 0].set_ylabel("training loss (dotted: chance)")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="compute nothing")
    parser.add_argument("--only", default="", help="run only files whose name contains this")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after these")
    arguments = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    for seed, case in () if arguments.table else itertools.product(SEEDS, CASES):
        late, file = time.perf_counter() - start > 60 * arguments.minutes, file_of(case, seed)
        if not file.exists() and arguments.only in file.stem and not late:
            file.write_text(json.dumps(run(*case, seed)) + "\n")
    found = {case: results for case in CASES if (results := results_of(case))}
    (RESULTS.parent / "alignment.md").write_text(table(found) + "\n")
    draw(found, RESULTS.parent / "alignment.png")
    print(table(found))


if __name__ == "__main__":
    main()
