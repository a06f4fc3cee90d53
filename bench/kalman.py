"""What `rtrl.kalman` is worth: its numbers over millions of updates, and cost against quality.

    python bench/kalman.py             run what is missing (about ten minutes on one core)
    python bench/kalman.py --table     only print the runs that exist

A run is one JSON file in bench/results/kalman/, so an interrupted benchmark goes on where it was.

*Numbers.* One filter of 16 parameters in float32 beside the same one in float64, on the same
updates: small errors of a linear law, seen through inputs whose sizes are up to 1,000 apart. What
is reported of it at the end: the least eigenvalue of P over its largest; by how much the variance
of a prediction ``x^T P x`` and the prediction itself differ from those in float64, at most over
4,096 inputs; the mean variance over the prior; and, for contrast, the least eigenvalue of P itself
carried in float32, ``P - k k^T / v`` without forgetting.

*Cost and quality.* Prequential error of the second half, every target revealed as late as it is
due; inputs and targets are standardised by the first 500 timesteps, learning begins after 100. One
layer of LRU modules without norm. The laser is five samples ahead; Lorenz 10 and 15, two outputs;
the third is a law of two lags that turns its sign halfway. Times are those of the step alone on the
laser, all optimizers in turns in one process, the least of seven rounds; "old" is how this filter
was before: P itself, one output.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import rtrl
from rtrl import tasks
from rtrl.engine import Observations

RESULTS = Path(__file__).parent / "results" / "kalman"
WARMUP, HELD = 100, 500
SEEDS = (10, 11)
SIZES = (16, 64)
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "rows": rtrl.kalman,
    "rows, no gate": lambda: rtrl.kalman(gate=None),
    "rows, R = 1": lambda: rtrl.kalman(noise=1.0),
    "rows, forgetting .999": lambda: rtrl.kalman(forgetting=0.999),
    "rows, drift 1e-6": lambda: rtrl.kalman(drift=1e-6),
    "mixed": lambda: rtrl.kalman(groups="mixed"),
    "diagonal": lambda: rtrl.kalman(groups="diagonal"),
    "adam 3e-3": lambda: optax.adam(3e-3),
}
#: Only timed, or only on the series with two outputs.
TIMED = ("rows, no gate", "rows, drift 1e-6")
TWO = ("rows, R = 1",)
FILTERS: dict[str, dict[str, Any]] = {
    "all that came counts": {},
    "forgetting .999": {"forgetting": 0.999},
    "forgetting .999, one direction excited": {"forgetting": 0.999},
    "drift 1e-6": {"drift": 1e-6},
}
STEPS = {"all that came counts": 10**7}


# Numbers -------------------------------------------------------------------------------------


def run_filter(name: str) -> dict:
    """One filter over a long stream in both precisions."""
    steps, m = STEPS.get(name, 10**6), 16
    rng = np.random.default_rng(0)
    table = rng.normal(size=(4096, m)) * np.logspace(-1.5, 1.5, m)
    if "one direction" in name:
        table = rng.normal(size=(4096, 1)) * table[:1]
    table = table @ np.linalg.qr(rng.normal(size=(m, m)))[0]  # no input is one direction
    law = rng.normal(size=m)
    targets = table @ law + 0.1 * rng.normal(size=4096)
    filters = rtrl.kalman(**FILTERS[name])
    init, update = filters.init, filters.update
    out: dict[str, Any] = {"kind": "numbers", "filter": name, "updates": steps, "parameters": m}
    covariances = {}
    w32 = np.zeros(m)
    for bits in (32, 64):
        with jax.enable_x64(bits == 64):
            xs, ys = jnp.array(table, f"float{bits}"), jnp.array(targets, f"float{bits}")

            def step(t, carry, xs=xs, ys=ys):
                w, state, P = carry
                x, y = xs[t % 4096], ys[t % 4096]
                one = jnp.ones((1, 1, 1), x.dtype)
                seen = Observations(x[None, None, None], one * (x @ w - y), one)
                updates, state = update(w, state, w, observations=seen, time=jnp.uint32(t))
                k = P @ x
                return w + updates, state, P - jnp.outer(k, k) / (1 + x @ k)

            w = jnp.zeros(m, xs.dtype)
            P = 10.0 * jnp.eye(m, dtype=xs.dtype)
            start = time.perf_counter()
            w, state, P = jax.jit(lambda c, step=step: jax.lax.fori_loop(0, steps, step, c))(
                (w, init(w), P)
            )
            roots = np.asarray(state.roots[0], np.float64)
            out[f"seconds_{bits}"] = round(time.perf_counter() - start, 1)
        covariances[bits] = roots @ roots.T
        if bits == 32:
            plain = np.linalg.eigvalsh(np.asarray(P, np.float64))
            out["plain_covariance_least_eigenvalue"] = float(plain[0])
            out["plain_covariance_finite"] = bool(np.isfinite(plain).all())
            P32 = (np.asarray(state.roots[0]) @ np.asarray(state.roots[0]).T).astype(np.float64)
            out["asymmetry"] = float(abs(P32 - P32.T).max())
            out["finite"] = bool(all(np.isfinite(a).all() for a in jax.tree.leaves(state)))
        else:
            off = table @ (np.asarray(w) - w32)
            out["predictions_off"] = float(abs(off).max() / targets.std())
        w32 = np.asarray(w, np.float64)
    P, exact = covariances[32], covariances[64]
    values = np.linalg.eigvalsh(P)
    variances, right = (np.einsum("ti,ij,tj->t", table, A, table) for A in (P, exact))
    out["variances_off"] = float((abs(variances - right) / right).max())
    out["least_over_largest_eigenvalue"] = float(values[0] / values[-1])
    out["mean_variance_over_prior"] = float(np.trace(P) / m / 10.0)
    return out


# Cost and quality ----------------------------------------------------------------------------


def turn() -> tuple[np.ndarray, int]:
    rng, y = np.random.default_rng(0), [0.0, 0.0]
    for i in range(5000):
        y.append((0.9 if i < 2500 else -0.9) * y[-1] - 0.8 * y[-2] + 0.3 * rng.normal())
    return np.array(y)[:, None], 1


def series(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Inputs, targets in their rows (the target of ``x[t]`` is ``y[t]``), and the horizon."""
    if name == "laser":
        return tasks.santafe(5).xs, tasks.santafe(5).ys, 5
    if name == "lorenz":
        stream = tasks.lorenz(3000, horizon=10)
        return stream.xs[:-5], np.concatenate([stream.ys[:-5], stream.ys[5:]], 1)[:, ::-1], 15
    y, h = turn()
    return y[:-h], y[h:], h


