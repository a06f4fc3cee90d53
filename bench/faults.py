"""A hundred thousand timesteps with every fault of a stream and of a disk, at random.

    python bench/faults.py                    every learner; goes on with the next where it stopped
    python bench/faults.py --name forecaster  one of them
    python bench/faults.py --timesteps 20000  sooner; writes nothing
    python bench/faults.py --divergence       the command line's networks, whose guard goes back to
                                              good parameters, and without that; five minutes
    python bench/faults.py --table            measure nothing, write results/faults.md

Faults of 10, 100 or 1,000 timesteps (targets missing for 10,000, once) come one after the other in
random order, with 800 clean timesteps after each, of which the last 100 are scored: a sine and a
little noise, NRMSE of the next value. After every fault all predictions and all that is carried
must be finite, the state saved and loaded again the same, the NRMSE below .5, and where something
was lost it must have been counted. `tests/injected_faults.py` has the faults.

guarded: `OnlineLearner` with `Guard(divergence=100)`, Adam, two samples of which one ends and
begins at random. standardised: `Standardized`, Adam; "filter": the same by a Kalman filter.
forecaster: `Forecaster`. command line: the network of ``rtrl stream --learner network``, by Adam
in chunks of 16 and by the filter.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import optax
from _timing import RESULTS, provenance, say

import rtrl

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import injected_faults as faults  # type: ignore

FOLDER = RESULTS / "faults"
SUBJECTS = {
    "guarded": lambda: faults.guarded(optax.adam(1e-2)),
    "standardised": lambda: faults.standardized(optax.adam(5e-3)),
    "standardised, filter": lambda: faults.standardized(rtrl.kalman()),
    "forecaster": faults.forecaster,
    "command line, adam": lambda: faults.command_line("adam"),
    "command line, kalman": lambda: faults.command_line("kalman"),
}


def measure(name: str, timesteps: int) -> dict:
    rng = np.random.default_rng(1)
    subject, outcomes = SUBJECTS[name](), []
    every = [*faults.OF_DATA, *faults.OF_DISK]
    with tempfile.TemporaryDirectory() as folder:
        faults.learn(subject, rng)
        long = faults.one(subject, Path(folder), rng, "missing targets", 10_000, 700)
        outcomes.append(long._replace(fault="missing targets for 10,000 rows"))
        while subject.seen < timesteps:
            rng.shuffle(every)
            for fault in every:
                length = int(rng.choice([10, 100, 1000]))
                outcomes.append(faults.one(subject, Path(folder), rng, fault, length, 700))
    rows: dict = {}
    for fault, nrmse, failed in outcomes:
        row = rows.setdefault(fault, {"times": 0, "worst": 0.0, "failed": []})
        row["times"] += 1
        row["worst"] = max(row["worst"], nrmse)
        row["failed"] += [failed] if failed else []
    return {"name": name, "timesteps": subject.seen, "rows": rows}


def divergence() -> None:
    """Every fault of data once, for two seeds: the command line's guard with and without it."""
    file = FOLDER.with_name("faults_divergence.json")
    found = json.loads(file.read_text()) if file.exists() else []
    for seed in (2, 3):
        for optimizer in ("adam", "kalman"):
            for on in (True, False):
                about = {"optimizer": optimizer, "divergence": on, "seed": seed}
                if any(about.items() <= one.items() for one in found):
                    continue
                found.append(about | _each_once(optimizer, on, seed))
                say(json.dumps(found[-1]))
                file.write_text(json.dumps(found, indent=1) + "\n")


def _each_once(optimizer: str, on: bool, seed: int) -> dict:
    given = faults.command_line(optimizer)
    guard = rtrl.Guard(divergence=100.0 if on else None)
    inner = dataclasses.replace(given.learner.learner, guard=guard, donate=True)
    learner = rtrl.Standardized(inner, warmup=given.learner.warmup)
    model = given.state.learner.model
    subject = faults.Subject(learner, learner.init(model), chunk=given.chunk)
    rng, every = np.random.default_rng(seed), list(faults.OF_DATA)
    faults.learn(subject, rng)
    rng.shuffle(every)
    with tempfile.TemporaryDirectory() as folder:
        each = [
            faults.one(subject, Path(folder), rng, f, int(rng.choice([10, 100, 1000])), 700)
            for f in every
        ]
    return {
        "timesteps": subject.seen, "faults": len(each),
        "failed": [list(one) for one in each if one.failed],
        "median": float(np.median([one.nrmse for one in each])),
        "worst": max(one.nrmse for one in each),
    }  # fmt: skip


def table() -> str:
    results = [json.loads(f.read_text()) for f in sorted(FOLDER.glob("*.json"))]
    lines = [
        "# Faults",
        "",
        "Worst NRMSE 700 timesteps after a fault (times it came; failures).",
        "",
    ]
    lines += ["| fault | " + " | ".join(r["name"] for r in results) + " |"]
    lines += ["|---|" + "---:|" * len(results)]
    for fault in dict.fromkeys(f for r in results for f in r["rows"]):
        cells = []
        for r in results:
            row = r["rows"].get(fault)
            failed = "" if row is None or not row["failed"] else f"; **{len(row['failed'])}**"
            cells.append("" if row is None else f"{row['worst']:.3g} ({row['times']}{failed})")
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    lines += [""]
    for r in results:
        why = sorted({w for row in r["rows"].values() for w in row["failed"]})
        runs = sum(row["times"] for row in r["rows"].values())
        failed = sum(len(row["failed"]) for row in r["rows"].values())
        lines.append(f"- {r['name']}: {r['timesteps']:,} timesteps, {runs} faults, {failed} failed"
                     + (f" ({', '.join(why)})" if why else "") + ".")  # fmt: skip
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", choices=tuple(SUBJECTS))
    parser.add_argument("--timesteps", type=int, default=100_000)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--divergence", action="store_true")
    options = parser.parse_args()
    if options.divergence:
        divergence()
        return
    for name in () if options.table else SUBJECTS:
        slug = "".join(c if c.isalnum() else "-" for c in name)
        file = FOLDER / f"{slug}.json"
        if options.name not in (None, name) or (file.exists() and options.timesteps == 100_000):
            continue
        result = measure(name, options.timesteps) | provenance()
        say(f"{name}: {json.dumps(result['rows'])}")
        if options.timesteps == 100_000:
            FOLDER.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(result, indent=1) + "\n")
    if FOLDER.exists():
        (RESULTS / "faults.md").write_text(table())


if __name__ == "__main__":
    main()
