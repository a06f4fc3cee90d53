"""Measured windows beside predicted ones, and which part of the prediction is at fault."""

from collections.abc import Callable
from typing import Any

import numpy as np
from _learnability_runs import SHARES, STEPS
from _learnability_task import BATCH, CELLS, COEFFICIENTS, LAGS, LENGTH, N
from scipy.stats import spearmanr

from rtrl import analysis

RECOVERED = 0.25
COMMON = 1.8  # a tail index near those measured
Runs = dict[tuple[str, str, int], list[dict[str, Any]]]


def window(stage: dict, what: str = "recovered") -> int:
    """The longest lag that is recovered, and all shorter ones with it."""
    lag = 0
    for further, share in zip(LAGS, stage[what], strict=True):
        if share < RECOVERED:
            break
        lag = further
    return lag


def reach(stage: dict, what: str = "recovered") -> float:
    """How many of the lags are learned, shares added up: a measure without steps."""
    return float(np.clip(stage[what], 0, 1).sum())


def sizes(stage: dict, what: str) -> np.ndarray:
    return np.maximum(np.abs(stage[what]), 1e-12)


def thresholds(runs: Runs, share: float, index: float | None) -> dict:
    """``N^(-1/kappa)`` of every run: what f must exceed, up to the constant."""
    found = {}
    for key, stages in runs.items():
        stage = at(stages, share)
        alpha = max(stage["alpha"], 1.05) if index is None else index
        found[key] = stages[-1]["samples"] ** (1 / alpha - 1)
    return found


def at(stages: list[dict], share: float) -> dict:
    return next(s for s in stages if s["share"] == share)


def predicted(
    runs: Runs,
    what: str = "envelope",
    share: float = 1,
    index: float | None = None,
    scale: Callable[[dict], float] = lambda stage: 1.0,
) -> tuple[dict, float]:
    """Windows, with the one constant that brings all nearest to the measured, in log lags."""
    limits = thresholds(runs, share, index)
    f = {k: sizes(at(s, share), what) / scale(at(s, share)) for k, s in runs.items()}
    lags = np.arange(len(next(iter(f.values()))))

    def windows(noise: float) -> dict:
        return {k: int(lags[f[k] >= noise * limits[k]].max(initial=0)) for k in runs}

    def off(noise: float) -> float:
        found = windows(noise)
        return sum((np.log2(1 + found[k]) - np.log2(1 + window(s[-1]))) ** 2
                   for k, s in runs.items())  # fmt: skip

    noise = min(np.logspace(-5, 5, 400), key=off)
    return windows(noise), float(noise)


VARIANTS: dict[str, dict[str, Any]] = {
    "as the theory has it: envelope, own tail index": {},
    "one tail index for all": {"index": COMMON},
    "one tail index, own noise over signal": {
        "index": COMMON, "scale": lambda s: s["noise"] / s["signal"]
    },
    "the module that keeps longest, one index": {"index": COMMON, "what": "longest"},
    "what modules bring to the output, nothing cancelling": {"index": COMMON, "what": "incoherent"},
    "the exact response of the output": {"index": COMMON, "what": "response"},
}  # fmt: skip


def correlation(a: list, b: list) -> float:
    found: Any = spearmanr(a, b)
    return float(found.statistic)


