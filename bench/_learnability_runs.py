"""One network learns to regress on its past inputs: what it recovers, and its mu, along the way."""

import argparse
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _analysis_runs import kept

import rtrl
from rtrl import analysis, tasks

LAGS = (4, 8, 16, 32, 64, 128, 256)
COEFFICIENTS = (0.38,) * len(LAGS)
LENGTH, BATCH, N, IN = 768, 16, 64, 4
STEPS = {"BPTT": 2000, "online": 1000}
CHUNK = {"BPTT": LENGTH, "online": 16}
RATE = {"BPTT": 5e-3, "online": 1e-3}
SHARES = (0, 1 / 16, 1 / 4, 1 / 2, 1)  # of training, when everything is measured
SEEDS = (0, 1, 2)
CELLS = {
    "ConstGate": lambda key: rtrl.cells.ConstGate(IN, N, gate=0.1, key=key),
    "SharedGate": lambda key: rtrl.cells.SharedGate(IN, N, tau=10.0, key=key),
    "DiagGate": lambda key: rtrl.cells.DiagGate(IN, N, key=key),
    # As published: every neuron sees every other, and exact RTRL is out of reach.
    "dense ConstGate": lambda key: rtrl.cells.ConstGate(IN, N, gate=0.1, dense=True, key=key),
    "dense SharedGate": lambda key: rtrl.cells.SharedGate(IN, N, tau=10.0, dense=True, key=key),
    "dense DiagGate": lambda key: rtrl.cells.DiagGate(IN, N, dense=True, key=key),
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
        parts = [p for h in jax.tree.leaves(hs) for p in real_parts(h)]
        return jax.vmap(jax.vmap(self.readout))(jnp.concatenate(parts, -1)), (after,)


def real_parts(h):
    return (h.real, h.imag) if jnp.iscomplexobj(h) else (h,)


def network(name: str, seed: int) -> Network:
    key = jax.random.key(seed)
    cell = CELLS[name](jax.random.fold_in(key, 0))
    size = 2 * N if name == "LRU" else N
    return Network(cell, eqx.nn.Linear(size, 1, key=jax.random.fold_in(key, 1)))


def squared_error(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


def batch(seed: Any, size: int = BATCH):
    data = tasks.lag_regression(
        size, rng=np.random.default_rng(seed), length=LENGTH, in_size=IN, lags=LAGS,
        coefficients=COEFFICIENTS,
    )  # fmt: skip
    return jnp.asarray(data.xs), jnp.asarray(data.ys)


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


def measured(model: Network) -> dict[str, Any]:
    """What a network recovers, how far its effective rates reach, and its gradient's noise."""
    xs, ys = batch([1_000_000], 64)
    mu = np.abs(analysis.effective_rates(model.cell, xs[: max(LAGS) + 64, 0], max(LAGS)))
    return {
        "envelope": rounded(analysis.envelope(mu) / N),
        # What the module that keeps most still has of its state.
        "longest": rounded([np.mean(mu[lag:, lag].max(-1)) for lag in range(max(LAGS) + 1)]),
    } | recovered(model, xs, ys) | response(model) | gradient_noise(model)  # fmt: skip


def recovered(model: Network, xs, ys) -> dict[str, list[float]]:
    """Shares of the coefficients in what it predicts, and in what its states could predict.

    ``attainable`` is that of the readout that fits these targets best: what stays below it is not
    learned yet, or kept where no readout can tell it from the inputs of other lags.
    """
    rule = rtrl.BPTT()

    @eqx.filter_jit
    def run(m, x):
        hs = rtrl.recur(m.cell, x, rtrl.init_carry(m.cell, rule, x.shape[1]), rule=rule)[0]
        states = jnp.concatenate([p for h in jax.tree.leaves(hs) for p in real_parts(h)], -1)
        return states, jax.vmap(jax.vmap(m.readout))(states)

    states, predictions = map(np.asarray, run(model, xs))
    late = max(LAGS)
    X = states[late:].reshape(-1, states.shape[-1]).astype(float)
    X = np.concatenate([X, np.ones((len(X), 1))], 1)
    best = np.linalg.lstsq(X, np.asarray(ys[late:], float).ravel(), rcond=1e-8)[0]
    fitted = np.concatenate([states, np.ones((*states.shape[:2], 1))], -1) @ best
    shares = {"recovered": predictions, "attainable": fitted[..., None]}
    return {
        k: rounded(coefficients(np.asarray(xs), p) / np.array(COEFFICIENTS))
        for k, p in shares.items()
    }


def attainable_at_first() -> dict[str, dict[str, list[float]]]:
    """What the best readout of untrained states recovers, cell by cell and seed by seed."""
    xs, ys = batch([1_000_000], 64)
    return {
        name: {str(s): recovered(network(name, s), xs, ys)["attainable"] for s in SEEDS}
        for name in CELLS
    }


def rounded(values) -> list[float]:
    return [float(f"{v:.4g}") for v in np.asarray(values, float)]


def coefficients(xs: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """How the predictions depend on the direction of the task, at every lag, by least squares."""
    z, late = xs @ direction(), max(LAGS)
    columns = [z[late - lag : LENGTH - lag].ravel() for lag in LAGS]
    X, y = np.stack(columns, 1), predictions[late:, :, 0].ravel()
    return np.linalg.lstsq(X, y - y.mean(), rcond=None)[0]


def direction() -> np.ndarray:
    """The unit vector of the task, from data without noise at a single lag of 0."""
    data = tasks.lag_regression(
        4, rng=0, length=64, in_size=IN, lags=(0,), coefficients=(1.0,), noise=0.0
    )
    xs, ys = np.asarray(data.xs).reshape(-1, IN), np.asarray(data.ys).ravel()
    return np.linalg.lstsq(xs, ys, rcond=None)[0]


def response(model: Network) -> dict[str, Any]:
    """How an input moves the prediction a lag later, exactly; and what modules bring to that.

    ``response``: mean over sequences of ``dy_{s+l}/dx_s . u``. ``incoherent``: sum over modules of
    ``|C_q| |dh_{q,s+l}/dx_s . u|``, in which nothing cancels: neither phases nor modules.
    """
    size, at = 16, 64
    xs = batch([1_000_001], size)[0][: at + max(LAGS) + 1]
    bump = jnp.zeros_like(xs).at[at].set(jnp.asarray(direction(), jnp.float32))
    rule = rtrl.BPTT()

    @eqx.filter_jit
    def push(m, xs, bump):
        run = lambda x: rtrl.recur(m.cell, x, rtrl.init_carry(m.cell, rule, size), rule=rule)[0]  # noqa: E731
        return jax.jvp(run, (xs,), (bump,))[1]

    moved = jax.tree.leaves(push(model, xs, bump))
    C, total, apart = np.asarray(model.readout.weight[0], float), 0, 0
    for h in moved:
        h = np.asarray(h)[at:]
        n = h.shape[-1]
        c, C = C[:n], C[n:]
        if np.iscomplexobj(h):
            c, C = c - 1j * C[:n], C[n:]
        total = total + np.real(h @ c).mean(1)
        apart = apart + (np.abs(h) @ np.abs(c)).mean(1)
    return {"response": rounded(total), "incoherent": rounded(apart)}


def gradient_noise(model: Network) -> dict[str, float]:
    """Tail index of the gradient of the cell's parameters, sequence by sequence; its two scales."""
    xs, ys = batch([1_000_002], 128)
    weights = np.full(LENGTH, 1 / LENGTH)

    def one(model, x, y):
        def objective(cell):
            m = eqx.tree_at(lambda m: m.cell, model, cell)
            rule = rtrl.BPTT()
            p = m(x[:, None], rtrl.init_carry(m, rule, 1), rule=rule)[0][:, 0]
            return (0.5 * (p - y) ** 2).sum(-1) @ weights

        g = eqx.filter_grad(objective)(model.cell)
        return jnp.concatenate([a.ravel() for a in jax.tree.leaves(eqx.filter(g, eqx.is_array))])

    each = eqx.filter_jit(eqx.filter_vmap(one, in_axes=(None, 1, 1)))
    g = np.asarray(each(model, xs, ys), float)
    spread = np.percentile(g, 75, axis=0) - np.percentile(g, 25, axis=0)
    scaled = (g - np.median(g, 0))[:, spread > 0] / spread[spread > 0]
    return {
        "alpha": analysis.stable_index(scaled),
        "signal": float(np.linalg.norm(g.mean(0))),
        "noise": float(np.sqrt(g.var(0, ddof=1).sum())),
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
