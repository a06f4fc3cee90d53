"""How long should `rtrl.Standardized` remember? Real series, and changes of level and scale.

    python bench/moments.py            run what is missing, results/moments.json
    python bench/moments.py --table    measure nothing, write results/moments.md

A layer of 16 LRU modules under the Kalman filter, as `rtrl stream --learner network` has it but
smaller, forecasts the next value of every column from all of them; NRMSE of the second half (of the
last 500 rows where something happens, by the deviation of the signal itself) for every memory. Real
series come from the packages that `bench/streams.py` names.
"""

import argparse
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from _stream_series import SERIES, load
from _timing import RESULTS, digits, merge, provenance, read, say

import rtrl
import rtrl.tasks

MEMORIES = (300, 1000, 3000, 10_000, None)
FILE = "moments.json"


def half_square(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


def events():
    """Signals to which something happens at row 2,000 of 4,000, and whose ends are alike."""
    t = np.arange(4000)
    rng = np.random.default_rng(0)
    sine = np.sin(0.3 * t) + 0.01 * rng.normal(size=4000)
    after = t >= 2000
    while_ = after & (t < 3000)
    return {
        "a sine": (sine, 1),
        "level up by 1e6": (sine + 1e6 * after, 1),
        "scale times 1e6": (np.where(after, 1e6 * sine, sine), 1e6),
        "scale by 1e-6": (np.where(after, sine, 1e6 * sine), 1),
        "garbage of 1e3 for 1,000 rows": (np.where(while_, 1e3 * rng.normal(size=4000), sine), 1),
        "garbage of 1e6 for 1,000 rows": (np.where(while_, 1e6 * rng.normal(size=4000), sine), 1),
        "constant for 1,000 rows": (np.where(while_, 0.5, sine), 1),
        "the third value is 1e38": (np.where(t == 2, 1e38, sine), 1),
        "a drift of 1 in 10 rows": (sine + 0.1 * t, 1),
    }


def long_series():
    rng = np.random.default_rng(1)
    t = np.arange(20_000)
    noise = 0.1 * rng.normal(size=20_000)
    laser = np.asarray(rtrl.tasks.santafe().xs, float).ravel()
    return {
        "a laser": laser,
        "amplitude doubles every 2,000 rows": 2.0 ** (t / 2000) * (np.sin(0.3 * t) + noise),
        "a sine on a slow one, a hundred times as large": np.sin(0.3 * t) + noise
        + 100 * np.sin(2 * np.pi * t / 20_000),
    }  # fmt: skip


@cache  # one learner, one program
def learner_of(columns):
    def cell(size, key):
        return rtrl.cells.LRU(size, 16, key=key)

    model = rtrl.SequenceModel(
        columns, columns, 16, 1, cell, norm=None, glu="half1", key=jax.random.key(0)
    )
    guard = rtrl.Guard(divergence=100.0)
    return rtrl.OnlineLearner(half_square, rtrl.kalman(), guard=guard), model


def forecast(x, memory):
    """One-step forecasts of all columns; ``[t]`` is of ``x[t + 1]``."""
    inner, model = learner_of(x.shape[1])
    learner = rtrl.Standardized(inner, warmup=100, memory=memory)
    _, out = learner.scan(learner.init(model), x[:-1], x[1:], chunk=1)
    return np.asarray(out.prediction)


def score(error, unit):
    return digits(float(np.sqrt(np.nanmean(error**2)) / unit))


def measure(name, x, unit, first):
    key = name
    if key in read(FILE).get("series", {}):
        return
    rows = {}
    for memory in MEMORIES:
        prediction = forecast(x, memory)
        error = (prediction - x[1:])[first:]
        if unit is None:
            each = [score(error[:, i], np.nanstd(x[1 + first :, i])) for i in range(x.shape[1])]
            each = [e for e in each if np.isfinite(e)]
            rows[str(memory)] = digits(float(np.exp(np.mean(np.log(each)))))
        else:
            rows[str(memory)] = score(error, unit * 0.707)
    merge(FILE, "series", read(FILE).get("series", {}) | {key: rows})
    say(f"{name}: {rows}")


def table():
    rows = read(FILE)["series"]
    lines = ["# Memory of the running moments", "", "NRMSE; timesteps of memory.", ""]
    lines += ["| series | " + " | ".join(map(str, MEMORIES)) + " |"]
    lines += ["|---|" + "---:|" * len(MEMORIES)]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[str(m)]:.3g}" for m in MEMORIES) + " |")
    real = [row for name, row in rows.items() if name in SERIES]
    if real:
        means = [
            np.exp(np.mean([np.log(row[str(m)] / row["None"]) for row in real])) for m in MEMORIES
        ]
        lines.append(f"| {len(real)} real series, over that of None | "
                     + " | ".join(f"{m:.3f}" for m in means) + " |")  # fmt: skip
    return "\n".join([*lines, ""])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true")
    if not parser.parse_args().table:
        for name, (signal, unit) in events().items():
            measure(name, signal[:, None], unit, len(signal) - 501)
        for name, signal in long_series().items():
            measure(name, signal[:, None], None, len(signal) // 2)
        for name in SERIES:
            x = load(name).x
            if len(x) >= 500 and x.shape[1] <= 4:
                measure(name, np.asarray(x, float), None, len(x) // 2)
        merge(FILE, "provenance", provenance())
    (RESULTS / "moments.md").write_text(table())


if __name__ == "__main__":
    main()
