"""Which gates and units are saturated? Sigmoids and tanhs, found in a cell's own code."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jaxtyping import Array, Float

from rtrl.analysis._recording import Record
from rtrl.cells import Cell
from rtrl.engine import Modules

#: Of a sigmoid s, s (1 - s); of a tanh, 1 - tanh^2: below, the unit is at its stop. A gate that
#: keeps a memory for tau timesteps has a slope of 1 / tau, so that one of 1000 timesteps passes.
STOPS = {"logistic": 1e-3, "tanh": 1e-2}
FULL = 0.8  # share of the timesteps at which a unit is at its stop, to be called saturated

_INNER = ("jaxpr", "call_jaxpr")


class Gate(NamedTuple):
    """A sigmoid or tanh in a cell's update.

    Attributes:
        name: ``sigmoid 1``, ``tanh 1``, ..., in the order of the code.
        values: its mean over the window, ``(N,)``.
        saturated: the share of timesteps at which it is at its stop, ``(N,)``.
    """

    name: str
    values: Float[np.ndarray, " N"]
    saturated: Float[np.ndarray, " N"]


def gates(cell: Cell, record: Record) -> list[Gate]:
    """Find every sigmoid and tanh in a cell's update, and how it stands on a window.

    ::

        saturated: s (1 - s) < 0.001 of a sigmoid s, 1 - tanh^2 < 0.01 of a tanh

    Args:
        cell: the cell.
        record: of this cell on a window.

    Returns one `Gate` for each, none for a cell without, or one driven by its input directly.
    """
    m = Modules(cell)
    if any(x is None for x in record.partials.inputs):
        return []
    values = _evaluate(cell, record)
    counts: dict[str, int] = {}
    found = []
    for kind, value in values:
        value = np.asarray(value)
        value = np.broadcast_to(value, (*value.shape[:2], m.initial.shape[1]))
        slope = value * (1 - value) if kind == "logistic" else 1 - value**2
        counts[kind] = counts.get(kind, 0) + 1
        name = f"{'sigmoid' if kind == 'logistic' else kind} {counts[kind]}"
        found.append(Gate(name, value.mean((0, 1)), (slope < STOPS[kind]).mean((0, 1))))
    return found


def _evaluate(cell: Cell, record: Record) -> list[tuple[str, Array]]:
    """The values of every sigmoid and tanh, ``(K, B, N)`` each."""
    kinds: list[str] = []

    @eqx.filter_jit
    def run(cell, record):
        m = Modules(cell)
        p = record.partials
        first = jnp.broadcast_to(m.initial, record.states[:1].shape)
        before = jnp.concatenate([first, record.states[:-1]])
        if p.resets is not None:
            before = jnp.where(p.resets[..., None, None], m.initial, before)
        weights = m.weights()
        u = [x @ w.T for x, w in zip(p.inputs, weights, strict=False) if w is not None]
        v = [x @ w.T for x, w in zip(p.inputs[len(weights) :], m.recurrent(), strict=True)]

        def values(h, w):
            closed = jax.make_jaxpr(lambda h, w: m.update(h, w))(h, w)
            kinds.clear()
            collected: list[Any] = []
            _walk(closed.jaxpr, closed.consts, jax.tree.leaves((h, w)), kinds, collected)
            return collected

        return jax.vmap(jax.vmap(values))(before, (*u, *v))

    collected = run(cell, record)
    return list(zip(kinds, collected, strict=True))


def _walk(
    jaxpr: Any, consts: list[Any], arguments: list[Any], kinds: list[str], found: list[Any]
) -> list[Any]:
    """Run a program operation by operation, noting the sigmoids and tanhs."""
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values |= zip(jaxpr.invars, arguments, strict=True)

    def look_up(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        inputs = [look_up(atom) for atom in eqn.invars]
        inner = next((eqn.params[k] for k in _INNER if k in eqn.params), None)
        name = eqn.primitive.name
        if inner is not None and name not in ("scan", "while", "custom_vjp_call"):
            program = getattr(inner, "jaxpr", inner)
            results = _walk(program, getattr(inner, "consts", []), inputs, kinds, found)
        else:
            results = eqn.primitive.bind(*inputs, **eqn.params)
            results = results if eqn.primitive.multiple_results else [results]
            if name in STOPS and not jnp.iscomplexobj(results[0]):
                kinds.append(name)
                found.append(results[0])
        values |= zip(eqn.outvars, results, strict=True)
    return [look_up(atom) for atom in jaxpr.outvars]
