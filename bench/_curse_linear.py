"""Linear recurrent networks of the curse: students from dense to LRU, step by step."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

import rtrl
from rtrl.cells import LRU, Cell, ComplexDiagonal

CHANGES = ("dense", "block diagonal", "more blocks", "complex diagonal", "normalised",
           "exponential", "LRU")  # fmt: skip
"""Figure 3.3.B, one change at a time: of the last three, the first has the LRU's gain alone, the
second its exponential parametrisation alone."""


class Linear(eqx.Module):
    """A cell and a linear readout, nothing else: y = Re(C h) + D x."""

    cell: rtrl.Cell
    readout: rtrl.Readout
    recurs_once = True
    in_size: int = eqx.field(static=True, default=1)

    def __call__(self, xs, carry, *, rule, resets=None, mask=None, key=None):
        hs, after = rtrl.recur(self.cell, xs, carry[0], rule=rule, resets=resets, mask=mask)
        return jax.vmap(jax.vmap(self.readout))(hs, xs), (after,)


class Normalised(Cell):
    """`ComplexDiagonal` with the gain of an LRU: h_t = lambda h_{t-1} + gamma (B x_t)."""

    lambda_re: Any
    lambda_im: Any
    gamma_log: Any
    B_re: Any
    B_im: Any

    def __init__(self, in_size: int, hidden_size: int, *, r_min: float, r_max: float, key: Any):
        plain = ComplexDiagonal(in_size, hidden_size, r_min=r_min, r_max=r_max, key=key)
        self.lambda_re, self.lambda_im = plain.lambda_re, plain.lambda_im
        self.gamma_log = 0.5 * jnp.log(1 - plain.lambda_re**2 - plain.lambda_im**2)
        self.B_re, self.B_im = plain.B_re, plain.B_im

    def project(self):
        return jax.lax.complex(self.B_re, self.B_im)

    def update(self, h, u):
        return jax.lax.complex(self.lambda_re, self.lambda_im) * h + jnp.exp(self.gamma_log) * u


class Exponential(Cell):
    """`LRU` without a gain: h_t = exp(-exp(nu_log) + i exp(theta_log)) h_{t-1} + B x_t."""

    nu_log: Any
    theta_log: Any
    B_re: Any
    B_im: Any

    def __init__(self, in_size: int, hidden_size: int, *, r_min: float, r_max: float, key: Any):
        lru = LRU(in_size, hidden_size, r_min=r_min, r_max=r_max, key=key)
        self.nu_log, self.theta_log, self.B_re, self.B_im = (
            lru.nu_log, lru.theta_log, lru.B_re, lru.B_im
        )  # fmt: skip

    def project(self):
        return jax.lax.complex(self.B_re, self.B_im)

    def update(self, h, u):
        return jnp.exp(jax.lax.complex(-jnp.exp(self.nu_log), jnp.exp(self.theta_log))) * h + u


def linear(kind: str, n: int, nu0: float, key: Any) -> Linear:
    """Make a network of n neurons (real numbers where real, complex ones where complex)."""
    cell_key, readout_key = jax.random.split(key)
    complex_kinds = {"LRU": LRU, "complex diagonal": ComplexDiagonal, "normalised": Normalised,
                     "exponential": Exponential}  # fmt: skip
    if kind == "dense":
        cell = rtrl.cells.LinearRNN(1, n, nu0=nu0, key=cell_key)
    elif kind in ("block diagonal", "more blocks"):
        blocks = n // 2 if kind == "block diagonal" else n
        cell = rtrl.cells.BlockDiagonal(1, blocks, r_min=nu0, r_max=1.0, key=cell_key)
    else:
        cell = complex_kinds[kind](1, n, r_min=nu0, r_max=1.0, key=cell_key)
    return Linear(cell, rtrl.Readout(cell, 1, key=readout_key))


def squared_error(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)
