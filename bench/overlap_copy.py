"""Copy task with the paper's network: what an overlap of chunks buys, three seeds.

    python bench/overlap_copy.py            run what is missing (two to four minutes per run)
    python bench/overlap_copy.py --table    only print and draw the runs that exist

A run is one JSON file in bench/results/overlap/, so an interrupted benchmark goes on where it was.
The network, the data and the optimizer are those of bench/copying.py: 4 layers of LRUs, N = 64,
H = 128, batch 50, sequences of 48 timesteps, one update per sequence. The settings without an
overlap are those that bench/copying.py has run, with the same seeds.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from copying import UPDATES, paper_network  # type: ignore[import-not-found]

import rtrl
from rtrl.tasks import copying, copying_loss

RESULTS = Path(__file__).parent / "results" / "overlap"
SEEDS = (0, 1, 2)
#: (timesteps per chunk, overlap), by name.
SETTINGS = {"K=16 overlap 16": (16, 16), "K=8 overlap 8": (8, 8)}
BPTT = "BPTT"
#: What bench/copying.py calls the settings without an overlap.
PLAIN = {BPTT: "bptt", "K=1": "rtrl", "K=16": "rtrl-chunk16", "K=24": "rtrl-chunk24"}


def run(name: str, seed: int, see: Callable = lambda updates, model: None) -> dict:
    """Train; every 100 updates ``see`` gets the network."""
    chunk, overlap = SETTINGS[name]
    model = paper_network(jax.random.key(seed))
    optimizer = rtrl.paper_optimizer(
        model, 1e-3, module_factor=0.5, slow_projections=True, decay_steps=1500
    )
    params, static = eqx.partition(model, eqx.is_inexact_array)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, xs, ys, weights):
        loss, grads = rtrl.sequence_gradient(
            eqx.combine(params, static), copying_loss, xs, ys, rule=rtrl.RTRL(),
            chunk=chunk, overlap=overlap, weights=weights,
        )  # fmt: skip
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    rng = np.random.default_rng(seed)
    losses: list[float] = []
    start = time.perf_counter()
    for count in range(UPDATES):
        xs, ys, weights = map(jnp.asarray, copying(50, rng=rng))
        params, state, loss = update(params, state, xs, ys, weights)
        losses.append(float(loss))
        if count % 100 == 99:
            see(count + 1, eqx.combine(params, static))
            print(f"{name} seed {seed}: update {count + 1}, loss {np.mean(losses[-100:]):.4f}, "
                  f"{time.perf_counter() - start:.0f} s", flush=True)  # fmt: skip
    return {
        "name": name,
        "chunk": chunk,
        "overlap": overlap,
        "seed": seed,
        "loss": [round(loss, 5) for loss in losses],
        "last_100": float(np.mean(losses[-100:])),
        "seconds": round(time.perf_counter() - start, 1),
        "jax": jax.__version__,
        "command": "python bench/overlap_copy.py",
    }


def file_of(name: str, seed: int) -> Path:
    if name in PLAIN:
        return RESULTS.parent / "copying" / f"{PLAIN[name]}-{seed}.json"
    return RESULTS / f"copy-{name.lower().replace('=', '').replace(' ', '-')}-{seed}.json"


def results(name: str) -> list[dict | None]:
    files = [file_of(name, seed) for seed in SEEDS]
    return [json.loads(f.read_text()) if f.exists() else None for f in files]


def table() -> str:
    lines = [
        "Mean training loss over the last 100 of 800 updates; -: not run.",
        "",
        "| setting | " + " | ".join(f"seed {s}" for s in SEEDS) + " | mean | of BPTT's, worst |",
        "|---|" + "---:|" * (len(SEEDS) + 2),
    ]

    def finals(name):
        return np.array([np.nan if r is None else r["last_100"] for r in results(name)])

    for name in (*PLAIN, *SETTINGS):
        losses = finals(name)
        cells = ["-" if np.isnan(x) else f"{x:.4f}" for x in (*losses, np.nanmean(losses))]
        worst = np.nanmax(losses / finals(BPTT))
        lines.append(f"| {name} | {' | '.join(cells)} | {worst:.2f} x |")
    return "\n".join(lines)


def draw(path: Path) -> None:
    """Training loss of every setting, one line a seed, running mean of 25 updates."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for color, name in zip(plt.get_cmap("tab10").colors, (*PLAIN, *SETTINGS), strict=False):  # type: ignore
        for i, result in enumerate(filter(None, results(name))):
            smooth = np.convolve(result["loss"], np.ones(25) / 25, "valid")
            label = name if i == 0 else None
            axes.plot(np.arange(25, 25 + len(smooth)), smooth, color=color, lw=1.2, label=label)
    axes.set(xlabel="update (one sequence batch of 50)", ylabel="training loss (nats per bit)",
             yscale="log", title="Copy task, 4-layer LRU network: overlapping chunks")  # fmt: skip
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
        for name in SETTINGS:
            for seed in SEEDS:
                file = file_of(name, seed)
                if not file.exists():
                    file.write_text(json.dumps(run(name, seed)) + "\n")
    print(table())
    (RESULTS.parent / "overlap_copy.md").write_text(table() + "\n")
    draw(RESULTS.parent / "overlap_copy.png")


if __name__ == "__main__":
    main()
