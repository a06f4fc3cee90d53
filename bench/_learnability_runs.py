"""One network learns to regress on its past inputs: what it recovers, and its mu, along the way."""

import argparse
from typing import Any

import numpy as np
import optax
from _analysis_runs import kept
from _learnability_measures import measured, recovered
from _learnability_task import BATCH, CELLS, LENGTH, batch, network, squared_error

import rtrl

STEPS = {"BPTT": 2000, "online": 1000}
CHUNK = {"BPTT": LENGTH, "online": 16}
RATE = {"BPTT": 5e-3, "online": 1e-3}
SHARES = (0, 1 / 16, 1 / 4, 1 / 2, 1)  # of training, when everything is measured
SEEDS = (0, 1, 2)


def train(name: str, method: str, seed: int, steps: int) -> list[dict[str, Any]]:
    """Train, and measure at the shares of training."""
    chunk = CHUNK[method]
    exact = rtrl.BPTT() if method == "BPTT" else rtrl.RTRL()
    rule = rtrl.SnAp1() if method == "online" and name in ("GRU", "LSTM") else exact
    rate = optax.cosine_decay_schedule(RATE[method], steps * (LENGTH // chunk))
    learner = rtrl.OnlineLearner(
        squared_error, optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)), rule=rule
    )
    state = learner.init(network(name, seed), BATCH)
    resets, weights = np.zeros(LENGTH, bool), np.full(LENGTH, 1 / chunk)
    resets[0] = True
    when = {round(share * steps): share for share in SHARES}
    found, losses = [], []
    for step in range(steps + 1):
        if step in when:
            found.append({"share": when[step], "samples": step * BATCH} | measured(state.model))
            found[-1]["loss"] = float(np.mean(losses[-50:])) if losses else None
        if step < steps:
            xs, ys = batch([seed, step])
            state, out = learner.scan(state, xs, ys, chunk=chunk, weights=weights, resets=resets)
            losses.append(2 * float(out.loss.mean()))
    return found


def attainable_at_first() -> dict[str, dict[str, list[float]]]:
    """What the best readout of untrained states recovers, cell by cell and seed by seed."""
    xs, ys = batch([1_000_000], 64)
    return {
        name: {str(s): recovered(network(name, s), xs, ys)["attainable"] for s in SEEDS}
        for name in CELLS
    }


def name_of(cell: str, method: str, seed: int) -> str:
    return f"learnability/{cell.replace(' ', '_')}_{method}_{seed}"


def experiments() -> list[tuple[str, str, int]]:
    """(cell, method, seed): the cells as published by BPTT alone, on one seed."""
    return [
        (cell, method, seed)
        for seed in SEEDS for cell in CELLS for method in STEPS
        if not cell.startswith("dense") or (method == "BPTT" and seed == SEEDS[0])
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cell", choices=list(CELLS))
    parser.add_argument("method", choices=list(STEPS))
    parser.add_argument("seed", type=int)
    parser.add_argument("--steps", type=int)
    asked = parser.parse_args()
    steps = asked.steps or STEPS[asked.method]
    kept(
        name_of(asked.cell, asked.method, asked.seed) + (f"_{steps}" if asked.steps else ""),
        lambda: train(asked.cell, asked.method, asked.seed, steps),
        "python bench/learnability.py",
    )


if __name__ == "__main__":
    main()
