"""Overlapping chunks: how close to BPTT's gradient, for how much time.

    python bench/overlap.py            run what is missing, then write the tables and the picture
    python bench/overlap.py --table    only the tables and the picture, of the runs that exist
    python bench/overlap.py --speed    only time again

Cosine to BPTT's gradient, layer by layer: four layers of LRUs (N = 64, H = 128) with encoder and
decoder as initialised, noise of 256 timesteps, batch of 4, three seeds. TBPTT is BPTT in chunks;
with an overlap it is rolling, every window anew from a state without sensitivities. A run is one
JSON file in bench/results/overlap/.

Time: the same network, batch 1, 2,048 timesteps, parameters held fixed, one core. The programs take
turns, and what is reported of each is the least processor's time of all rounds, as a busy machine
makes nothing faster.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from _timing import RESULTS as ROOT
from _timing import alternate, digits, pin, provenance, say

RESULTS = ROOT / "overlap"
SEEDS = (0, 1, 2)
LENGTH, BATCH, FEATURES, WIDTH, MODULES, DEPTH = 256, 4, 8, 128, 64, 4
TIMED = 2048
RTRL, TBPTT = "RTRL", "TBPTT"
#: (rule, timesteps per chunk, overlap)
SETTINGS = [
    *((RTRL, k, o) for k, o in ((1, 0), (16, 0), (32, 0), (64, 0), (1, 15), (8, 8), (16, 16),
                                (32, 32))),
    *((TBPTT, k, o) for k, o in ((32, 0), (64, 0), (16, 16), (32, 32))),
]  # fmt: skip
#: Those that are timed.
FEW = [(RTRL, 16, 0), (RTRL, 8, 8), (RTRL, 16, 16), (TBPTT, 16, 16)]


def label(rule: str, chunk: int, overlap: int) -> str:
    return f"{rule} K={chunk}" + (f" overlap {overlap}" if overlap else "")


def file_of(setting: tuple[str, int, int], seed: int) -> Path:
    rule, chunk, overlap = setting
    return RESULTS / f"cosine-{rule.lower()}-{chunk}-{overlap}-{seed}.json"


def problem(seed: int, length: int, batch: int | None):
    import jax

    import rtrl

    key, x_key, y_key = jax.random.split(jax.random.key(seed), 3)
    model = rtrl.SequenceModel(
        FEATURES, FEATURES, WIDTH, DEPTH,
        lambda size, key: rtrl.cells.LRU(size, MODULES, key=key), key=key,
    )  # fmt: skip
    shape = (length, FEATURES) if batch is None else (length, batch, FEATURES)
    return model, jax.random.normal(x_key, shape), jax.random.normal(y_key, shape)


def cosines() -> None:
    """One file a setting and seed; what is there is not run again."""
    import jax.numpy as jnp

    import rtrl

    def loss(prediction, target):
        return jnp.mean((prediction - target) ** 2)

    for seed in SEEDS:
        missing = [s for s in SETTINGS if not file_of(s, seed).exists()]
        if not missing:
            continue
        model, xs, ys = problem(seed, LENGTH, BATCH)
        exact = rtrl.sequence_gradient(model, loss, xs, ys, rule=rtrl.BPTT())[1]
        for setting in missing:
            rule, chunk, overlap = setting
            grads = rtrl.sequence_gradient(
                model, loss, xs, ys, rule=rtrl.RTRL() if rule == RTRL else rtrl.BPTT(),
                chunk=chunk, overlap=overlap,
            )[1]  # fmt: skip
            layers = rtrl.analysis.cosine_by_layer(grads, exact)
            row = {name: float(f"{float(c):.7f}") for name, c in layers.items()}
            say(f"{label(*setting)}, seed {seed}: {row}")
            result = {"rule": rule, "chunk": chunk, "overlap": overlap, "seed": seed,
                      "cosine": row, "command": "python bench/overlap.py"}  # fmt: skip
            file_of(setting, seed).write_text(json.dumps(result, indent=1) + "\n")


def speed() -> None:
    """Processor's microseconds a timestep, and the bars of speed and memory."""
    import jax.numpy as jnp
    from _networks import Gradient, plain_bptt

    import rtrl

    def loss(prediction, target):
        return jnp.mean((prediction - target) ** 2)

    model, xs, ys = problem(0, 2 * TIMED, None)
    one = (model, xs[:TIMED], ys[:TIMED])

    def program(rule, chunk, overlap, data=one):
        def gradient(network, xs, ys):
            return rtrl.sequence_gradient(
                network, loss, xs, ys, rule=rtrl.RTRL() if rule == RTRL else rtrl.BPTT(),
                chunk=chunk, overlap=overlap,
            )  # fmt: skip

        return Gradient(*data, function=gradient)

    programs = {
        "BPTT": Gradient(*one, rtrl.BPTT(), loss=loss),
        "BPTT by hand": Gradient(*one, function=plain_bptt),
        # As many chunks as there are windows of 16 + 16 timesteps.
        "RTRL K=32, twice as long": program(RTRL, 32, 0, (model, xs, ys)),
    }
    programs |= {label(*setting): program(*setting) for setting in FEW}
    say("compiled")
    worked: dict[str, list[float]] = {}
    alternate(programs, 40, 150, worked)
    least = {name: digits(1e6 * min(times) / TIMED) for name, times in worked.items()}
    bptt = min(least["BPTT"], least["BPTT by hand"])
    window = label(RTRL, 16, 16)
    memory = {
        overlap: rtrl.memory_report(model, rtrl.RTRL(), None, 16, overlap=overlap)._asdict()
        for overlap in (0, 16, 256)
    }
    result = provenance() | {
        "rounds": len(worked["BPTT"]),
        "processor's microseconds a timestep, least": least,
        "K=16 overlap 16 / BPTT (at most 2.3)": digits(least[window] / bptt),
        "a window / a chunk of its length (at most 1.1)": digits(
            least[window] / least["RTRL K=32, twice as long"]
        ),
        "temporaries": {name: p.temporaries() for name, p in programs.items()},
        "memory of a learner, bytes, by overlap": memory,
    }
    (RESULTS / "speed.json").write_text(json.dumps(result, indent=1) + "\n")


