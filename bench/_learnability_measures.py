"""What is measured of a network along training: recovered lags, effective rates, noise."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _learnability_task import COEFFICIENTS, IN, LAGS, LENGTH, N, Network, batch, real_parts

import rtrl
from rtrl import analysis, tasks


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
