"""Handwritten digits as 64 pixels, learned online: RTRL beside BPTT and rules without a trace.

    python bench/digits.py            run what is missing (half a minute a run on one core)
    python bench/digits.py --table    only print the runs that exist

A run is one JSON file in bench/results/digits/, so an interrupted benchmark goes on where it was.
An image of 8 x 8 is shown pixel by pixel; the label is the target of every timestep, and nobody
looks back. 20 passes over four fifths of the 1,797 images, each in a new order, sixteen images side
by side; the figure is the accuracy on the held-out fifth, logits averaged over time, after the last
pass (none is chosen). A seed sets the network, the order and the split.

The network: 2 layers of 64 LRU modules, width 64 (50,954 parameters), pre-norm, no dropout; Adam at
3e-3, half of it for module parameters, constant. With chunks of 16 there are four updates an image;
BPTT and "rtrl-64" make one. The rate was chosen with seed 0 and RTRL among 1e-3 and 3e-3, the same
for all.
"""

import argparse
import itertools
import json
import time
from importlib.metadata import version
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import optax

import rtrl
from rtrl.tasks import digits, sequence_accuracy

RESULTS = Path(__file__).parent / "results" / "digits"
SEEDS = (10, 11, 12)
EPOCHS, BATCH, RATE = 20, 16, 3e-3
RULES = {
    "rtrl-16": (rtrl.RTRL(), 16),
    "rtrl-64": (rtrl.RTRL(errors="timestep"), 64),
    "bptt": (rtrl.BPTT(), None),
    "tbptt-16": (rtrl.BPTT(), 16),
    "truncated": (rtrl.Truncated(), 16),
    "spatial": (rtrl.Spatial(), 16),
}
FLOORS = {
    "largest class": 0.103,
    "logistic regression, last row": 0.507,
    "echo state network (100)": 0.764,
    "logistic regression, whole image": 0.969,
}


@eqx.filter_jit
def predict(model, xs):
    rule = rtrl.Spatial()  # no trace: the model only predicts
    return model(xs, rtrl.init_carry(model, rule, xs.shape[1]), rule=rule)[0]


def run(name: str, seed: int) -> dict:
    rule, chunk = RULES[name]
    split = digits("pixels", rng=seed)
    test = split.test.all()
    model = rtrl.SequenceModel(
        1, 10, 64, 2, lambda size, key: rtrl.cells.LRU(size, 64, key=key), key=jax.random.key(seed)
    )
    learner = rtrl.OnlineLearner(
        optax.softmax_cross_entropy_with_integer_labels,
        rtrl.paper_optimizer(model, RATE),
        rule=rule,
    )
    state = learner.init(model, batch_size=BATCH)
    rng, resets = np.random.default_rng(seed), np.arange(64) == 0
    accuracy, start = [], time.perf_counter()
    for _ in range(EPOCHS):
        for xs, ys, weights in split.train.batches(BATCH, rng=rng, drop_last=True):
            state, _ = learner.scan(state, xs, ys, weights=weights, resets=resets, chunk=chunk)
        accuracy.append(sequence_accuracy(predict(state.model, test.xs), test))
    seconds = time.perf_counter() - start
    print(f"{name} seed {seed}: accuracy {accuracy[-1]:.3f}, {seconds:.0f} s", flush=True)
    return {
        "rule": rule.label(chunk),
        "chunk": chunk,
        "seed": seed,
        "accuracy": accuracy,
        "seconds": round(seconds, 1),
        "versions": {name: version(name) for name in ("rtrl", "jax", "optax")},
        "command": "python bench/digits.py",
    }


def table() -> str:
    lines = [
        "| rule | timesteps per chunk | "
        + " | ".join(f"seed {s}" for s in SEEDS)
        + " | mean | first epoch of .90 (all seeds) |",
        "|---|---|" + "---|" * (len(SEEDS) + 2),
    ]
    for name, (rule, chunk) in RULES.items():
        files = [RESULTS / f"{name}-{seed}.json" for seed in SEEDS]
        if all(f.exists() for f in files):
            curves = np.array([json.loads(f.read_text())["accuracy"] for f in files])
            cells = " | ".join(f"{a:.3f}" for a in (*curves[:, -1], curves[:, -1].mean()))
            good = np.flatnonzero((curves >= 0.9).all(0))
            first = str(good[0] + 1) if good.size else "-"
            lines.append(f"| {rule.label(chunk)} | {chunk or 64} | {cells} | {first} |")
    empty = " |" * len(SEEDS)
    lines += [f"| *{name}* | |{empty} {value:.3f} | |" for name, value in FLOORS.items()]
    return "\n".join(lines)


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
                file.write_text(json.dumps(run(name, seed), indent=1) + "\n")
    print(table())
    (RESULTS.parent / "digits.md").write_text(table() + "\n")


if __name__ == "__main__":
    main()
