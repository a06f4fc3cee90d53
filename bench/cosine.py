"""How close each rule's gradient comes to that of backpropagation through time, layer by layer.

    python bench/cosine.py            compute, then write the table and the picture
    python bench/cosine.py --table    only the table and the picture, from the figures that exist

Four layers of LRUs (N = 64, H = 128) as initialised, random inputs and targets, T = 256, batch of
20; mean over five seeds of the cosine between the gradient of a rule that learns in chunks of K
timesteps and BPTT's, over all parameters of a layer. RTRL carries its trace from chunk to chunk;
TBPTT carries the hidden state alone. Two networks: the bare stack, whose output is compared with
the target as it is, and the same with a dense encoder and decoder, where every rule comes closer
in the lower layers.

Writes bench/results/cosine.json, .md and .png; exits with 1 unless K = 64 >= K = 16 >= K = 1 in
the mean over layers and K = T is exact, for both networks.

Layer norm sits after the skip, as in the paper: then no parameter of the last layer is below its
recurrence, and the online gradient is exact there.
"""

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import rtrl

RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2, 3, 4)
CHUNKS = (1, 4, 16, 64, 256)
LENGTH, BATCH, WIDTH, MODULES, DEPTH = 256, 20, 128, 64, 4
NETWORKS = ("bare stack", "with encoder and decoder")
CHUNK, TIMESTEP, TBPTT = "RTRL, chunk errors", "RTRL, timestep errors", "TBPTT, no trace"
# The errors of the same timestep give the same gradient for every K.
RULES = (
    [(CHUNK, rtrl.RTRL(errors="chunk"), k) for k in CHUNKS]
    + [(TIMESTEP, rtrl.RTRL(errors="timestep"), 16)]
    + [(TBPTT, rtrl.BPTT(), k) for k in CHUNKS]
)


def squared_error(prediction, target):
    return jnp.mean((prediction - target) ** 2)


def problem(network: str, seed: int):
    """The network, and inputs and targets (time, batch, features) that are noise."""
    model_key, x_key, y_key = jax.random.split(jax.random.key(seed), 3)
    bare = network == "bare stack"
    model = rtrl.SequenceModel(
        in_size=WIDTH,
        out_size=WIDTH,
        width=WIDTH,
        depth=DEPTH,
        cell=lambda size, key: rtrl.cells.LRU(size, MODULES, key=key),
        norm="post",
        encoder=eqx.nn.Identity() if bare else None,
        decoder=eqx.nn.Identity() if bare else None,
        key=model_key,
    )
    shape = (LENGTH, BATCH, WIDTH)
    return model, jax.random.normal(x_key, shape), jax.random.normal(y_key, shape)


def cosines(network: str, seed: int) -> list[list[float]]:
    """Cosine to BPTT of every rule of `RULES` (rows) in every recurrent layer (columns)."""
    model, xs, ys = problem(network, seed)
    _, exact = rtrl.sequence_gradient(model, squared_error, xs, ys, rule=rtrl.BPTT())
    rows = []
    for _, rule, chunk in RULES:
        _, grads = rtrl.sequence_gradient(model, squared_error, xs, ys, rule=rule, chunk=chunk)
        layers = rtrl.analysis.cosine_by_layer(grads, exact)
        rows.append([float(layers[f"layers[{i}]"]) for i in range(DEPTH)])
    return rows


