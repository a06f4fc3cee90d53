"""Next-step prediction of chaotic series by every rule, beside published figures.

    python bench/chaos.py            run what is missing of results/chaos/, write the table
    python bench/chaos.py --table    write the table of what has been run

Two protocols, both with a vanilla tanh RNN of 64 units and a linear readout that predict the next
value of the Henon map, the Mackey-Glass equation (tau 17) and the first coordinate of the Lorenz
system from the present one, over 15,000 timesteps:

- stream: a single stream, no resets, one Adam update per timestep. The learning rate of every rule
  and task is the best of four (exact RTRL: of the lower two) on a seed of its own (100); three
  other seeds are reported. Beside the RNN a `SequenceModel` of two LRU layers under RTRL, in single
  steps and in chunks of 16 with chunk errors (one update per chunk). NMSE over the last 5,000
  timesteps.
- published: as the code behind the published figures has it. Eight streams side by side, a reset
  every 200 timesteps, Adam at 1e-3, uniform initial weights, NMSE over the last 200 timesteps. Its
  RFLO lets the trace decay by 0.9 although the neurons have no leak, its TBPTT updates once per 25
  timesteps. Three seeds; of exact RTRL one, as its eight traces are costly.

NMSE: squared error of the predictions over the variance of the target, both over the timesteps
named; every prediction is made before its target is learned from. A series is standardised by its
own mean and standard deviation.
"""

import argparse
import itertools
import json
import math
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import provenance

import rtrl
from rtrl import tasks
from rtrl.rules._diagonal import DiagonalRule

RESULTS = Path(__file__).parent / "results"
TIMESTEPS, WINDOW, UNITS = 15_000, 5_000, 64
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
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


class LeakyTrace(DiagonalRule):
    """The published RFLO: ``s_t = 0.9 s_{t-1} + E_t`` whatever the neuron."""

    def decay(self, partials):
        return jnp.full_like(partials.D, 0.9)


#: The same for the published protocol.
AS_PUBLISHED = {
    "SnAp-1": (rtrl.SnAp1("timestep"), "rnn", 1),
    "RFLO": (LeakyTrace("timestep"), "rnn", 1),
    "TBPTT": (rtrl.BPTT(), "rnn", 25),
    "UORO": (rtrl.UORO(), "rnn", 1),
    "KF-RTRL": (rtrl.KFRTRL(), "rnn", 1),
    "exact RTRL": (rtrl.SnApN(UNITS), "rnn", 1),
}
STREAMS, RESET, LAST = 8, 200, 200


class RNN(eqx.Module):
    """The network of the published figures: one recurrent layer, a linear readout."""

    cell: rtrl.cells.VanillaRNN
    head: eqx.nn.Linear

    def __init__(self, key):
        cell_key, head_key = jax.random.split(key)
        self.cell = rtrl.cells.VanillaRNN(1, UNITS, key=cell_key)
        self.head = eqx.nn.Linear(UNITS, 1, key=head_key)

    def __call__(self, xs, carry, *, rule, resets=None):
        hs, after = rtrl.recur(self.cell, xs, carry[0], rule=rule, resets=resets)
        return jax.vmap(jax.vmap(self.head))(hs), (after,)


def network(kind: str, key, uniform: bool):
    if kind == "lru":
        return rtrl.SequenceModel(
            1, 1, UNITS, 2, lambda size, key: rtrl.cells.LRU(size, UNITS, key=key), key=key
        )
    model = RNN(key)
    if not uniform:
        return model
    size = 1 / math.sqrt(UNITS)
    keys = jax.random.split(jax.random.fold_in(key, 1))
    weights = model.cell.W, model.cell.U
    drawn = [
        jax.random.uniform(k, w.shape, minval=-size, maxval=size)
        for k, w in zip(keys, weights, strict=True)
    ]
    return eqx.tree_at(lambda m: (m.cell.W, m.cell.U), model, drawn)


def train(setting, published: bool, series, keys, rates):
    """Online NMSE of runs side by side, ``(runs,)``, of series ``(runs, time + 1, streams, 1)``."""
    rule, kind, chunk = setting
    optimizer = optax.scale_by_adam()
    length = TIMESTEPS // chunk * chunk
    streams = series.shape[2]

    @jax.jit
    @jax.vmap
    def run(series, key, rate):
        model = network(kind, key, published)
        params, static = eqx.partition(model, eqx.is_inexact_array)
        carry = rtrl.init_carry(model, rule, streams)

        def update(state, data):
            params, carry, opt = state
            xs, ys, resets = data

            def loss(params):
                resetting = {"resets": resets} if published else {}
                model = eqx.combine(params, static)
                predictions, after = model(xs, carry, rule=rule, **resetting)
                return ((predictions - ys) ** 2).sum(0).mean(), (predictions, after)

            grads, (predictions, carry) = jax.grad(loss, has_aux=True)(params)
            updates, opt = optimizer.update(grads, opt)
            params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
            return (params, carry, opt), predictions

        def cut(a):
            return a[:length].reshape(-1, chunk, *a.shape[1:])

        resets = jnp.broadcast_to((jnp.arange(length) % RESET == 0)[:, None], (length, streams))
        start = params, carry, optimizer.init(params)
        data = cut(series[:-1]), cut(series[1:]), cut(resets)
        predictions = jax.lax.scan(update, start, data)[1].reshape(length, streams)
        window = LAST if published else WINDOW
        target, predictions = series[1 : length + 1, :, 0][-window:], predictions[-window:]
        return ((predictions - target) ** 2).mean() / (1.0 if published else target.var())

    return np.asarray(run(series, keys, rates), float)


