"""Figures 3.4 and A.4: the Hessian at an optimum that networks of four kinds share."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _curse_linear import Linear
from jax.flatten_util import ravel_pytree

import rtrl

N, NU0, LENGTH, BATCH = 4, 0.99, 300, 16
RATE, STEPS = 1e-3, 400
DELTA = 0.01  # of S4D, as in figure A.4


def networks() -> dict[str, Linear]:
    """Networks that compute the same: two pairs of complex eigenvalues, as in the thesis."""
    rng = np.random.default_rng(3)
    modulus = NU0 + (1 - NU0) * np.tanh(rng.uniform(0.3, 1, 2))
    angle = rng.uniform(0.1, np.pi - 0.1, 2)
    pairs = np.concatenate([modulus * np.exp(1j * angle), modulus * np.exp(-1j * angle)])
    half = rng.normal(size=(N, 2)) + 1j * rng.normal(size=(N, 2))
    P = np.concatenate([half, half.conj()], 1)  # conjugate columns: P diag P^-1 is real
    A = (P * pairs) @ np.linalg.inv(P)
    B, C, D = rng.normal(size=(N, 1)), rng.normal(size=(1, N)), rng.normal(size=1)
    into, out = np.linalg.solve(P, B), C @ P
    theta, gain = np.angle(pairs) % (2 * np.pi), np.sqrt(1 - np.abs(pairs) ** 2)
    key = jax.random.key(0)
    values = {
        "dense": (rtrl.cells.LinearRNN(1, N, key=key), {"A": A.real, "B": B}),
        "complex diagonal": (
            rtrl.cells.ComplexDiagonal(1, N, key=key),
            {"lambda_re": pairs.real, "lambda_im": pairs.imag} | parts(into),
        ),
        "LRU": (
            rtrl.cells.LRU(1, N, key=key),
            {"nu_log": np.log(-np.log(np.abs(pairs))), "theta_log": np.log(theta),
             "gamma_log": np.log(gain)} | parts(into / gain[:, None]),
        ),
        "S4D": (
            rtrl.cells.S4D(1, N, key=key),
            {"w_re": np.log(np.abs(pairs)) / DELTA, "w_im": np.angle(pairs) / DELTA,
             "w_delta": np.full(N, np.log(np.expm1(DELTA)))} | parts(into / DELTA),
        ),
    }  # fmt: skip
    found = {}
    for name, (cell, fields) in values.items():
        readout = rtrl.Readout(cell, 1, key=key)
        written = {"C_re": C, "D": D} if name == "dense" else {
            "C_re": out.real, "C_im": out.imag, "D": D}  # fmt: skip
        found[name] = Linear(put(cell, fields), put(readout, written))
    return found


def parts(into: np.ndarray) -> dict[str, np.ndarray]:
    return {"B_re": np.real(into), "B_im": np.imag(into)}


def put(module: Any, fields: dict[str, np.ndarray]) -> Any:
    """Put values in the fields of a module."""
    new = tuple(jnp.asarray(v, jnp.float32) for v in fields.values())
    return eqx.tree_at(lambda m: tuple(getattr(m, k) for k in fields), module, new)


def hessians() -> dict[str, dict[str, Any]]:
    """Gauss-Newton, which is the Hessian at an optimum without residuals: E of J^T J."""
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(LENGTH, BATCH, 1)), jnp.float32)
    rule, found, outputs = rtrl.BPTT(), {}, []
    for name, model in networks().items():
        params, static = eqx.partition(model, eqx.is_inexact_array)
        flat, unravel = ravel_pytree(params)

        def predict(p, static=static, unravel=unravel, model=model):
            network = eqx.combine(unravel(p), static)
            return network(xs, rtrl.init_carry(model, rule, BATCH), rule=rule)[0].ravel()

        y = predict(flat)
        J = np.asarray(jax.jit(jax.jacfwd(predict))(flat), float)
        H = J.T @ J / len(J)
        values, vectors = np.linalg.eigh(H)
        values, vectors = values[::-1], vectors[:, ::-1]
        top = vectors[:, : min(10, int((values > 1e-6 * values[0]).sum()))]
        groups: dict[str, float] = {}
        start = 0
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            part = float(np.trace(H[start : start + leaf.size, start : start + leaf.size]))
            groups[jax.tree_util.keystr(path).rsplit(".", 1)[-1]] = part / float(np.trace(H))
            start += leaf.size
        found[name] = {
            "parameters": len(flat), "eigenvalues": values.tolist(),
            # On how many coordinates an eigenvector lies: 1 for an axis, all for an even spread.
            "spread": (1 / (top**4).sum(0)).tolist(), "groups": groups, "hessian": H.tolist(),
            "rates": adam_rates(model, xs, y).tolist(),
        }  # fmt: skip
        outputs.append(np.asarray(y))
    # One optimum: the four compute the same, to the rounding of float32 over long memories.
    worst = max(np.abs(y - outputs[0]).max() for y in outputs) / outputs[0].std()
    assert worst < 1e-3, worst
    return found


def adam_rates(model: Linear, xs, target) -> np.ndarray:
    """Adam's rate for each parameter, ``rate / (sqrt(v) + eps)``, after learning near the best."""
    rule = rtrl.BPTT()
    params, static = eqx.partition(model, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(params)
    p = flat * (1 + 0.003 * jax.random.normal(jax.random.key(1), flat.shape))
    optimizer = optax.adam(RATE)
    state = optimizer.init(p)

    @jax.jit
    def step(p, state):
        def objective(p):
            network = eqx.combine(unravel(p), static)
            y = network(xs, rtrl.init_carry(model, rule, xs.shape[1]), rule=rule)[0].ravel()
            return 0.5 * jnp.mean((y - target) ** 2)

        updates, state = optimizer.update(jax.grad(objective)(p), state)
        return optax.apply_updates(p, updates), state

    for _ in range(STEPS):
        p, state = step(p, state)
    second = optax.tree.get(state, "nu") / (1 - 0.999**STEPS)
    return np.asarray(RATE / (jnp.sqrt(second) + 1e-8))
