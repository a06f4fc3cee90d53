"""What one wild sample does to a learner, without and with `rtrl.Guard`, and what the guard costs.

    python bench/guard.py              every part, results/guard/*.json; goes on where it stopped
    python bench/guard.py --part wild  one part: wild, front, rare or clean
    python bench/guard.py --table      measure nothing, write results/guard.md

wild: two layers of 8 modules, Adam 1e-2, no norm, a sine, one sample of 2,400 replaced at timestep
1,500; mean loss over 300 timesteps before it, and over timesteps 500 to 800 after it. Every cell,
without a guard, with one, and with one where no sample is replaced ("none wild").
front: the same through `rtrl.Standardized` as it is; squared error in the data's units.
rare: what is rare but real: a row in a thousand is 1, to be reported three rows later; tails of
Student's distribution with two degrees of freedom, forecast from an autoregression.
clean: a laser and random input delayed by five timesteps, prequential loss; digits as pixels (three
passes) and the copy task (300 updates), loss over the last third; with a guard over without.
"""

import argparse
import contextlib
import json
import warnings
from collections import Counter
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import RESULTS, provenance, say

import rtrl
import rtrl.tasks

FOLDER = RESULTS / "guard"
SIZES = {"1e6": 1e6, "1e20": 1e20, "largest": float(np.finfo(np.float32).max)}
GUARDS = {"none": None, "guard": rtrl.Guard()}
CELLS = [
    name
    for name, cell in vars(rtrl.cells).items()
    if isinstance(cell, type) and hasattr(cell, "initial") and name != "Cell"
]


def squared_error(prediction, target):
    return jnp.sum((prediction - target) ** 2)


@cache  # one learner, one program
def learner_of(cell, sizes, guard, rate, depth, norm, front):
    def new(size, key):
        return getattr(rtrl.cells, cell)(size, 8, key=key)

    model = rtrl.SequenceModel(sizes[0], sizes[1], 8, depth, new, key=jax.random.key(1), norm=norm)
    for rule in (rtrl.RTRL(), rtrl.SnAp1()):  # the second for dense cells
        learner: Any = rtrl.OnlineLearner(squared_error, optax.adam(rate), rule=rule, guard=guard)
        learner = rtrl.Standardized(learner) if front else learner
        with contextlib.suppress(ValueError):
            learner.init(model)
            break
    return learner, model


def learn(cell, xs, ys, guard, rate=1e-2, depth=2, norm=None, front=False):
    sizes = xs.shape[1], ys.shape[1]
    learner, model = learner_of(cell, sizes, guard, rate, depth, norm, front)
    return learner.scan(learner.init(model), xs, ys, chunk=1)


def wild(cell: str, front: bool = False) -> dict:
    sine = np.sin(0.3 * np.arange(2401))[:, None].astype(np.float32)
    rows = {}
    guards = {"front door": GUARDS["guard"]} if front else GUARDS
    for name, guard in guards.items():
        sizes = SIZES if guard is None else SIZES | {"none wild": sine[1500, 0]}
        for size, value in sizes.items():
            xs = sine.copy()
            xs[1500] = value
            _, out = learn(cell, xs[:-1], xs[1:], guard, front=front)
            loss = np.asarray(out.loss, np.float64)
            if front:
                loss = ((np.asarray(out.prediction) - xs[1:].astype(float)) ** 2).sum(1)
            loss = np.nan_to_num(loss, nan=np.inf)
            rows[f"{name}, {size}"] = {
                "before": float(loss[1200:1499].mean()),
                "after": float(loss[2000:2300].mean()),
                "bounded": int(out.bounded.sum()),
                "restarted": int(out.restarted.sum()),
                "skipped": int(out.skipped.sum()),
            }
    return rows


def front(cell: str) -> dict:
    return wild(cell, front=True)


def rare_series() -> dict:
    rng = np.random.default_rng(0)
    n = 30_000
    events = (rng.random(n) < 1e-3).astype(np.float32)[:, None]
    noise = rng.standard_t(2, n)
    level = np.zeros(n)
    for t in range(1, n):
        level[t] = 0.8 * level[t - 1] + noise[t]
    level = (level / np.abs(level).mean())[:, None].astype(np.float32)
    return {
        "a row in 1,000 is 1": (events, np.roll(events, 3, 0)),
        "Student, two degrees": (level[:-1], level[1:]),
    }


def beside(function) -> dict:
    """A row of figures for every guard."""
    return {name: function(guard) for name, guard in GUARDS.items()}


def rare(name: str) -> dict:
    xs, ys = rare_series()[name]
    half = len(xs) // 2
    event = ys[half:, 0] > 0.5 if "row" in name else np.ones(len(xs) - half, bool)

    def one(guard):
        _, out = learn("LRU", xs, ys, guard, rate=3e-3, depth=1, norm="pre")
        loss = np.asarray(out.loss, np.float64)[half:]
        bounded = int(out.bounded.sum())
        return {"loss": float(loss[event].mean()), "of all": float(loss.mean()), "bounded": bounded}

    return beside(one)


