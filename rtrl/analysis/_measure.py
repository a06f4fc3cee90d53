"""Measuring a learner on a window, before anything is said about it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from rtrl.analysis._constant import constant_loss
from rtrl.analysis._cosine import cosine_by_layer
from rtrl.analysis._gates import gates
from rtrl.analysis._lags import gradient_by_lag
from rtrl.analysis._layers import layer_of
from rtrl.analysis._measured import Layer, Measured
from rtrl.analysis._missing import error_by_lag
from rtrl.analysis._recording import Record, record
from rtrl.analysis._replay import replay
from rtrl.analysis._staleness import place_of, stacked_states, staleness
from rtrl.analysis._timescales import timescales
from rtrl.cells import Cell, cells_of, is_cell
from rtrl.engine import Carry, Chunk, init_carry, is_carry, widened
from rtrl.learners import LearnerState, OnlineLearner, batch_size_of, sequence_gradient
from rtrl.rules import BPTT


def measure(
    learner: OnlineLearner,
    state: LearnerState,
    data: Chunk,
    *,
    chunk: int,
    initial: PyTree | None,
) -> Measured:
    """Measure a learner on a window of data that is there and finite."""
    model, batch = state.model, batch_size_of(state)
    xs, ys, weights, resets = data.xs, data.ys, data.weights, data.resets
    K, B = len(xs), batch or 1
    lags = max(K // 2, 1)
    begin = init_carry(model, BPTT(), batch)
    predictions, records = record(model, xs, begin, learner.loss, ys, weights, resets)
    first = None
    if initial is not None:
        _, first = record(initial, xs, init_carry(initial, BPTT(), batch), resets=resets)

    data_of: dict[str, Any] = {"weights": weights, "resets": resets}
    whole = sequence_gradient(model, learner.loss, xs, ys, rule=BPTT(), **data_of)[1]
    own = whole
    if not learner.rule.whole_sequence or chunk < K:
        own = sequence_gradient(
            model, learner.loss, xs, ys, rule=learner.rule, chunk=chunk, overlap=learner.overlap,
            **data_of,
        )[1]  # fmt: skip
    cosines = {name: float(c) for name, c in cosine_by_layer(own, whole).items()}
    again = replay(learner, state, xs, ys, chunk=chunk, **data_of)
    rates = _rates(learner, state, own)
    # Where chunks overlap, traces are those of so many timesteps ago.
    kept = K - learner.overlap
    behind = [jax.tree.map(lambda a: a[:kept], seen) for seen in records]
    recomputed = _recompute(
        model, learner.rule, xs[:kept], batch, None if resets is None else resets[:kept]
    )

    total = _norm(whole)
    paths = _cell_paths(model)
    gradients = [g for g in jax.tree.leaves(whole, is_leaf=is_cell) if is_cell(g)]
    carried = jax.tree.leaves(widened(state.carry), is_leaf=is_carry)
    fresh = jax.tree.leaves(recomputed, is_leaf=is_carry)
    layers = []
    for i, (name, cell, seen) in enumerate(zip(paths, cells_of(model), records, strict=True)):
        by_module = _by_module(gradients[i], seen.states.shape[-1])
        move = np.std(np.asarray(seen.states), axis=(0, 1))
        size = np.sqrt(np.mean(np.abs(np.asarray(seen.states)) ** 2, axis=(0, 1, 2)))
        layers.append(Layer(
            name=name,
            cell=type(cell).__name__,
            timescales=timescales(seen),
            initial=None if first is None else timescales(first[i]),
            retention=retention(seen, lags),
            state_size=size,
            state_move=np.sqrt((move**2).mean(0)),
            trace_size=_sizes(carried[i]),
            gradient_size=by_module,
            share=_norm(gradients[i]) / total if total > 0 else float("nan"),
            cosine=cosines.get(name, float("nan")),
            gates=gates(cell, seen),
            lag_share=_lag_share(cell, seen, lags),
            staleness=staleness(cell, carried[i], fresh[i], behind[i]),
            update=again.updates.get(name, float("nan")),
            rate=rates.get(name, float("nan")),
        ))  # fmt: skip
    lead = (K, B)
    known = np.asarray(weights).reshape(lead) > 0
    owed = _owed(learner.loss, predictions, ys, xs, lead, lags, known, resets)
    losses = np.asarray(_losses(learner.loss, predictions, ys, weights.ndim)).reshape(lead)
    tree = (state.model, state.carry)
    return Measured(
        layers=layers,
        replay=again,
        loss=float(losses[known].mean()) if known.any() else float("nan"),
        constant_loss=constant_loss(learner.loss, predictions, ys, known, weights.ndim),
        owed=owed,
        place=place_of(stacked_states(model, state.carry), records),
        memory=_memory(state),
        rule=learner.rule.label(chunk),
        steps=int(state.step),
        window=lead,
        finite=all(
            bool(np.isfinite(np.asarray(a)).all())
            for a in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
        ),
        gradient=total,
        input_scale=_scale(xs, lead),
        weight_scale=_weight_scale(model),
    )


def retention(seen: Record, lags: int) -> Float[np.ndarray, " lags"]:
    """The mean over modules of ``|D_t ... D_{t-l+1}|`` for every lag l from 0."""
    sizes = np.asarray(_kept(seen.partials.D, lags))  # (lags, K)
    return np.asarray([sizes[lag, lag:].mean() for lag in range(len(sizes))])


@partial(jax.jit, static_argnums=1)
def _kept(D: Array, lags: int) -> Array:
    def back(P, _):
        # Spectral norm of d x d is bounded by, and for d = 1 is, the Frobenius norm.
        size = jnp.sqrt((jnp.abs(P) ** 2).sum((2, 3)) / D.shape[2]).mean((1, 2))
        # P_t(l + 1) = D_t P_{t-1}(l)
        earlier = jnp.concatenate([P[:1], P[:-1]])
        return jnp.einsum("kbijn,kbjmn->kbimn", D, earlier), size

    one = jnp.broadcast_to(jnp.eye(D.shape[2], dtype=D.dtype)[:, :, None], D.shape)
    return jax.lax.scan(back, one, None, length=lags)[1]


def _lag_share(cell: Cell, seen: Record, lags: int) -> Float[np.ndarray, " lags"] | None:
    return None if seen.errors is None else np.asarray(gradient_by_lag(cell, seen, lags)[0])


def _weight_scale(model: PyTree) -> float:
    leaves = [_f64(a) for a in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))]
    scales = [np.sqrt((a**2).mean() * a.shape[1]) for a in leaves if a.ndim == 2]
    return float(np.median(scales)) if scales else float("nan")


def _cell_paths(model: PyTree) -> list[str]:
    nodes = jax.tree_util.tree_leaves_with_path(model, is_leaf=is_cell)
    return [layer_of(path) for path, node in nodes if is_cell(node)]


def _norm(tree: PyTree) -> float:
    return float(np.sqrt(sum(float((_f64(a) ** 2).sum()) for a in jax.tree.leaves(tree))))


def _f64(a: Any) -> np.ndarray:
    return np.asarray(a, np.float64)


def _by_module(gradient: Cell, count: int) -> Float[np.ndarray, " N"]:
    total = np.zeros(count)
    for leaf in jax.tree.leaves(gradient):
        if leaf.ndim and leaf.shape[0] == count:
            total += (np.asarray(leaf, np.float64) ** 2).reshape(count, -1).sum(1)
    return np.sqrt(total)


def _sizes(carry: Carry) -> dict[str, float]:
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(carry.trace, eqx.is_inexact_array))
    return {
        jax.tree_util.keystr(path).lstrip("."): float(np.sqrt(np.mean(np.abs(np.asarray(a)) ** 2)))
        for path, a in leaves
    }


@eqx.filter_jit
def _recompute(model, rule, xs, batch, resets):
    carry = init_carry(model, rule, batch)
    return model(xs, carry, rule=rule, resets=resets, mask=None, key=None)[1]


def _rates(learner: OnlineLearner, state: LearnerState, grads: PyTree) -> dict[str, float]:
    """Size of the update that a gradient gives over its own, by layer."""
    if hasattr(state.opt_state, "left_out"):  # a filter has no rate: it takes no gradient alone
        return {}
    params = eqx.filter(state.model, eqx.is_inexact_array)
    updates, _ = jax.jit(learner.optimizer.update)(grads, state.opt_state, params)
    sums: dict[str, list[float]] = {}
    leaves = jax.tree.leaves(grads)
    for (path, u), g in zip(jax.tree_util.tree_leaves_with_path(updates), leaves, strict=True):
        pair = sums.setdefault(layer_of(path), [0.0, 0.0])
        pair[0] += float((_f64(u) ** 2).sum())
        pair[1] += float((_f64(g) ** 2).sum())
    return {name: (u / g) ** 0.5 if g > 0 else float("nan") for name, (u, g) in sums.items()}


def _vectorised(function: Callable, axes: int) -> Callable:
    for _ in range(axes):
        function = jax.vmap(function)
    return function


def _losses(loss: Any, predictions: PyTree, ys: PyTree, axes: int) -> Array:
    return _vectorised(loss, axes)(predictions, ys)


def _owed(loss, predictions, ys, xs, lead, lags, known, resets) -> Float[np.ndarray, " lags"]:
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        return np.zeros(0)
    axes = known.ndim if xs.ndim == 3 else 1
    slopes = _vectorised(jax.grad(loss), axes)(predictions, ys)
    errors = np.concatenate(
        [np.asarray(a, np.float64).reshape(*lead, -1) for a in jax.tree.leaves(slopes)], -1
    )
    known = known & np.isfinite(errors).all(-1)
    inputs = np.asarray(xs, np.float64).reshape(*lead, -1)
    resets = None if resets is None else np.asarray(resets).reshape(lead)
    return error_by_lag(np.where(known[..., None], errors, 0), inputs, lags, known, resets)


def _memory(state: LearnerState) -> dict[str, int]:
    def size(tree: Any) -> int:
        leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
        return sum(int(getattr(a, "nbytes", 0)) for a in leaves)

    carries = jax.tree.leaves(state.carry, is_leaf=is_carry)
    return {
        "parameters": size(state.model),
        "optimizer": size((state.opt_state, state.window)),
        "traces": size([c.trace for c in carries]),
        "states": size([c.state for c in carries]),
    }


def _scale(xs: Array, lead: tuple[int, int]) -> Float[np.ndarray, " inputs"]:
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        return np.ones(1)
    return np.asarray(xs, np.float64).reshape(lead[0] * lead[1], -1).std(0)
