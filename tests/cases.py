"""The tables that the contract tests run over: a new cell or rule is one row here."""

import functools

import jax
import jax.numpy as jnp
import pytest

import rtrl
from rtrl import cells

MODULES = 5

#: Cells that every test runs with, made for an input size.
CELLS = {
    "LRU": lambda size, key: cells.LRU(size, MODULES, r_min=0.3, r_max=0.99, key=key),
    "ComplexDiagonal": lambda size, key: cells.ComplexDiagonal(size, MODULES, r_max=0.95, key=key),
    "LeakyIntegrator": lambda size, key: cells.LeakyIntegrator(size, MODULES, key=key),
}


def zoo(cell, **options):
    return lambda size, key: cell(size, MODULES, key=key, **options)


# Options bring timescales down to those of the short sequences of the tests.
STEP = {"delta_min": 0.1, "delta_max": 1.0}
TAU = {"tau_min": 2.0, "tau_max": 20.0}
SPIKES = {"tau_min": 2.0, "tau_max": 20.0, "threshold": 0.5}

#: Every other exported cell: tested for exactness always, by the costly suites if slow ones run.
ZOO = {
    "S4D": zoo(cells.S4D, **STEP),
    "S5": zoo(cells.S5, **STEP),
    "RTU": zoo(cells.RTU, r_min=0.3, r_max=0.99),
    "RTU-tanh": zoo(cells.RTU, r_min=0.3, r_max=0.99, activation=jnp.tanh),
    "BlockDiagonal": zoo(cells.BlockDiagonal, r_min=0.3, r_max=0.99),
    "BlockDiagonal-3": zoo(cells.BlockDiagonal, block_size=3, r_min=0.3, r_max=0.99),
    "MinGRU": zoo(cells.MinGRU, **TAU),
    "MinLSTM": zoo(cells.MinLSTM, **TAU),
    "HGRN": zoo(cells.HGRN, lower_bound=0.3),
    "RGLRU": zoo(cells.RGLRU, a_min=0.5, a_max=0.95),
    "S6": zoo(cells.S6, **STEP),
    "SignedGate": zoo(cells.SignedGate, **TAU),
    "ComplexGate": zoo(cells.ComplexGate, **TAU),
    "ElementwiseRNN": zoo(cells.ElementwiseRNN, **TAU),
    "ElementwiseGRU": zoo(cells.ElementwiseGRU, **TAU),
    "ElementwiseLSTM": zoo(cells.ElementwiseLSTM, **TAU),
    "ConstGate": zoo(cells.ConstGate, gate=0.3),
    "SharedGate": zoo(cells.SharedGate, tau=5.0),
    "DiagGate": zoo(cells.DiagGate, **TAU),
    "LIF": zoo(cells.LIF, **SPIKES),
    "LIF-detached": zoo(cells.LIF, **SPIKES, detach_reset=True),
    "LIF-zero": zoo(cells.LIF, **SPIKES, reset="zero"),
    "AdaptiveLIF": zoo(cells.AdaptiveLIF, **SPIKES),
    "AdaptiveLIF-detached": zoo(
        cells.AdaptiveLIF, **SPIKES, detach_reset=True, reset="zero",
        surrogate=cells.surrogate.arctan,
    ),
    "CubaLIF": zoo(cells.CubaLIF, **SPIKES, syn_min=1.0, syn_max=5.0),
    "CubaLIF-detached": zoo(
        cells.CubaLIF, **SPIKES, detach_reset=True, reset="subtract"
    ),
    "ResonateAndFire": zoo(cells.ResonateAndFire, **SPIKES),
    "ResonateAndFire-detached": zoo(
        cells.ResonateAndFire, **SPIKES, detach_reset=True,
        surrogate=cells.surrogate.multi_gaussian,
    ),
}  # fmt: skip
#: Cells whose modules see each other.
DENSE = {
    "LinearRNN": zoo(cells.LinearRNN, nu0=0.5),
    "VanillaRNN": zoo(cells.VanillaRNN),
    "GRU": zoo(cells.GRU, nu0=0.5),
    "LSTM": zoo(cells.LSTM, nu0=0.5),
    "LIF-dense": zoo(cells.LIF, **SPIKES, dense=True),
    "AdaptiveLIF-dense": zoo(cells.AdaptiveLIF, **SPIKES, dense=True),
    "ConstGate-dense": zoo(cells.ConstGate, gate=0.3, dense=True),
    "SharedGate-dense": zoo(cells.SharedGate, tau=5.0, dense=True),
    "DiagGate-dense": zoo(cells.DiagGate, **TAU, dense=True),
}
ALL_CELLS = {**CELLS, **ZOO, **DENSE}
#: For the suites that take seconds per cell.
EVERY_CELL = [*CELLS, *(pytest.param(name, marks=pytest.mark.slow) for name in ZOO)]

