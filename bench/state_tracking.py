"""Streaming state tracking: parity and addition modulo three, learned online by RTRL.

    python bench/state_tracking.py            run, write results/state_tracking.json, check
    python bench/state_tracking.py --table    print the table of the last run

A stream of sequences of random length up to 40, their symbols uniform; after every symbol the
target is the sum of the sequence so far modulo m. Sixteen streams are learned side by side, one
update per timestep, nothing is stored but the RTRL trace. Then learning stops, and 1000 fresh
sequences of length 40 and 200 are predicted: five times longer than any seen in training.

A gate that the input can turn negative (`SignedGate`) holds parity, one that it can turn by any
angle (`ComplexGate`) holds sums modulo three; a positive one (`MinGRU`) cannot hold parity, under
the same linear readout or under a gated nonlinear one. Exits with 1 if one of these does not show.

Targets are one-hot, the loss is the squared error and the readout linear: the state itself must
then be right, which is what holds for five times the length. Cross entropy with a gated readout
learns length 40 as well, but stops before the angle is exact, and drifts beyond. This choice and
the rate were made on seeds 0-2; those reported are others.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import rtrl

RESULTS = Path(__file__).parent / "results" / "state_tracking.json"
SEEDS = (10, 11, 12)
LONGEST, STREAMS, TIMESTEPS, TEST = 40, 16, 40_000, 1000
LINEAR = {"glu": None, "activation": lambda y: y}
#: Cell, readout, modulus, lowest and highest accuracy at the last symbol that pass.
RUNS = {
    "parity, SignedGate": (rtrl.cells.SignedGate, LINEAR, 2, (0.99, 1.0)),
    "sum modulo 3, ComplexGate": (rtrl.cells.ComplexGate, LINEAR, 3, (0.99, 1.0)),
    "parity, MinGRU": (rtrl.cells.MinGRU, LINEAR, 2, (0.0, 0.9)),
    "parity, MinGRU, gated readout": (rtrl.cells.MinGRU, {"glu": "full"}, 2, (0.0, 0.9)),
}


def loss(prediction, target):
    return ((prediction - jax.nn.one_hot(target, prediction.shape[-1])) ** 2).sum()


def stream(modulus: int, rng: np.random.Generator, timesteps: int):
    """Symbols, sums modulo m since the last reset, and resets, ``(time, streams)``."""
    xs = rng.integers(0, modulus, (timesteps, STREAMS))
    resets = np.zeros((timesteps, STREAMS), bool)
    for b in range(STREAMS):
        lengths = rng.integers(1, LONGEST + 1, timesteps)
        starts = np.cumsum(lengths) - lengths
        resets[starts[starts < timesteps], b] = True
    ys = np.zeros_like(xs)
    total = np.zeros(STREAMS, int)
    for t in range(timesteps):
        total = (np.where(resets[t], 0, total) + xs[t]) % modulus
        ys[t] = total
    return np.eye(modulus, dtype=np.float32)[xs], ys, resets


@eqx.filter_jit
def predict(model, xs):
    rule = rtrl.Spatial()  # no trace: the model only predicts
    prediction, _ = model(xs, rtrl.init_carry(model, rule, xs.shape[1]), rule=rule)
    return prediction.argmax(-1)


def accuracy(model, modulus: int, length: int, rng: np.random.Generator) -> dict:
    xs = rng.integers(0, modulus, (length, TEST))
    ys = np.cumsum(xs, 0) % modulus
    right = np.asarray(predict(model, jnp.eye(modulus)[xs])) == ys
    return {"last": float(right[-1].mean()), "mean": float(right.mean())}


def run(name: str, seed: int) -> dict:
    cell, readout, modulus, _ = RUNS[name]
    model = rtrl.SequenceModel(
        modulus, modulus, 32, 1, lambda size, key: cell(size, 32, key=key), norm=None,
        key=jax.random.key(seed), **readout,
    )  # fmt: skip
    schedule = optax.cosine_decay_schedule(3e-3, TIMESTEPS)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    learner = rtrl.OnlineLearner(loss, optimizer, rule=rtrl.RTRL())
    state = learner.init(model, batch_size=STREAMS)
    rng = np.random.default_rng(seed)
    start = time.perf_counter()
    for block in range(TIMESTEPS // 1000):
        xs, ys, resets = stream(modulus, rng, 1000)
        state, out = learner.scan(state, xs, ys, chunk=1, resets=resets)
        if block % 10 == 9:
            print(f"{name}, seed {seed}: timestep {1000 * (block + 1)}, "
                  f"loss {float(out.loss.mean()):.4f}", flush=True)  # fmt: skip
    test = {length: accuracy(state.model, modulus, length, rng) for length in (LONGEST, 200)}
    return {
        "run": name,
        "seed": seed,
        "modulus": modulus,
        "accuracy": test,
        "seconds": round(time.perf_counter() - start, 1),
    }


def table(results: dict) -> str:
    lines = [
        "| task, cell | seed | accuracy at symbol 40 | at symbol 200 | over 200 symbols | chance |",
        "|---|---|---|---|---|---|",
    ]
    for r in results["runs"]:
        at40, at200 = r["accuracy"]["40"], r["accuracy"]["200"]
        lines.append(
            f"| {r['run']} | {r['seed']} | {at40['last']:.3f} | {at200['last']:.3f} "
            f"| {at200['mean']:.3f} | {1 / r['modulus']:.3f} |"
        )
    return "\n".join(lines)


def shows(results: dict) -> bool:
    """Whether every run came out as it should, at both lengths and for every seed."""
    return all(
        low <= at["last"] <= high
        for r in results["runs"]
        for low, high in [RUNS[r["run"]][3]]
        for at in r["accuracy"].values()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="only print what has been run")
    if not parser.parse_args().table:
        results = {
            "command": "python bench/state_tracking.py",
            "jax": jax.__version__,
            "timesteps": TIMESTEPS,
            "streams": STREAMS,
            "runs": [run(name, seed) for name in RUNS for seed in SEEDS],
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(RESULTS.read_text())
    print(table(results))
    sys.exit(not shows(results))


if __name__ == "__main__":
    main()
