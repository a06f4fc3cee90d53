"""Next-step prediction of chaotic series by every rule, beside published figures.

    python bench/chaos.py            run what is missing of results/chaos/, write the table
    python bench/chaos.py --table    write the table of what has been run

A vanilla tanh RNN of 64 units with a linear readout predicts the next value of the Henon map, the
Mackey-Glass equation (tau 17) and the first coordinate of the Lorenz system, 15,000 timesteps
each, one Adam update per timestep. Beside it a `SequenceModel` of two LRU layers under RTRL, in
single steps and in chunks of 16 with chunk errors (one update per chunk). The learning rate of
every rule and task is the best of four (exact RTRL: of two) on a seed of its own (100); three other
seeds are reported.

NMSE: squared error of the predictions over the variance of the target, both over the last 5,000
timesteps; every prediction is made before its target is learned from. The series is standardised by
its own mean and standard deviation. The published figures do not say which window they are over.
"""

import argparse
import json
import math
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import rtrl
from rtrl import tasks

RESULTS = Path(__file__).parent / "results"
TIMESTEPS, WINDOW, UNITS = 15_000, 5_000, 64
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
TUNING, SEEDS = 100, (0, 1, 2)
TASKS = {
    "henon": tasks.henon,
    "mackey_glass": tasks.mackey_glass,
    "lorenz": tasks.lorenz,
}
#: The rule, the network it learns, timesteps per update.
RUNS = {
    "SnAp-1": (rtrl.SnAp1("timestep"), "rnn", 1),
    "RFLO": (rtrl.EProp("timestep"), "rnn", 1),
    "TBPTT": (rtrl.TBPTT(10), "rnn", 1),
    "UORO": (rtrl.UORO(), "rnn", 1),
    "KF-RTRL": (rtrl.KFRTRL(), "rnn", 1),
    "LRU, RTRL": (rtrl.RTRL(), "lru", 1),
    "LRU, RTRL, chunks of 16": (rtrl.RTRL(), "lru", 16),
    "exact RTRL": (rtrl.SnApN(UNITS), "rnn", 1),
}
#: sketched-rtrl, table 6: next-step NMSE, 64 units, 15,000 timesteps.
PUBLISHED = {
    "exact RTRL": (0.0052, 0.0180, 0.0051),
    "SnAp-1": (0.0052, 0.0050, 0.0024),
    "KF-RTRL": (0.038, 0.029, 0.013),
    "RFLO": (0.070, 0.057, 0.044),
    "UORO": (0.66, 0.050, 0.043),
    "TBPTT": (0.031, 0.008, 0.005),
}


class RNN(eqx.Module):
    """The network of the published figures: one recurrent layer, a linear readout."""

    cell: rtrl.cells.VanillaRNN
    head: eqx.nn.Linear

    def __init__(self, key):
        cell_key, head_key = jax.random.split(key)
        self.cell = rtrl.cells.VanillaRNN(1, UNITS, key=cell_key)
        self.head = eqx.nn.Linear(UNITS, 1, key=head_key)

    def __call__(self, xs, carry, *, rule):
        hs, after = rtrl.recur(self.cell, xs, carry[0], rule=rule)
        return jax.vmap(self.head)(hs), (after,)


def network(kind: str, key):
    if kind == "rnn":
        return RNN(key)
    return rtrl.SequenceModel(
        1, 1, UNITS, 2, lambda size, key: rtrl.cells.LRU(size, UNITS, key=key), key=key
    )