def squared_error(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


def run_learner(data: str, name: str, size: int, seed: int) -> dict:
    xs, ys, h = series(data)

    def scaled(a):
        return ((a - a[:HELD].mean(0)) / a[:HELD].std(0)).astype(np.float32)

    xs, ys = scaled(xs), scaled(ys)
    model = rtrl.SequenceModel(
        xs.shape[1], ys.shape[1], size, 1, lambda n, key: rtrl.cells.LRU(n, size, key=key),
        norm=None, glu="half1", key=jax.random.key(seed),
    )  # fmt: skip
    learner = rtrl.OnlineLearner(squared_error, OPTIMIZERS[name]())
    state = learner.init(model)
    carry = learner.predict(state, xs[0])[1]
    carry = jax.tree.map(jnp.zeros_like, carry)
    arrays, static = eqx.partition(state, eqx.is_array)

    def row(both, now):
        arrays, carry = both
        x, late, y, weight = now
        state, _ = learner.step(eqx.combine(arrays, static), late, y, weight)
        prediction, carry = learner.predict(state, x, carry)
        return (eqx.filter(state, eqx.is_array), carry), prediction

    # The target of x[t - h] comes with x[t]. Before there is any, an input that is not finite:
    # nothing moves.
    late = np.concatenate([np.full_like(xs[:h], np.nan), xs[:-h]])
    due = np.concatenate([np.zeros_like(ys[:h]), ys[:-h]])
    weights = (np.arange(len(xs)) >= WARMUP).astype(np.float32)
    program = jax.jit(lambda both, rows: jax.lax.scan(row, both, rows))
    rows = (xs, late, due, weights)
    (arrays, _), predictions = program((arrays, carry), rows)
    predictions = np.asarray(predictions)
    half = len(ys) // 2
    error = predictions[half:] - ys[half:]
    nrmse = np.sqrt((error**2).mean(0) / ys[half:].var(0))
    final = eqx.combine(arrays, static)
    return {
        "kind": "quality", "series": data, "optimizer": name, "size": size, "seed": seed,
        "second_half_nrmse": float(nrmse.mean()),
        "optimizer_bytes": sum(a.nbytes for a in jax.tree.leaves(final.opt_state)),
    }  # fmt: skip


def run_times(size: int) -> dict:
    """Microseconds of a step on the laser, every optimizer in turns."""
    length = 2000 if size == 16 else 500
    xs, ys, _ = series("laser")
    xs, ys = (a[:length] / 50 - 1 for a in (xs, ys))
    model = rtrl.SequenceModel(
        1, 1, size, 1, lambda n, key: rtrl.cells.LRU(n, size, key=key), norm=None, glu="half1",
        key=jax.random.key(0),
    )  # fmt: skip
    running, found = {}, {}
    for name in (*OPTIMIZERS, "old"):
        optimizer = plain_covariances() if name == "old" else OPTIMIZERS[name]()
        learner = rtrl.OnlineLearner(squared_error, optimizer)
        running[name] = learner, learner.scan(learner.init(model), xs, ys)[0]
        found[name] = []
    for _ in range(7):
        for name, (learner, state) in running.items():
            start = time.perf_counter()
            state, out = learner.scan(state, xs, ys)
            jax.block_until_ready(out.loss)
            found[name].append(1e6 * (time.perf_counter() - start) / length)
            running[name] = learner, state
    return {"kind": "times", "size": size, "load": list(os.getloadavg()),
            "microseconds": {name: round(min(t), 1) for name, t in found.items()}}  # fmt: skip


def plain_covariances(prior: float = 10.0) -> optax.GradientTransformation:
    """P itself, from the gradient alone: what `rtrl.kalman` was."""

    def rows(a):
        return a.reshape(1, -1) if a.ndim < 2 or a.shape[1] == 1 else a

    def init(params):
        return jax.tree.map(
            lambda a: jnp.tile(prior * jnp.eye(rows(a).shape[1]), (len(rows(a)), 1, 1)), params
        )

    def update(grads, P, params=None):
        e = grads.decoder.bias[0]
        slopes = jax.tree.map(lambda g: jnp.where(e == 0, 0, rows(g) / e), grads)
        gains = jax.tree.map(lambda P, j: jnp.einsum("nij,nj->ni", P, j), P, slopes)
        v = 1 + optax.tree.vdot(slopes, gains)
        updates = jax.tree.map(lambda k, g: -(e / v) * k.reshape(g.shape), gains, grads)
        return updates, jax.tree.map(lambda P, k: P - k[:, :, None] * k[:, None, :] / v, P, gains)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


# Runs ----------------------------------------------------------------------------------------


def jobs() -> list[tuple[str, Callable[[], dict]]]:
    found: list[tuple[str, Callable[[], dict]]] = [
        (f"numbers-{name}", lambda name=name: run_filter(name)) for name in FILTERS
    ]
    found += [(f"times-{size}", lambda size=size: run_times(size)) for size in SIZES]
    for seed in SEEDS:
        for size in SIZES:
            for data in ("laser", "lorenz", "turn"):
                for name in OPTIMIZERS:
                    if name in TIMED or (name in TWO and data != "lorenz"):
                        continue
                    run = lambda d=data, n=name, z=size, s=seed: run_learner(d, n, z, s)  # noqa: E731
                    found.append((f"{data}-{name}-{size}-{seed}", run))
    return found


def file_of(name: str) -> Path:
    return RESULTS / (name.replace(" ", "-").replace(",", "").replace("=", "") + ".json")


def table() -> str:
    runs = [json.loads(file_of(n).read_text()) for n, _ in jobs() if file_of(n).exists()]
    lines = [
        "| filter of 16 parameters, float32 | updates | least eigenvalue / largest | asymmetry | "
        "variances off those in float64 | predictions off | mean variance / prior | "
        "least eigenvalue of P carried as it is |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in runs:
        if r["kind"] == "numbers":
            lines.append(
                f"| {r['filter']} | {r['updates']:.0e} | "
                f"{r['least_over_largest_eigenvalue']:.1e} | {r['asymmetry']:.0e} | "
                f"{r['variances_off']:.1e} | {r['predictions_off']:.1e} | "
                f"{r['mean_variance_over_prior']:.1e} | "
                f"{r['plain_covariance_least_eigenvalue']:.1e} |"
            )
    lines += [
        "",
        "| second half NRMSE, mean (lowest to highest) | laser, 16 | laser, 64 | Lorenz, 16 | "
        "Lorenz, 64 | turn, 16 | turn, 64 | us a timestep, 16 | 64 | bytes, 16 | 64 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in (*OPTIMIZERS, "old"):
        cells = []
        for data in ("laser", "lorenz", "turn"):
            for size in SIZES:
                e = [r["second_half_nrmse"] for r in runs if r["kind"] == "quality"
                     and (r["series"], r["optimizer"], r["size"]) == (data, name, size)
                     ]  # fmt: skip
                cells.append(f"{np.mean(e):.3f} ({min(e):.3f} to {max(e):.3f})" if e else "")
        for size in SIZES:
            found = [r["microseconds"][name] for r in runs
                     if r["kind"] == "times" and r["size"] == size]  # fmt: skip
            cells.append(f"{found[0]:.0f}" if found else "")
        for size in SIZES:  # one output
            e = [r["optimizer_bytes"] for r in runs if r["kind"] == "quality" and
                 (r["series"], r["optimizer"], r["size"]) == ("turn", name, size)]  # fmt: skip
            cells.append(f"{e[0]:,}" if e else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="only print what has been run")
    parser.add_argument("--only", default="", help="only runs whose name has this in it")
    given = parser.parse_args()
    if not given.table:
        RESULTS.mkdir(parents=True, exist_ok=True)
        for name, run in jobs():
            if given.only in name and not file_of(name).exists():
                found = run() | {
                    "versions": {name: version(name) for name in ("rtrl", "jax", "numpy")},
                    "command": "python bench/kalman.py",
                }
                file_of(name).write_text(json.dumps(found, indent=1) + "\n")
                print(found, flush=True)
    print(table())
    (RESULTS.parent / "kalman.md").write_text(table() + "\n")


if __name__ == "__main__":
    main()