def standardised(task: str, seed: int):
    stream = TASKS[task](TIMESTEPS + 1, horizon=1, rng=seed)
    return (stream.xs - stream.xs.mean()) / stream.xs.std()


def run(name: str, task: str, published: bool) -> dict:
    start = time.perf_counter()
    seeds = SEEDS[:1] if published and name == "exact RTRL" else SEEDS  # the costly one
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    tuning, best = {}, 1e-3
    if published:
        setting = AS_PUBLISHED[name]
        series = [
            np.stack([standardised(task, 1000 * seed + lane) for lane in range(STREAMS)], 1)
            for seed in seeds
        ]
    else:
        setting = RUNS[name]
        few = RATES[:2] if name == "exact RTRL" else RATES  # the costly one
        one = np.stack([standardised(task, TUNING)[:, None]] * len(few))
        key = jnp.stack([jax.random.key(TUNING)] * len(few))
        scores = train(setting, False, one, key, jnp.array(few))
        best = few[int(np.nanargmin(scores))]
        tuning = dict(zip(map(str, few), scores.tolist(), strict=True))
        series = [standardised(task, seed)[:, None] for seed in seeds]
    nmse = train(setting, published, np.stack(series), keys, jnp.full(len(seeds), best))
    return {
        "run": name,
        "task": task,
        "protocol": "published" if published else "stream",
        "rule": setting[0].label(setting[2]),
        "rate": best,
        "tuning": tuning,
        "seeds": list(seeds),
        "nmse": nmse.tolist(),
        "seconds": round(time.perf_counter() - start, 1),
    } | provenance()


def table(results: dict) -> str:
    lines = [
        "NMSE of next-step prediction, geometric mean over the seeds, for the two protocols of "
        "`bench/chaos.py` (stream: with the learning rate chosen); figures: as published by "
        "sketched-rtrl, table 6. Bold: off the published figure by more than a factor of two.",
        "",
        "| rule | " + " | ".join(f"{t}: stream | published | figure" for t in TASKS) + " |",
        "|---|" + "---|---|---|" * len(TASKS),
    ]
    for name in sorted(RUNS, key=lambda n: (n.startswith("LRU"), n)):
        cells = []
        for i, task in enumerate(TASKS):
            figure = PUBLISHED.get(name, (None,) * 3)[i]
            for published in (False, True):
                result = results.get((name, task, published))
                if result is None:
                    cells.append("not run" if name in (RUNS, AS_PUBLISHED)[published] else "-")
                    continue
                ours = math.exp(np.mean(np.log(result["nmse"])))
                text = f"{ours:.4f}" if ours < 10 else f"{ours:.2g}"
                if figure and not 0.5 <= ours / figure <= 2:
                    text = f"**{text}**"
                cells.append(text if published else f"{text} ({result['rate']:g})")
            cells.append("-" if figure is None else f"{figure:.4f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--only", default="", help="run only rules whose name contains this")
    parser.add_argument("--task", default="", choices=["", *TASKS], help="run only this task")
    arguments = parser.parse_args()
    only_table = arguments.table
    folder = RESULTS / "chaos"
    folder.mkdir(exist_ok=True)
    results = {}
    for published, runs in ((False, RUNS), (True, AS_PUBLISHED)):
        for name, task in itertools.product(runs, TASKS):
            file = f"{name.replace(', ', '-').replace(' ', '-')}-{task}"
            path = folder / f"{file}{'-published' if published else ''}.json"
            wanted = arguments.only in name and arguments.task in task
            if not path.exists() and not only_table and wanted:
                path.write_text(json.dumps(run(name, task, published), indent=1) + "\n")
            if path.exists():
                result = results[name, task, published] = json.loads(path.read_text())
                nmse = " ".join(f"{v:.4f}" for v in result["nmse"])
                print(f"{path.stem}: {nmse} ({result['seconds']} s)", flush=True)
    text = table(results)
    (RESULTS / "chaos.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