def train(name: str, series, keys, rates):
    """Online NMSE of runs side by side, ``(runs,)``; series ``(runs, TIMESTEPS + 1, 1)``."""
    rule, kind, chunk = RUNS[name]
    optimizer = optax.scale_by_adam()
    length = TIMESTEPS // chunk * chunk

    @jax.jit
    @jax.vmap
    def run(series, key, rate):
        model = network(kind, key)
        params, static = eqx.partition(model, eqx.is_inexact_array)
        carry = rtrl.init_carry(model, rule)

        def update(state, data):
            params, carry, opt = state
            xs, ys = data

            def loss(params):
                predictions, after = eqx.combine(params, static)(xs, carry, rule=rule)
                return ((predictions - ys) ** 2).sum(), (predictions, after)

            grads, (predictions, carry) = jax.grad(loss, has_aux=True)(params)
            updates, opt = optimizer.update(grads, opt)
            params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
            return (params, carry, opt), predictions

        def cut(a):
            return a[:length].reshape(-1, chunk, 1)

        start = params, carry, optimizer.init(params)
        data = cut(series[:-1]), cut(series[1:])
        predictions = jax.lax.scan(update, start, data)[1].reshape(length)
        target, predictions = series[1 : length + 1, 0][-WINDOW:], predictions[-WINDOW:]
        return ((predictions - target) ** 2).mean() / target.var()

    return np.asarray(run(series, keys, rates), float)


def standardised(task: str, seed: int):
    stream = TASKS[task](TIMESTEPS + 1, horizon=1, rng=seed)
    return (stream.xs - stream.xs.mean()) / stream.xs.std()


def run(name: str, task: str) -> dict:
    start = time.perf_counter()
    few = RATES[1:3] if name == "exact RTRL" else RATES  # the costly one
    tuning = np.stack([standardised(task, TUNING)] * len(few))
    key = jnp.stack([jax.random.key(TUNING)] * len(few))
    scores = train(name, tuning, key, jnp.array(few))
    best = few[int(np.nanargmin(scores))]
    series = np.stack([standardised(task, seed) for seed in SEEDS])
    keys = jnp.stack([jax.random.key(seed) for seed in SEEDS])
    nmse = train(name, series, keys, jnp.full(len(SEEDS), best))
    return {
        "run": name,
        "task": task,
        "rule": RUNS[name][0].label(RUNS[name][2]),
        "rate": best,
        "tuning": dict(zip(map(str, few), scores.tolist(), strict=True)),
        "seeds": list(SEEDS),
        "nmse": nmse.tolist(),
        "jax": jax.__version__,
        "seconds": round(time.perf_counter() - start, 1),
    }


def table(results: dict) -> str:
    lines = [
        "NMSE of next-step prediction, geometric mean over three seeds; in brackets the learning "
        "rate chosen; published: sketched-rtrl, table 6. Bold: off by more than a factor of two.",
        "",
        "| rule | " + " | ".join(f"{t} | published" for t in TASKS) + " |",
        "|---|" + "---|---|" * len(TASKS),
    ]
    for name in sorted(RUNS, key=lambda n: (n.startswith("LRU"), n)):
        cells = []
        for i, task in enumerate(TASKS):
            result = results.get((name, task))
            published = PUBLISHED.get(name, (None,) * 3)[i]
            if result is None:
                cells += ["not run", "-" if published is None else f"{published:.4f}"]
                continue
            ours = math.exp(np.mean(np.log(result["nmse"])))
            text = f"{ours:.4f}" if ours < 10 else f"{ours:.2g}"
            if published and not 0.5 <= ours / published <= 2:
                text = f"**{text}**"
            cells += [
                f"{text} ({result['rate']:g})",
                "-" if published is None else f"{published:.4f}",
            ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="only write the table")
    only_table = parser.parse_args().table
    folder = RESULTS / "chaos"
    folder.mkdir(exist_ok=True)
    results = {}
    for name in RUNS:
        for task in TASKS:
            path = folder / f"{name.replace(', ', '-').replace(' ', '-')}-{task}.json"
            if not path.exists() and not only_table:
                path.write_text(json.dumps(run(name, task), indent=1) + "\n")
            if path.exists():
                results[name, task] = json.loads(path.read_text())
                nmse = " ".join(f"{v:.4f}" for v in results[name, task]["nmse"])
                print(f"{name}, {task}: {nmse} ({results[name, task]['seconds']} s)", flush=True)
    text = table(results)
    (RESULTS / "chaos.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
