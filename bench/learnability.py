"""Measured learnability windows beside predicted ones, for gates of every kind.

    python bench/learnability.py     what is missing is computed; then the table and the picture

A short version of the lag regression of arXiv 2512.05790: white inputs of 4 features, targets a sum
of one direction of them 4, 8, 16, 32 and 64 timesteps ago, with noise; T = 256, 32 neurons, a
linear readout, 400 batches of 16 (the paper: lags to 256, T = 1024, 128 neurons). Every cell is
trained by BPTT and online in chunks of 16. Measured: the largest lag whose coefficient is at least
a quarter recovered on fresh data. Predicted: ``H_N`` from the envelope of the trained cell's
effective learning rates and the tail index of its gradients' noise, with one constant for all
cells, fitted. Ten minutes.

Writes bench/results/analysis/learnability_*.json, learnability.md and learnability.png.
"""

import argparse
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _analysis_runs import RESULTS, kept
from scipy.stats import spearmanr

import rtrl
from rtrl import analysis, tasks

COMMAND = "python bench/learnability.py"
LAGS = (4, 8, 16, 32, 64)
COEFFICIENTS = (0.45, 0.45, 0.45, 0.45, 0.45)
LENGTH, BATCH, STEPS, N, IN, MAX_LAG = 256, 16, 400, 32, 4, 96
RECOVERED = 0.25
VERDICT = """\
Agrees: gradients are mildly heavy-tailed (1.6 to 1.95), and cells with time scales of many
lengths (DiagGate, MinGRU) have the broader envelopes. Does not: after so little training the
envelope says little about what was learned. LRUs recover the farthest lags with an envelope
like the others'. Why is not measured here; an envelope of moduli can't see the phases of
eigenvalues, for one. Longer training, longer lags and more seeds, as in the paper, are not
done."""
CELLS = {
    "ConstGate": lambda key: rtrl.cells.ConstGate(IN, N, gate=0.1, key=key),
    "SharedGate": lambda key: rtrl.cells.SharedGate(IN, N, tau=10.0, key=key),
    "DiagGate": lambda key: rtrl.cells.DiagGate(IN, N, key=key),
    "GRU": lambda key: rtrl.cells.GRU(IN, N, nu0=0.9, key=key),
    "LSTM": lambda key: rtrl.cells.LSTM(IN, N, nu0=0.9, key=key),
    "MinGRU": lambda key: rtrl.cells.MinGRU(IN, N, key=key),
    "LRU": lambda key: rtrl.cells.LRU(IN, N, r_min=0.5, r_max=0.99, key=key),
}


class Network(eqx.Module):
    """A cell and a linear readout."""

    cell: rtrl.Cell
    readout: eqx.nn.Linear
    recurs_once = True
    in_size: int = eqx.field(static=True, default=IN)

    def __call__(self, xs, carry, *, rule, resets=None, mask=None, key=None):
        hs, after = rtrl.recur(self.cell, xs, carry[0], rule=rule, resets=resets, mask=mask)
        parts = [
            p
            for h in jax.tree.leaves(hs)
            for p in ((h.real, h.imag) if jnp.iscomplexobj(h) else (h,))
        ]
        return jax.vmap(jax.vmap(self.readout))(jnp.concatenate(parts, -1)), (after,)


def real_parts(h):
    return (h.real, h.imag) if jnp.iscomplexobj(h) else (h,)


def network(name: str) -> Network:
    cell = CELLS[name](jax.random.key(0))
    size = 2 * N if name == "LRU" else N
    return Network(cell, eqx.nn.Linear(size, 1, key=jax.random.key(1)))


