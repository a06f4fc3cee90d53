"""``rtrl inspect``: what is inside a state file."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import rtrl
from rtrl.cli import _state
from rtrl.cli._data import squared_error
from rtrl.cli._setup import (
    FORECASTER,
    OF_EXPERTS,
    Setup,
    build_classifier,
    build_forecaster,
    build_learner,
    build_model,
)
from rtrl.engine import widened

EDGES = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, float("inf"))
WIDTH = 40


def inspect(console: Any, path: Path) -> None:
    """Print parameters, timescales, traces and memory of a run."""
    about = _state.read_about(path)
    setup = Setup(**about["setup"])
    built, state = rebuild(path, about, setup)
    if setup.learner in OF_EXPERTS:
        _inspect_experts(console, path, about, built, state)
        return
    learner, held = _innermost(state)
    console.print(f"{path}: rtrl {about['command']} {setup.task}, {about['done']:,} steps done")
    used = [f"{k} {v}" for k, v in about["setup"].items() if v is not None and k != "task"]
    console.print(", ".join(used), soft_wrap=True)
    _print_parameters(console, learner.model)
    for number, (layer, carry) in enumerate(zip(learner.model.layers, learner.carry, strict=True)):
        console.print(f"\nTimescales of layer {number + 1} ({type(layer.cell).__name__})")
        _print_histogram(console, timescales(layer.cell, carry.state, setup.width or 1))
    _print_traces(console, learner)
    _print_memory(console, learner, held)


def rebuild(path: Path, about: dict[str, Any], setup: Setup) -> tuple[Any, Any]:
    """The learner and the state of a run without its data."""
    sizes = about["sizes"]
    if setup.learner in OF_EXPERTS:
        build = build_forecaster if setup.learner == FORECASTER else build_classifier
        built = build(setup, sizes["in_size"], sizes["out_size"], sizes["own"])
        return built, _state.load(path, about, built.init())[0]
    model = build_model(setup, sizes["in_size"], sizes["out_size"])
    built = build_learner(setup, sizes["kind"], squared_error, model)
    state = built.init(model, batch_size=setup.batch)
    if sizes["kind"] == "stream":
        state = rtrl.open_stream(state, chunk=setup.chunk or 1, delay=setup.horizon or 0)
    return built, _state.load(path, about, state)[0]


def _inspect_experts(console: Any, path: Path, about: dict, built: Any, state: Any) -> None:
    console.print(f"{path}: rtrl {about['command']} {about['setup']['task']}, "
                  f"{about['done']:,} steps done")  # fmt: skip
    if isinstance(built, rtrl.Classifier):
        weights = np.exp(np.asarray(state.inside.mixture.weights))
    else:
        weights = np.asarray(jax.vmap(lambda m: m.shares)(state.inside.targets.mixture)).mean(0)
    console.print("\nWeights of the experts now")
    for place in np.argsort(-weights):
        bar = "█" * round(WIDTH * float(weights[place]))
        console.print(f"{built.names[place]:>40} {weights[place]:6.1%} {bar}")
    leaves = jax.tree.leaves(eqx.filter(state, eqx.is_array))
    size = sum(a.nbytes for a in leaves if hasattr(a, "nbytes"))
    console.print(f"\nMemory: {size / 1e3:,.1f} kB, however long the stream")


def timescales(cell: rtrl.Cell, state: Any, in_size: int) -> np.ndarray:
    """How many timesteps a state keeps 1/e of a nudge: -1 / log |eigenvalue| of dh'/dh.

    Linearised at the present hidden state (of the first sample of a batch) with input zero. One
    number per state number of a module; a complex one counts once.
    """
    leaves, structure = jax.tree.flatten(state)
    leaves = [a if a.ndim == 1 else a[0] for a in leaves]
    whole = any(np.iscomplexobj(a) for a in leaves)
    bare = cell.project() is None
    x = jnp.zeros(leaves[0].shape[0] if bare else in_size)

    def step(parts: list) -> list:
        joined = [re if im is None else re + 1j * im for re, im in parts]
        carry = rtrl.init_carry(cell, rtrl.BPTT())
        carry = eqx.tree_at(lambda c: c.state, carry, jax.tree.unflatten(structure, joined))
        _, after = rtrl.recur(cell, x[None], carry, rule=rtrl.BPTT())
        after = jax.tree.leaves(after.state)
        return [(a.real, a.imag) if np.iscomplexobj(a) else (a, None) for a in after]

    parts = [(a.real, a.imag) if np.iscomplexobj(a) else (a, None) for a in leaves]
    flat, unravel = ravel_pytree(parts)
    jacobian = jax.jit(jax.jacfwd(lambda v: ravel_pytree(step(unravel(v)))[0]))(flat)
    sizes = np.sort(np.abs(np.linalg.eigvals(np.asarray(jacobian, np.float64))))
    if whole:
        sizes = sizes[::2]  # an eigenvalue and its conjugate are one
    with np.errstate(divide="ignore"):
        return np.where(sizes < 1, -1 / np.log(np.minimum(sizes, 1 - 1e-12)), np.inf)


def histogram(values: np.ndarray) -> list[tuple[str, int]]:
    """Counts of timescales in bins of about half a decade."""
    rows = []
    for low, high in zip(EDGES[:-1], EDGES[1:], strict=True):
        name = f"below {high:g}" if low == 0 else f"{low:g} to {high:g}"
        if high == float("inf"):
            name, inside = f"{low:g} and more", values >= low
        else:
            inside = (values >= low) & (values < high)
        rows.append((name, int(inside.sum())))
    return rows


def _print_histogram(console: Any, values: np.ndarray) -> None:
    rows = histogram(values)
    most = max(count for _, count in rows) or 1
    for name, count in rows:
        bar = "█" * round(WIDTH * count / most) or ("▏" if count else "")
        console.print(f"{name:>14} timesteps {bar} {count}")


def _print_parameters(console: Any, model: Any) -> None:
    counts: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(model, eqx.is_inexact_array)):
        name = jax.tree_util.keystr(path).lstrip(".")
        parts = name.split(".")
        part = ".".join(parts[:2]) if parts[0].startswith("layers") else parts[0]
        counts[part] = counts.get(part, 0) + leaf.size
    console.print(f"\nParameters: {sum(counts.values()):,}")
    for name, count in counts.items():
        console.print(f"{name:>24} {count:>10,}")


def _print_traces(console: Any, learner: rtrl.LearnerState) -> None:
    console.print("\nNorm of the traces (root mean square over the entries)")
    for number, carry in enumerate(widened(learner.carry)):
        leaves = jax.tree_util.tree_leaves_with_path(carry.trace)
        for path, leaf in leaves:
            name = f"layer {number + 1} {jax.tree_util.keystr(path).lstrip('.')}"
            size = float(np.sqrt(np.mean(np.abs(np.asarray(leaf)) ** 2)))
            console.print(f"{name:>34} {size:.3g}")
        if not leaves:
            console.print(f"{f'layer {number + 1}':>34} none: the rule keeps no trace")


def _print_memory(console: Any, learner: rtrl.LearnerState, held: Any) -> None:
    def size(tree: Any) -> int:
        leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
        return sum(a.nbytes for a in leaves if hasattr(a, "nbytes"))

    parts = {
        "parameters": size(learner.model),
        "optimizer": size((learner.opt_state, learner.window)),
        "traces": size([c.trace for c in learner.carry]),
        "hidden states": size([c.state for c in learner.carry]),
        "waiting for targets": size(held),
    }
    console.print(f"\nMemory: {sum(parts.values()) / 1e3:,.1f} kB, however long the stream")
    for name, count in parts.items():
        console.print(f"{name:>24} {count / 1e3:>10,.1f} kB")


def _innermost(state: Any) -> tuple[rtrl.LearnerState, Any]:
    """The learner's state, and what a stream around it holds."""
    held: list[Any] = []
    while not isinstance(state, rtrl.LearnerState):
        if isinstance(state, rtrl.StreamState):
            held = [state.xs, state.ys, state.weights, state.resets, state.carry]
        state = state.learner
    return state, held
