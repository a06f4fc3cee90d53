"""The lag regression of the learnability window, and the networks that are to learn it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import rtrl
from rtrl import tasks

LAGS = (4, 8, 16, 32, 64, 128, 256)
COEFFICIENTS = (0.38,) * len(LAGS)
LENGTH, BATCH, N, IN = 768, 16, 64, 4
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