def table(runs: Runs, attainable: dict, verdict: str) -> str:
    parts = [
        head(),
        measured(runs),
        faults(runs, attainable),
        by_stage(runs),
        by_lag(runs),
        [verdict],
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def head() -> list[str]:
    return [
        "# Learnability windows, measured and predicted", "",
        f"Lags {', '.join(map(str, LAGS))}, coefficients of {COEFFICIENTS[0]}; {LENGTH} timesteps, "
        f"{N} neurons, batches of {BATCH}: {STEPS['BPTT']:,} by BPTT, {STEPS['online']:,} online.",
        "",
    ]  # fmt: skip


def measured(runs: Runs) -> list[str]:
    found, noise = predicted(runs)
    lines = [
        "Means over seeds; windows of every seed. Share: of the coefficient at each lag that was "
        f"recovered; the window ends where it falls below {RECOVERED}. Envelope: what fits it from "
        "lag 1 on. One constant for all predictions "
        f"(noise {noise:.3g}). f at window: by the theory the same for all but for the tail index.",
        "",
        "| cell | trained | mean squared error | envelope | tail index | windows | predicted | "
        "f at window | " + " | ".join(f"share at {lag}" for lag in LAGS) + " |",
        "|---|---|---:|---|---:|---:|---:|---:|" + "---:|" * len(LAGS),
    ]
    for name in CELLS:
        for method in STEPS:
            here = {k: s for k, s in runs.items() if k[:2] == (name, method)}
            if not here:
                continue
            last = [s[-1] for s in here.values()]
            f = np.mean([sizes(s, "envelope") for s in last], 0)
            fit = analysis.fit_decay(np.maximum(f, 1e-9))
            shape = f"l^-{fit.exponent:.2g}" if fit.kind == "power" else f"exp(-l/{fit.tau:.3g})"
            shares = np.mean([s["recovered"] for s in last], 0)
            at_window = np.exp(np.mean([np.log(sizes(s, "envelope")[window(s)]) for s in last]))
            lines.append(
                f"| {name} | {method} | {np.mean([s['loss'] for s in last]):.3f} | {shape} | "
                f"{np.mean([s['alpha'] for s in last]):.2f} | "
                f"{', '.join(str(window(s)) for s in last)} | "
                f"{', '.join(str(found[k]) for k in here)} | {at_window:.2g} | "
                + " | ".join(f"{c:.2f}" for c in shares) + " |"
            )  # fmt: skip
    return [*lines, ""]


def faults(runs: Runs, attainable: dict) -> list[str]:
    lines = [
        "## Which part of the prediction fails", "",
        "Over all runs, at the end of training. Windows: rank correlation of measured and "
        "predicted windows. Reach: of the sum of the shares with predicted windows (with their own "
        "sum, for readouts). Off by: mean distance in octaves of 1 + window, after the constant "
        "was fitted.", "",
        "| prediction from | windows | reach | off by |", "|---|---:|---:|---:|",
    ]  # fmt: skip
    truth = [window(s[-1]) for s in runs.values()]
    reached = [reach(s[-1]) for s in runs.values()]
    for name, how in VARIANTS.items():
        found = list(predicted(runs, **how)[0].values())
        off = np.abs(np.log2(1 + np.array(found)) - np.log2(1 + np.array(truth))).mean()
        lines.append(f"| {name} | {correlation(truth, found):.2f} | "
                     f"{correlation(reached, found):.2f} | {off:.2f} |")  # fmt: skip
    first = [{"attainable": attainable[cell][str(seed)]} for cell, _, seed in runs]
    lines.append(readout("the best readout of the states as initialised", runs, first))
    later = {k: s for k, s in runs.items() if "attainable" in s[-1]}
    if later:
        name = f"the best readout of the trained states ({len(later)} runs)"
        lines.append(readout(name, later, [s[-1] for s in later.values()]))
    return [*lines, ""]


def readout(name: str, runs: Runs, stages: list[dict]) -> str:
    """What a readout could recover beside what was recovered; no rate and no noise is in it."""
    could = [window(s, "attainable") for s in stages]
    reached = [reach(s, "attainable") for s in stages]
    truth = [window(s[-1]) for s in runs.values()]
    off = np.abs(np.log2(1 + np.array(could)) - np.log2(1 + np.array(truth))).mean()
    ends = [reach(s[-1]) for s in runs.values()]
    found = correlation(truth, could), correlation(ends, reached), off
    return f"| {name} | " + " | ".join(f"{v:.2f}" for v in found) + " |"


def by_stage(runs: Runs) -> list[str]:
    lines = [
        "## Along training", "",
        "Windows so far: mean of log2(1 + window). From here: rank correlation of the reach at the "
        "end with windows predicted from the envelope (or the exact output response) of this "
        "stage, own tail index.", "",
        "| share of training | windows so far | tail index | envelope | response |",
        "|---|---:|---:|---:|---:|",
    ]  # fmt: skip
    end = [reach(s[-1]) for s in runs.values()]
    for share in SHARES:
        stages = [at(s, share) for s in runs.values()]
        values = [
            correlation(end, list(predicted(runs, share=share, what=what)[0].values()))
            for what in ("envelope", "response")
        ]
        so_far = np.mean([np.log2(1 + window(s)) for s in stages])
        lines.append(
            f"| {share:g} | {so_far:.2f} | {np.mean([s['alpha'] for s in stages]):.2f} | "
            + " | ".join(f"{v:.2f}" for v in values) + " |"
        )  # fmt: skip
    return [*lines, ""]


def by_lag(runs: Runs) -> list[str]:
    lines = [
        "## Lag by lag", "",
        "Rank correlation over runs of the share recovered at a lag with the envelope there, what "
        "the longest module keeps, what modules bring to the output, and the tail index.", "",
        "| | " + " | ".join(map(str, LAGS)) + " |", "|---|" + "---:|" * len(LAGS),
    ]  # fmt: skip
    last = [s[-1] for s in runs.values()]
    named = {"envelope": "envelope", "longest": "longest module",
             "incoherent": "brought to the output"}  # fmt: skip
    rows = {
        label: [[sizes(s, what)[lag] for s in last] for lag in LAGS]
        for what, label in named.items()
    } | {"tail index": [[s["alpha"] for s in last]] * len(LAGS)}
    for label, values in rows.items():
        found = [
            correlation([s["recovered"][i] for s in last], values[i]) for i in range(len(LAGS))
        ]
        lines.append(f"| {label} | " + " | ".join(f"{v:.2f}" for v in found) + " |")
    return [*lines, ""]
