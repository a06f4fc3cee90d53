"""Copy task with the paper's network: every rule's training loss, three seeds.

    python bench/copying.py            run what is missing (about two minutes per run on 2 cores)
    python bench/copying.py --table    only print and draw the runs that exist

A run is one JSON file in bench/results/copying/, so an interrupted benchmark goes on where it was.
Settings follow the figures it is compared with: 4 layers, N = 64, H = 128 (268,430 parameters),
pre-norm, no dropout, batch 50, one update per sequence, rate 1e-3 and half of it for all recurrent
parameters, cosine over 1500 updates of which 800 are run.

The sequences are 48 timesteps long, so chunks of 16 always end at the same three places. The row
"rtrl-chunk16-anywhere" lets the sequence begin at a random timestep of its first chunk instead, as
on a stream.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import equinox as eqx
import jax
import numpy as np

import rtrl
from rtrl.tasks import copying, copying_loss

RESULTS = Path(__file__).parent / "results" / "copying"
SEEDS = (0, 1, 2)
UPDATES = 800
# The paper's rule gives the same gradient in one chunk as in 48 single steps, only sooner.
RULES = {
    "bptt": (rtrl.BPTT(), 48),
    "rtrl": (rtrl.RTRL(errors="timestep"), 48),
    "rtrl-chunk16": (rtrl.RTRL(errors="chunk"), 16),
    "rtrl-chunk16-anywhere": (rtrl.RTRL(errors="chunk"), 16),
    "rtrl-chunk24": (rtrl.RTRL(errors="chunk"), 24),
    "truncated": (rtrl.Truncated(), 48),
    "spatial": (rtrl.Spatial(), 48),
}
# Mean training loss over 100 updates ending at 800, released code of the paper, seed 0.
PUBLISHED = {"bptt": 0.021, "rtrl": 0.132, "truncated": 0.428, "spatial": 0.445}


def paper_network(key) -> rtrl.SequenceModel:
    model = rtrl.SequenceModel(
        in_size=8,
        out_size=14,
        width=128,
        depth=4,
        cell=lambda size, key: rtrl.cells.LRU(size, 64, key=key),
        key=key,
    )
    parameters = sum(a.size for a in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    assert parameters == 268_430, parameters
    return model


def run(name: str, seed: int) -> dict:
    rule, chunk = RULES[name]
    model = paper_network(jax.random.key(seed))
    optimizer = rtrl.paper_optimizer(
        model, 1e-3, module_factor=0.5, slow_projections=True, decay_steps=1500
    )
    anywhere = name.endswith("anywhere")
    chunks = 48 // chunk + anywhere
    learner = rtrl.OnlineLearner(copying_loss, optimizer, rule=rule, update_every=chunks)
    state = learner.init(model, batch_size=50)
    rng, phases = np.random.default_rng(seed), np.random.default_rng(seed)
    losses = []
    start = time.perf_counter()
    for update in range(UPDATES):
        xs, ys, weights = copying(50, rng=rng)
        begin = int(phases.integers(chunk)) if anywhere else 0
        xs, ys, weights = (silence_around(a, begin, chunks * chunk) for a in (xs, ys, weights))
        resets = np.arange(len(xs)) == begin
        state, out = learner.scan(state, xs, ys, weights=weights, resets=resets, chunk=chunk)
        losses.append(float((np.asarray(out.loss) * weights[:, 0]).sum()))
        if update % 100 == 99:
            print(f"{name} seed {seed}: update {update + 1}, loss {np.mean(losses[-100:]):.4f}, "
                  f"{time.perf_counter() - start:.0f} s", flush=True)  # fmt: skip
    return {
        "rule": rule.label(None if name == "bptt" else chunk),
        "chunk": chunk,
        "seed": seed,
        "loss": [round(loss, 5) for loss in losses],
        "last_100": float(np.mean(losses[-100:])),
        "seconds": round(time.perf_counter() - start, 1),
        "jax": jax.__version__,
        "command": "python bench/copying.py",
    }


def silence_around(array: np.ndarray, begin: int, length: int) -> np.ndarray:
    """Zeros before and after, so that the sequence begins at ``begin`` of ``length`` timesteps."""
    after = length - begin - len(array)
    return np.pad(array, [(begin, after)] + [(0, 0)] * (array.ndim - 1))


def table() -> str:
    lines = [
        "| rule | " + " | ".join(f"seed {s}" for s in SEEDS) + " | mean | published |",
        "|---|" + "---|" * (len(SEEDS) + 2),
    ]
    for name in RULES:
        finals = [r["last_100"] if r else np.nan for r in results(name)]
        published = PUBLISHED.get(name, "-")
        cells = [f"{x:.3f}" for x in (*finals, np.mean(finals))]
        lines.append(f"| {name} | {' | '.join(cells)} | {published} |")
    return "\n".join(lines)


def results(name: str) -> list[dict | None]:
    files = [RESULTS / f"{name}-{seed}.json" for seed in SEEDS]
    return [json.loads(f.read_text()) if f.exists() else None for f in files]


def draw(path: Path) -> None:
    """Training loss of every rule, one line a seed, running mean of 25 updates."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for color, name in zip(plt.get_cmap("tab10").colors, RULES, strict=False):  # type: ignore
        for i, result in enumerate(filter(None, results(name))):
            smooth = np.convolve(result["loss"], np.ones(25) / 25, "valid")
            label = name if i == 0 else None
            axes.plot(np.arange(25, 25 + len(smooth)), smooth, color=color, lw=1.2, label=label)
    axes.axhline(np.log(2), color="gray", ls=":", lw=1)
    axes.text(UPDATES, np.log(2), "chance", ha="right", va="bottom", color="gray")
    axes.set(xlabel="update (one sequence batch of 50)", ylabel="training loss (nats per bit)",
             yscale="log", title="Copy task, 4-layer LRU network: what rules learn")  # fmt: skip
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="only print what has been run")
    if not parser.parse_args().table:
        RESULTS.mkdir(parents=True, exist_ok=True)
        for seed, name in itertools.product(SEEDS, RULES):
            file = RESULTS / f"{name}-{seed}.json"
            if not file.exists():
                file.write_text(json.dumps(run(name, seed)) + "\n")
    print(table())
    (RESULTS.parent / "copying.md").write_text(table() + "\n")
    draw(RESULTS.parent / "copying.png")


if __name__ == "__main__":
    main()