#: Every exported rule that learns online.
ONLINE_RULES = {
    "RTRL-chunk": rtrl.RTRL(errors="chunk"),
    "RTRL-timestep": rtrl.RTRL(errors="timestep"),
    "Truncated": rtrl.Truncated(),
    "Spatial": rtrl.Spatial(),
}
RULES = {**ONLINE_RULES, "BPTT": rtrl.BPTT(), "ExactRTRL": rtrl.ExactRTRL()}
#: Rules for dense cells, in full or in part; they learn every other cell too.
DENSE_RULES = {
    "SnAp1": rtrl.SnAp1("timestep"),
    "SnApN": rtrl.SnApN(2),
    "EProp": rtrl.EProp("timestep"),
    "UORO": rtrl.UORO(),
    "KFRTRL": rtrl.KFRTRL(),
    "TBPTT": rtrl.TBPTT(3),
}

IN, OUT, WIDTH = 3, 2, 6


def network(cell: str, depth: int = 2, seed: int = 0, **options) -> rtrl.SequenceModel:
    """A small network of one of the cells."""
    precision = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    return _network(cell, depth, seed, precision, tuple(options.items()))


@functools.cache  # making one compiles forty small programs
def _network(cell, depth, seed, precision, options) -> rtrl.SequenceModel:
    key = jax.random.key(seed)
    return rtrl.SequenceModel(IN, OUT, WIDTH, depth, ALL_CELLS[cell], key=key, **dict(options))


def squared_error(prediction, target):
    return ((prediction - target) ** 2).sum()


@functools.partial(jax.jit, static_argnums=(0, 1))
def data(length: int, batch: int | None, seed: int):
    """Random inputs, targets, weights (some zero, some negative) and resets."""
    keys = jax.random.split(jax.random.key(seed), 4)
    lead = (length,) if batch is None else (length, batch)
    xs = jax.random.normal(keys[0], (*lead, IN))
    ys = jax.random.normal(keys[1], (*lead, OUT))
    weights = jax.random.normal(keys[2], lead) * jax.random.bernoulli(keys[3], 0.7, lead)
    resets = jax.random.bernoulli(keys[3], 0.15, lead)
    return xs, ys, weights.astype(xs.dtype), jnp.asarray(resets)


def combinations():
    """Every cell with every rule that fits it, with a batch and without, as parameters of a test.

    By default the core's product, every rule on a complex and a dense cell, and every dense cell
    under SnAp-1; the rest is slow. Essential is what has no batch.
    """
    rules = {**RULES, **DENSE_RULES}
    for cell in ALL_CELLS:
        for rule in rules:
            if cell in DENSE and rule.startswith("RTRL"):
                continue  # refused
            for batch in (None, 2):
                fast = (
                    (cell in CELLS and rule in RULES)
                    or (cell == "LRU" and rule in DENSE_RULES and batch == 2)
                    or (cell == "LeakyIntegrator" and rule in ("SnApN", "UORO") and batch is None)
                    or (cell == "VanillaRNN" and rule in DENSE_RULES and batch == 2)
                    or (cell == "VanillaRNN" and rule in RULES and batch is None)
                    or (cell in DENSE and rule == "SnAp1" and batch is None)
                )
                marks = pytest.mark.slow if not fast else () if batch else pytest.mark.core
                name = f"{cell}-{rule}-{batch}"
                yield pytest.param(cell, rules[rule], batch, marks=marks, id=name)