def rows() -> list[dict]:
    """Every setting that has been run: cosines, mean over seeds, and time relative to BPTT."""
    file = RESULTS / "speed.json"
    timed = json.loads(file.read_text()) if file.exists() else {}
    least = timed.get("processor's microseconds a timestep, least", {})
    bptt = min((least[n] for n in ("BPTT", "BPTT by hand") if n in least), default=np.nan)
    found = []
    for setting in SETTINGS:
        runs = [json.loads(f.read_text()) for f in (file_of(setting, s) for s in SEEDS)
                if f.exists()]  # fmt: skip
        if runs:
            table = np.array([[r["cosine"][f"layers[{i}]"] for i in range(DEPTH)] for r in runs])
            name = label(*setting)
            found.append({"name": name, "rule": setting[0], "overlap": setting[2], "cosine": table,
                          "runs": (setting[1] + setting[2]) / setting[1],
                          "time": least.get(name, np.nan) / bptt, "seeds": len(runs)})  # fmt: skip
    return found


def table() -> str:
    lines = [
        "Cosine to BPTT's gradient, mean of the seeds that were run, in brackets the least; "
        "processor's time relative to BPTT's.",
        "",
        "| setting | layer 1 | layer 2 | layer 3 | layer 4 | time |",
        "|---|" + "---:|" * 5,
    ]
    for row in rows():
        cells = [f"{c.mean():.4f} ({c.min():.4f})" for c in row["cosine"].T]
        time = "-" if np.isnan(row["time"]) else f"{row['time']:.2f}"
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {time} |")
    file = RESULTS / "speed.json"
    if file.exists():
        result = json.loads(file.read_text())
        lines += ["", f"Time: `{result['command']}`, {result['rounds']} rounds, load "
                  f"{result['load']} at the end.", ""]  # fmt: skip
        for name, value in result.items():
            if "at most" in name:
                lines.append(f"- {name}: **{value}**")
        for overlap, report in result["memory of a learner, bytes, by overlap"].items():
            lines.append(f"- memory of a learner with overlap {overlap}, K=16: traces "
                         f"{report['traces']:,} bytes, states {report['states']:,}, data and held "
                         f"inputs {report['data']:,}, temporaries "
                         f"{report['temporaries']:,}")  # fmt: skip
    return "\n".join(lines) + "\n"


def draw(path: Path) -> None:
    """How far from BPTT's direction, against what is run: first layer, and mean over layers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if not rows():
        return
    figure, panels = plt.subplots(1, 2, figsize=(12, 5.5), layout="constrained", sharey=True)
    kinds = {
        (RTRL, False): ("C0", "o", "RTRL in chunks"),
        (RTRL, True): ("C3", "s", "RTRL in overlapping chunks"),
        (TBPTT, False): ("C7", "o", "TBPTT"),
        (TBPTT, True): ("C7", "s", "rolling TBPTT"),
    }
    for panel, title in zip(panels, ("first layer", "mean over layers"), strict=True):
        for kind, (color, marker, name) in kinds.items():
            mine = [r for r in rows() if (r["rule"], r["overlap"] > 0) == kind]
            far = [1 - (r["cosine"][:, 0] if title == "first layer" else r["cosine"].mean(1)).mean()
                   for r in mine]  # fmt: skip
            panel.scatter([r["runs"] for r in mine], far, c=color, marker=marker, label=name)
            for r, y in zip(mine, far, strict=True):
                text = r["name"].split(" ", 1)[1].replace("overlap", "+")
                panel.annotate(text, (r["runs"], y), xytext=(4, 3), textcoords="offset points",
                               fontsize=8, color=color)  # fmt: skip
        panel.set(xscale="log", yscale="log", title=title, xlabel="timesteps run for every new one")
        panel.set_xticks((1, 2, 4, 8, 16), ("1", "2", "4", "8", "16"))
        panel.set_xticks((), minor=True)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("1 - cosine to BPTT's gradient")
    panels[1].legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--speed", action="store_true", help="only time again")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not options.table:
        pin(1)
        if options.speed or not (RESULTS / "speed.json").exists():
            speed()
        if not options.speed:
            cosines()
    (ROOT / "overlap.md").write_text(table())
    draw(ROOT / "overlap.png")
    print(table())


if __name__ == "__main__":
    main()