def squared_error(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


def batch(seed: Any, size: int = BATCH):
    data = tasks.lag_regression(
        size, rng=np.random.default_rng(seed), length=LENGTH, in_size=IN, lags=LAGS,
        coefficients=COEFFICIENTS,
    )  # fmt: skip
    return jnp.asarray(data.xs), jnp.asarray(data.ys)


def train(name: str, method: str) -> dict:
    model = network(name)
    online = method == "online"
    dense = name in ("GRU", "LSTM")
    rule = (rtrl.SnAp1() if dense else rtrl.RTRL()) if online else rtrl.BPTT()
    chunk = 16 if online else LENGTH
    updates = STEPS * (LENGTH // chunk)
    rate = 1e-3 if online else 5e-3
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(rate, updates))
    )
    learner = rtrl.OnlineLearner(squared_error, optimizer, rule=rule)
    state = learner.init(model, BATCH)
    resets, weights = np.zeros(LENGTH, bool), np.full(LENGTH, 1 / chunk)
    resets[0] = True
    for step in range(STEPS):
        xs, ys = batch([0, step])
        state, out = learner.scan(state, xs, ys, chunk=chunk, weights=weights, resets=resets)
    model = state.model
    xs, ys = batch([1], 64)
    predictions = eqx.filter_jit(
        lambda m, x: m(x, rtrl.init_carry(m, rtrl.BPTT(), 64), rule=rtrl.BPTT())[0]
    )(model, xs)
    recovered = coefficients(np.asarray(xs), np.asarray(predictions))
    mu = analysis.effective_rates(model.cell, xs[:, 0], MAX_LAG)
    return {
        "recovered": (recovered / np.array(COEFFICIENTS)).tolist(),
        "loss": float(2 * out.loss.mean()),
        "envelope": (analysis.envelope(mu) / N).tolist(),
        "alpha": gradient_index(model),
    }


