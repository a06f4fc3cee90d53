"""What one wild sample does to a learner, without and with `rtrl.Guard`, and what the guard costs.

    python bench/guard.py              every part, results/guard/*.json; goes on where it stopped
    python bench/guard.py --part wild  one part: wild, rare or clean
    python bench/guard.py --table      measure nothing, write results/guard.md

wild: two layers of 8 modules, Adam 1e-2, no norm, a sine, one sample of 2,400 replaced at timestep
1,500; mean loss over 300 timesteps before it, and over timesteps 500 to 800 after it. Every cell.
rare: what is rare but real: a row in a thousand is 1, to be reported three rows later; tails of
Student's distribution with two degrees of freedom, forecast from an autoregression.
clean: a laser and random input delayed by five timesteps, prequential loss with over without.
"""

import argparse
import json
import warnings

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


def learn(cell, xs, ys, guard, rate=1e-2, depth=2, chunk=1, norm=None):
    def new(size, key):
        return getattr(rtrl.cells, cell)(size, 8, key=key)

    model = rtrl.SequenceModel(
        xs.shape[1], ys.shape[1], 8, depth, new, key=jax.random.key(1), norm=norm
    )
    rule = rtrl.RTRL()
    try:
        learner = rtrl.OnlineLearner(squared_error, optax.adam(rate), rule=rule, guard=guard)
        state = learner.init(model)
    except ValueError:  # a dense cell
        learner = rtrl.OnlineLearner(
            squared_error, optax.adam(rate), rule=rtrl.SnAp1(), guard=guard
        )
        state = learner.init(model)
    return learner.scan(state, xs, ys, chunk=chunk)


def wild(cell: str) -> dict:
    sine = np.sin(0.3 * np.arange(2401))[:, None].astype(np.float32)
    rows = {}
    for name, guard in GUARDS.items():
        for size, value in SIZES.items():
            xs = sine.copy()
            xs[1500] = value
            _, out = learn(cell, xs[:-1], xs[1:], guard)
            loss = np.nan_to_num(np.asarray(out.loss, np.float64), nan=np.inf)
            rows[f"{name}, {size}"] = {
                "before": float(loss[1200:1499].mean()),
                "after": float(loss[2000:2300].mean()),
                "bounded": int(out.bounded.sum()),
                "restarted": int(out.restarted.sum()),
                "skipped": int(out.skipped.sum()),
            }
    return rows


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


def rare(name: str) -> dict:
    xs, ys = rare_series()[name]
    rows = {}
    for guard_name, guard in GUARDS.items():
        _, out = learn("LRU", xs, ys, guard, rate=3e-3, depth=1, norm="pre")
        loss = np.asarray(out.loss, np.float64)[len(xs) // 2 :]
        target = ys[len(xs) // 2 :, 0]
        event = target > 0.5 if "row" in name else np.ones(len(target), bool)
        rows[guard_name] = {
            "loss where it counts": float(loss[event].mean()),
            "loss": float(loss.mean()),
            "bounded": int(out.bounded.sum()),
        }
    return rows


def clean_series() -> dict:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(20_000, 1)).astype(np.float32)
    laser = np.asarray(rtrl.tasks.santafe().xs, np.float32).reshape(-1, 1)
    laser = (laser - laser.mean()) / laser.std()
    series = {
        "five timesteps ago": (noise, np.roll(noise, 5, 0)),
        "laser": (laser[:-1], laser[1:]),
    }
    return series


def clean(name: str) -> dict:
    xs, ys = clean_series()[name]
    rows = {}
    for guard_name, guard in GUARDS.items():
        _, out = learn("LRU", xs, ys, guard, rate=3e-3, depth=2, norm="pre")
        loss = np.asarray(out.loss, np.float64)[len(xs) // 5 :]
        rows[guard_name] = {"loss": float(loss.mean()), "bounded": int(out.bounded.sum())}
    return rows


def run(part: str, name: str, function) -> None:
    slug = "".join(c if c.isalnum() else "-" for c in name)
    file = FOLDER / f"{part}-{slug}.json"
    if file.exists():
        return
    result = {"part": part, "name": name, "rows": function(name)} | provenance()
    FOLDER.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    say(f"{part} {name}: {json.dumps(result['rows'])[:300]}")


def table() -> str:
    results = [json.loads(f.read_text()) for f in sorted(FOLDER.glob("*.json"))]
    lines = ["# One wild sample", "", "Mean loss before and, 500 to 800 timesteps, after it.", ""]
    lines += ["| cell | before | " + " | ".join(
        f"{g}: {s}" for g in GUARDS for s in SIZES) + " |"]  # fmt: skip
    lines += ["|---|---:|" + "---:|" * (len(GUARDS) * len(SIZES))]
    wilds = [r for r in results if r["part"] == "wild"]
    good = {g: 0 for g in GUARDS}
    for r in wilds:
        cells = []
        for g in GUARDS:
            for s in SIZES:
                row = r["rows"][f"{g}, {s}"]
                ok = row["after"] <= 10 * row["before"] + 1e-3
                good[g] += ok
                cells.append(f"{row['after']:.2g}" if ok else f"**{row['after']:.2g}**")
        before = r["rows"]["none, 1e6"]["before"]
        lines.append(f"| {r['name']} | {before:.2g} | " + " | ".join(cells) + " |")
    runs = len(wilds) * len(SIZES)
    lines += ["", "Back to at most ten times the loss before (bold: not): "
              f"{good['none']} of {runs} without a guard, {good['guard']} with.", ""]  # fmt: skip
    for part, title in (("rare", "Rare but real"), ("clean", "Clean data")):
        lines += [f"# {title}", "", "| series | loss without | with | ratio | bounded |"]
        lines += ["|---|---:|---:|---:|---:|"]
        for r in results:
            if r["part"] == part:
                key = "loss where it counts" if part == "rare" else "loss"
                a, b = r["rows"]["none"][key], r["rows"]["guard"][key]
                bounded = r["rows"]["guard"]["bounded"]
                lines.append(f"| {r['name']} | {a:.4g} | {b:.4g} | {b / a:.3f} | {bounded} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("wild", "rare", "clean"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not options.table:
        parts = {
            "clean": (clean_series(), clean),
            "rare": (rare_series(), rare),
            "wild": (CELLS, wild),
        }
        for part, (names, function) in parts.items():
            if options.part in (None, part):
                for name in names:
                    run(part, name, function)
    (RESULTS / "guard.md").write_text(table())


if __name__ == "__main__":
    main()
