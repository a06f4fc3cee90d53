"""Is the trace that a learner carries still that of its parameters?"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from rtrl.analysis._recording import Record
from rtrl.cells import cells_of
from rtrl.engine import Carry, Modules, Trace, structure

#: Of what a module held before the window; one that keeps more can't be judged. A trace forgets
#: later than its state, as n lambda^n.
FORGOTTEN = 0.01


class Staleness(NamedTuple):
    """The carried trace of a cell beside one recomputed with today's parameters.

    Attributes:
        relative: their distance over the larger of their norms, for every module and parameter by
            itself: the median. NaN where nothing can be judged.
        cosine: of the angle between them, likewise.
        judged: share of the modules that forget what was before the window within it: of the
            others only the part since then could be recomputed.
        identity: relative violation of ``h = sum_j W_j dh/dW_j``, which holds of any true trace of
            a cell that is linear in what it projects, whatever the data; NaN for any other.
    """

    relative: float
    cosine: float
    judged: float
    identity: float


def staleness(cell: Any, carried: Carry, recomputed: Carry, record: Record) -> Staleness:
    """Compare the carried trace of a cell with one recomputed with today's parameters.

    ::

        relative = |s_carried - s_recomputed| / max(|s_carried|, |s_recomputed|)

    Of every parameter of every module that forgets, within the window, what was before it. Their
    median: a few slow modules have traces larger than all others together (the angle of an LRU's
    above all), and these age first.

    Args:
        cell: the cell, as it is now.
        carried: what the learner carries, at the end of the window.
        recomputed: the same from running the window from its beginning, parameters held fixed.
        record: of the cell on the window.
    """
    nothing = float("nan")
    if not (isinstance(carried.trace, Trace) and isinstance(recomputed.trace, Trace)):
        return Staleness(nothing, nothing, 0.0, nothing)
    judged = forgotten(record)
    identity = euler_violation(cell, carried)
    if not judged.any():
        return Staleness(nothing, nothing, 0.0, identity)
    a, b = _by_module(carried.trace, judged), _by_module(recomputed.trace, judged)
    sizes = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    largest, product = np.maximum(*sizes), sizes[0] * sizes[1]
    known = largest > 0
    if not known.any():
        return Staleness(nothing, nothing, 0.0, identity)
    if not np.isfinite(a).all():
        return Staleness(np.inf, nothing, float(judged.mean()), identity)
    distance = np.linalg.norm(a - b, axis=-1)[known] / largest[known]
    inner = np.real(a.conj() * b).sum(-1)[known] / np.where(product > 0, product, 1)[known]
    return Staleness(
        float(np.median(distance)), float(np.median(inner)), float(judged.mean()), identity
    )


def forgotten(record: Record) -> Float[np.ndarray, " N"]:
    """Say of every module whether what it held before the window is gone at its end."""
    p = record.partials
    if p.resets is not None and bool(np.asarray(p.resets).any(0).all()):
        return np.ones(p.D.shape[-1], bool)
    D = np.asarray(p.D)  # (K, B, d, d, N)
    d = D.shape[2]
    P = np.broadcast_to(np.eye(d)[:, :, None], D.shape[1:])
    for step in D[::-1]:
        P = np.einsum("bijn,bjkn->bikn", P, step)
    return np.abs(P).max((0, 1, 2)) < FORGOTTEN


def _by_module(trace: Trace, judged: np.ndarray) -> np.ndarray:
    """Parameters and modules first, ``(parameters N, entries)``: short ones are filled with 0."""
    parts = [np.moveaxis(np.asarray(s), -2, 0) for s in trace.projections if s is not None]
    parts += [np.moveaxis(np.asarray(s), -1, 0) for s in trace.modules.values()]
    parts = [a.reshape(len(a), -1)[judged] for a in parts]
    longest = max(a.shape[1] for a in parts)
    return np.concatenate([np.pad(a, ((0, 0), (0, longest - a.shape[1]))) for a in parts])


def euler_violation(cell: Any, carry: Carry) -> float:
    """How far a trace is from Euler's identity for a state that is linear in its input weights.

    ::

        h = sum over projections W and inputs j of W_j dh/dW_j

    Holds where ``update`` is a linear map of state and projected input together: of an `LRU`, not
    of a gate.

    Args:
        cell: the cell as it is now.
        carry: its state and trace.

    Returns ``|h - sum| / |h|``, or NaN for a cell of another kind.
    """
    m = Modules(cell)
    if not isinstance(carry.trace, Trace) or not _is_linear(m):
        return float("nan")
    weights = [(w, s) for w, s in zip(m.weights(), carry.trace.projections, strict=False)]
    if any(w is None for w, _ in weights):
        return float("nan")
    h = np.asarray(m.stack(carry.state))
    total = sum((np.asarray(w) * np.asarray(s)).sum(-1) for w, s in weights)
    size = np.linalg.norm(h)
    return float(np.linalg.norm(h - total) / size) if size > 0 else float("nan")


def _is_linear(m: Modules) -> bool:
    """Whether the state is homogeneous in the input weights: affine, driven by them alone."""
    if m.recurrent() or not structure(m).affine:
        return False
    h, w = m.example()
    rng = np.random.default_rng(0)
    # With parameters drawn anew: a gate that happens to be shut would pass for a constant.
    h, w, leaves = jax.tree.map(
        lambda a: rng.normal(size=a.shape).astype(a.dtype), (h, w, m.leaves)
    )
    update = jax.jit(m.update)
    value, double = update(h, w, leaves), update(*jax.tree.map(lambda a: 2 * a, (h, w)), leaves)
    return bool(np.allclose(np.asarray(double), 2 * np.asarray(value), rtol=1e-4, atol=1e-6))


def place_of(states: PyTree, path: list[Record]) -> float:
    """Where on a window the carried states are: the share of its timesteps that lie nearer.

    ::

        share of t with |h_carried - h_t| < |h_carried - h_K|

    0 where the window ends with the state; about one half for a window that it does not belong to.

    Args:
        states: of every cell, ``([B,] d, N)`` each.
        path: records of the cells along the window.
    """
    distances = np.zeros(len(path[0].states))
    for h, record in zip(states, path, strict=True):
        known = forgotten(record)
        if not known.any():
            continue
        along = np.asarray(record.states)[..., known]
        h = np.asarray(h)[..., known].reshape(along.shape[1:])
        size = max(float(np.abs(along).max()), 1e-30)
        distances += (np.abs((along - h) / size) ** 2).sum((1, 2, 3))
    return float((distances[:-1] < distances[-1]).mean())


def stacked_states(model: PyTree, carry: PyTree) -> list[Array]:
    """The newest states of all cells, ``([B,] d, N)`` each."""
    carries = jax.tree.leaves(carry, is_leaf=lambda c: isinstance(c, Carry))
    return [
        jnp.asarray(Modules(cell).stack(c.state if c.newest is None else c.newest))
        for cell, c in zip(cells_of(model), carries, strict=True)
    ]