def coefficients(xs: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """How the predictions depend on the direction of the task, at every lag, by least squares."""
    u = direction()
    z = xs @ u  # (T, B)
    late = LENGTH - max(LAGS)
    columns = [z[max(LAGS) - lag : LENGTH - lag].ravel() for lag in LAGS]
    X = np.stack(columns, 1)
    y = predictions[max(LAGS) :, :, 0].ravel()
    assert len(y) == late * xs.shape[1]
    return np.linalg.lstsq(X, y - y.mean(), rcond=None)[0]


def direction() -> np.ndarray:
    """The unit vector of the task, from data without noise at a single lag of 0."""
    data = tasks.lag_regression(
        4, rng=0, length=64, in_size=IN, lags=(0,), coefficients=(1.0,), noise=0.0
    )
    xs, ys = np.asarray(data.xs).reshape(-1, IN), np.asarray(data.ys).ravel()
    return np.linalg.lstsq(xs, ys, rcond=None)[0]


def gradient_index(model: Network) -> float:
    """Tail index of the gradient of the cell's parameters, sequence by sequence."""
    xs, ys = batch([2], 128)
    weights = np.full(LENGTH, 1 / LENGTH)

    def one(x, y):
        def objective(cell):
            m = eqx.tree_at(lambda m: m.cell, model, cell)
            rule = rtrl.BPTT()
            p = m(x[:, None], rtrl.init_carry(m, rule, 1), rule=rule)[0][:, 0]
            return (0.5 * (p - y) ** 2).sum(-1) @ weights

        g = eqx.filter_grad(objective)(model.cell)
        return jnp.concatenate([a.ravel() for a in jax.tree.leaves(eqx.filter(g, eqx.is_array))])

    g = np.asarray(jax.jit(jax.vmap(one, in_axes=1))(xs, ys), float)
    spread = np.percentile(g, 75, axis=0) - np.percentile(g, 25, axis=0)
    g = (g - np.median(g, 0))[:, spread > 0] / spread[spread > 0]
    return analysis.stable_index(g)


def measured_window(row: dict) -> int:
    return max(
        (lag for lag, c in zip(LAGS, row["recovered"], strict=True) if c >= RECOVERED), default=0
    )


def predicted_windows(rows: dict, noise: float) -> dict:
    samples = STEPS * BATCH
    return {
        k: int(analysis.learnability_window(
            np.maximum(r["envelope"], 1e-12), max(r["alpha"], 1.05), samples, noise=noise
        ))
        for k, r in rows.items()
    }  # fmt: skip


def fitted_noise(rows: dict) -> float:
    """The one constant at which predictions are nearest to what was measured, in log lags."""

    def off(noise):
        found = predicted_windows(rows, noise)
        return sum((np.log2(1 + found[k]) - np.log2(1 + measured_window(r))) ** 2
                   for k, r in rows.items())  # fmt: skip

    return min(np.logspace(-2, 4, 200), key=off)


def table(rows: dict) -> str:
    noise = fitted_noise(rows)
    predicted = predicted_windows(rows, noise)
    lines = [
        "# Learnability windows, measured and predicted", "",
        f"Lags {', '.join(map(str, LAGS))}; {STEPS} batches of {BATCH}. One constant for all "
        f"predictions (noise {noise:.3g}). Share: of the coefficient at each lag that was "
        "recovered.", "",
        "| cell | trained | mean squared error | envelope | tail index | measured window | "
        "predicted | " + " | ".join(f"share at {lag}" for lag in LAGS) + " |",
        "|---|---|---:|---|---:|---:|---:|" + "---:|" * len(LAGS),
    ]  # fmt: skip
    for (name, method), r in rows.items():
        f = np.maximum(np.asarray(r["envelope"]), 1e-12)
        fit = analysis.fit_decay(f[:65])
        shape = f"l^-{fit.exponent:.2g}" if fit.kind == "power" else f"exp(-l/{fit.tau:.3g})"
        lines.append(
            f"| {name} | {method} | {r['loss']:.3f} | {shape} | {r['alpha']:.2f} | "
            f"{measured_window(r)} | {predicted[name, method]} | "
            + " | ".join(f"{c:.2f}" for c in r["recovered"]) + " |"
        )  # fmt: skip
    measured = [measured_window(r) for r in rows.values()]
    rank: Any = spearmanr(measured, list(predicted.values()))
    lines += ["", f"Rank correlation of measured and predicted windows: {rank.statistic:.2f} over "
              f"{len(rows)} runs.", "", VERDICT]  # fmt: skip
    return "\n".join(lines) + "\n"


def draw(rows: dict) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.8), layout="constrained")
    axes: Any = figure.subplots(1, 3)
    predicted = predicted_windows(rows, fitted_noise(rows))
    for i, name in enumerate(CELLS):
        for method, line in (("BPTT", "-"), ("online", "--")):
            r = rows[name, method]
            label = name if method == "BPTT" else ""
            analysis.draw_envelope(axes[0], r["envelope"], label, color=f"C{i}", ls=line)
            axes[1].plot(LAGS, r["recovered"], line, marker="o", color=f"C{i}", label=label)
            axes[2].plot(1 + measured_window(r), 1 + predicted[name, method],
                         "o" if method == "BPTT" else "s", color=f"C{i}", label=label)  # fmt: skip
    axes[0].set(title="Envelope of the trained cell (dashed: online)", ylim=(1e-4, 1.2))
    axes[1].set_xscale("log", base=2)
    axes[1].set(title="What was learned", xlabel="lag", ylabel="share of the coefficient")
    axes[2].plot([1, 100], [1, 100], color="0.8")
    axes[2].set_xscale("log")
    axes[2].set_yscale("log")
    axes[2].set(title="Windows (squares: online)", xlabel="1 + measured", ylabel="1 + predicted")
    axes[1].legend(frameon=False, fontsize=9)
    figure.savefig(RESULTS / "learnability.png", dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    rows = {}
    for name, method in itertools.product(CELLS, ("BPTT", "online")):
        rows[name, method] = kept(
            f"learnability_{name}_{method}", lambda n=name, m=method: train(n, m), COMMAND
        )
    (RESULTS / "learnability.md").write_text(table(rows))
    draw(rows)


if __name__ == "__main__":
    main()