def clean_series() -> dict:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20_000, 1)).astype(np.float32)
    laser = np.asarray(rtrl.tasks.santafe().xs, np.float32).reshape(-1, 1)
    laser = (laser - laser.mean()) / laser.std()
    return {
        "five timesteps ago": (noise, np.roll(noise, 5, 0)),
        "laser": (laser[:-1], laser[1:]),
        "digits": digits_batches,
        "copy": copy_batches,
    }


def digits_batches():
    split, rng = rtrl.tasks.digits("pixels", rng=0), np.random.default_rng(0)
    for _ in range(3):
        yield from split.train.batches(16, rng=rng, drop_last=True)


def copy_batches():
    rng = np.random.default_rng(0)
    for _ in range(300):
        yield rtrl.tasks.copying(20, rng=rng)


def clean(name: str) -> dict:
    data = clean_series()[name]

    def stream(guard):
        _, out = learn("LRU", data[0], data[1], guard, rate=3e-3, norm="pre")
        loss = np.asarray(out.loss, np.float64)[len(data[0]) // 5 :]
        return {"loss": float(loss.mean()), "bounded": int(out.bounded.sum())}

    def sequences(guard):
        def cell(size, key):
            return rtrl.cells.LRU(size, 32, key=key)

        sizes, loss = ((1, 10), optax.softmax_cross_entropy_with_integer_labels)
        if name == "copy":
            sizes, loss = (8, 14), rtrl.tasks.copying_loss
        model = rtrl.SequenceModel(sizes[0], sizes[1], 32, 2, cell, key=jax.random.key(0))
        learner = rtrl.OnlineLearner(loss, optax.adam(3e-3), guard=guard)
        state, losses, bounded = None, [], 0
        for xs, ys, weights in data():
            state = learner.init(model, xs.shape[1]) if state is None else state
            resets = np.arange(len(xs)) == 0
            state, out = learner.scan(state, xs, ys, weights=weights, resets=resets, chunk=16)
            losses.append(float((np.asarray(out.loss) * weights.reshape(len(xs), -1)[:, 0]).sum()))
            bounded += int(out.bounded.sum())
        return {"loss": float(np.mean(losses[-len(losses) // 3 :])), "bounded": bounded}

    return beside(sequences if callable(data) else stream)


def run(part: str, name: str, function) -> None:
    slug = "".join(c if c.isalnum() else "-" for c in name)
    file = FOLDER / f"{part}-{slug}.json"
    if file.exists():
        return
    rows = function(name)
    result = {"part": part, "name": name, "rows": rows} | provenance()
    FOLDER.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    say(f"{part} {name}: {json.dumps(result['rows'])[:300]}")


def returns(row: dict, times: float) -> bool:
    return row["after"] <= times * row["before"] + 1e-3


def table_of(rows: dict, times: float) -> list[str]:
    """Losses of every cell; bold where they have not come back. ``rows``: of every cell."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = ["| cell | before | " + " | ".join(columns) + " |"]
    lines += ["|---|---:|" + "---:|" * len(columns)]
    good, runs = Counter(), Counter()
    for name, row in rows.items():
        cells = []
        for key in columns:
            if key not in row:
                cells.append("")
                continue
            back = returns(row[key], times)
            good[key] += back
            runs[key] += 1
            after = f"{row[key]['after']:.2g}"
            cells.append(after if back else f"**{after}**")
        before = next(iter(row.values()))["before"]
        lines.append(f"| {name} | {before:.2g} | " + " | ".join(cells) + " |")
    counts = "; ".join(f"{key}: {good[key]} of {runs[key]}" for key in columns)
    note = f"Back to at most {times:g} times the loss before (bold: not): {counts}."
    lines += ["", note, ""]
    return lines


def table() -> str:
    results = [json.loads(f.read_text()) for f in sorted(FOLDER.glob("*.json"))]
    parts = {p: {r["name"]: r["rows"] for r in results if r["part"] == p} for p in PARTS}
    lines = ["# One wild sample", "", "Mean loss before and, 500 to 800 timesteps, after it.", ""]
    lines += table_of(parts["wild"], 10)
    lines += ["# One wild sample through `rtrl.Standardized`", ""] + table_of(parts["front"], 2)
    for part, title in (("rare", "Rare but real"), ("clean", "Clean data")):
        lines += [f"# {title}", "", "| series | loss without | with | ratio | bounded |"]
        lines += ["|---|---:|---:|---:|---:|"]
        for name, rows in parts[part].items():
            a, b = rows["none"]["loss"], rows["guard"]["loss"]
            bounded = rows["guard"]["bounded"]
            lines.append(f"| {name} | {a:.4g} | {b:.4g} | {b / a:.3f} | {bounded} |")
        lines.append("")
    return "\n".join(lines)


PARTS = {
    "clean": (clean, clean_series),
    "rare": (rare, rare_series),
    "front": (front, lambda: CELLS),
    "wild": (wild, lambda: CELLS),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=tuple(PARTS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not options.table:
        for part, (function, names) in PARTS.items():
            if options.part in (None, part):
                for name in names():
                    run(part, name, function)
    (RESULTS / "guard.md").write_text(table())


if __name__ == "__main__":
    main()