def measure() -> dict:
    start = time.perf_counter()
    rows = []
    for network in NETWORKS:
        by_seed = []
        for seed in SEEDS:
            by_seed.append(cosines(network, seed))
            print(f"{network}, seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
        by_seed = np.array(by_seed)
        for i, (rule, _, chunk) in enumerate(RULES):
            rows.append({
                "network": network,
                "rule": rule,
                "chunk": None if rule == TIMESTEP else chunk,
                "mean": by_seed[:, i].mean(0).round(8).tolist(),
                "deviation": by_seed[:, i].std(0, ddof=1).round(8).tolist(),
                "by_seed": by_seed[:, i].round(8).tolist(),
            })  # fmt: skip
    return {
        "command": "python bench/cosine.py",
        "versions": {"python": sys.version.split()[0]}
        | {name: version(name) for name in ("jax", "jaxlib", "equinox", "numpy")},
        "setting": {
            "layers": DEPTH, "N": MODULES, "H": WIDTH, "T": LENGTH, "batch": BATCH,
            "norm": "post", "seeds": SEEDS, "device": jax.devices()[0].platform,
        },
        "seconds": round(time.perf_counter() - start, 1),
        "rows": rows,
    }  # fmt: skip


def means(result: dict, network: str, rule: str) -> dict[int | None, np.ndarray]:
    """Mean cosine by layer for every chunk size of a rule."""
    return {
        row["chunk"]: np.array(row["mean"])
        for row in result["rows"]
        if (row["network"], row["rule"]) == (network, rule)
    }


def check(result: dict) -> list[str]:
    """What contradicts the claim, in words; nothing if it holds."""
    wrong = []
    for network in NETWORKS:
        by_chunk = means(result, network, CHUNK)
        ordered = [float(by_chunk[k].mean()) for k in (1, 16, 64)]
        if ordered != sorted(ordered):
            wrong.append(f"{network}: mean cosines of K = 1, 16, 64 do not rise: {ordered}")
        least = by_chunk[LENGTH].min()
        if least < 1 - 1e-6:
            wrong.append(f"{network}: K = T is not exact, smallest cosine 1 - {1 - least:.1e}")
    return wrong


def table(result: dict) -> str:
    headings = [f"layer {i + 1}" for i in range(DEPTH)]
    lines = [
        f"Cosine to the BPTT gradient, mean over {len(SEEDS)} seeds: {DEPTH} layers of LRUs, "
        f"N = {MODULES}, H = {WIDTH},\nT = {LENGTH}, batch {BATCH}, at initialisation, random "
        "inputs and targets. K: timesteps per chunk.",
        "",
        f"| network | rule | K | {' | '.join(headings)} | mean |",
        "|---|---|---:|" + "---:|" * (DEPTH + 1),
    ]
    for row in result["rows"]:
        # Only what is exact to the sixth decimal is written as 1.
        values = [*row["mean"], np.mean(row["mean"])]
        cells = ["1" if x >= 1 - 1e-6 else f"{min(x, 0.9999):.4f}" for x in values]
        name, chunk = f"{row['network']} | {row['rule']}", row["chunk"] or "any"
        lines.append(f"| {name} | {chunk} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(result: dict, path: Path) -> None:
    """A row a network, a panel a layer: cosine against K, RTRL against TBPTT."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    rows = figure.subplots(len(NETWORKS), DEPTH, sharex=True, sharey="row")
    styles = ((CHUNK, "C3", "o", "-"), (TBPTT, "C0", "s", "--"))
    for network, panels in zip(NETWORKS, rows, strict=True):
        for layer, axes in enumerate(panels):
            paper = means(result, network, TIMESTEP)[None][layer]
            axes.axhline(paper, color="0.4", ls=":", lw=2, label=f"{TIMESTEP}, any K")
            for rule, colour, marker, line in styles:
                points = means(result, network, rule)
                values = [points[k][layer] for k in CHUNKS]
                axes.plot(CHUNKS, values, color=colour, marker=marker, ls=line, lw=2, label=rule)
            axes.set_xscale("log", base=4)
            axes.set_xticks(CHUNKS, [str(k) for k in CHUNKS])
            axes.tick_params(labelsize=12)
            axes.minorticks_off()
            axes.grid(color="0.9")
        panels[0].set_ylabel(f"{network}\ncosine to BPTT", size=13)
    for layer in range(DEPTH):
        last = " (last)" if layer == DEPTH - 1 else ""
        rows[0, layer].set_title(f"layer {layer + 1}{last}", size=14)
        rows[-1, layer].set_xlabel("K, timesteps per chunk", size=13)
    figure.legend(
        *rows[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=13
    )
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="compute nothing, rewrite the table")
    file = RESULTS / "cosine.json"
    if parser.parse_args().table:
        result = json.loads(file.read_text())
    else:
        result = measure()
        RESULTS.mkdir(exist_ok=True)
        file.write_text(json.dumps(result) + "\n")
    (RESULTS / "cosine.md").write_text(table(result))
    draw(result, RESULTS / "cosine.png")
    print(table(result))
    wrong = check(result)
    print("\n".join(wrong) if wrong else "passed: rises with K, exact at K = T")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
