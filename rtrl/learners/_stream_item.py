"""What a source yields, checked and cast."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import ArrayLike, PyTree

from rtrl.learners import _inputs
from rtrl.learners._state import LearnerState, NonFiniteError, batch_size_of
from rtrl.learners._stream_state import StreamState, lead_of
from rtrl.validate import require


class Item(NamedTuple):
    """What a source yields, as arrays."""

    x: np.ndarray
    y: PyTree[np.ndarray] | None
    weight: np.ndarray
    reset: np.ndarray


def unpack(item: Any) -> tuple[Any, Any, Any, Any]:
    """The four parts of an item ``(x, y[, weight[, reset]])``."""
    if not isinstance(item, tuple | list) or not 2 <= len(item) <= 4:
        got = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
        raise ValueError(f"source: expected a pair (x, y) or (x, y, weight, reset), got {got}.")
    x, y, *more = item
    weight, reset = (*more, *(1.0, False)[len(more) :])
    return x, y, weight, reset


def read_item(state: StreamState, item: Any) -> Item:
    """Check an item and cast its parts."""
    x, y, weight, reset = unpack(item)
    # Cast on the host, in numpy: no program is started for an item.
    dtype = state.weights.dtype  # the model's: asking the model takes longer
    # The first item says what items are, and later ones are held against it.
    known = _alike(x, state.xs) if state.items > 0 else None
    if known is None:
        x = as_input(state.learner, x, dtype)
        if state.items > 0:
            _require_alike(x, state.xs[0], "x")
    else:
        x = known
    if y is not None:
        y = _read_target(state, y, dtype)
    lead = lead_of(state)
    weight = np.asarray(_inputs.per_timestep(weight, lead, "weight", dtype))
    begins = np.zeros(lead, bool) if reset is False else reset
    reset = np.asarray(_inputs.per_timestep(begins, lead, "reset", bool))
    return Item(x, y, weight, reset)


def _read_target(state: StreamState, y: Any, dtype: Any) -> PyTree[np.ndarray]:
    if state.settled and (known := _alike(y, state.ys)) is not None:
        return known
    y = as_target(state.learner, y, dtype)
    if state.settled:
        _require_alike_tree(y, jax.tree.map(lambda a: a[0], state.ys))
        y = jax.tree.map(lambda a, held: a.astype(held.dtype), y, state.ys)
    return y


def _alike(value: Any, held: Any) -> np.ndarray | None:
    """A copy of a value that plainly is what the items before were: no more has to be asked."""
    if not isinstance(value, np.ndarray) or not isinstance(held, np.ndarray):
        return None
    alike = value.dtype == held.dtype or value.dtype.kind == held.dtype.kind == "f"
    return value.astype(held.dtype) if alike and value.shape == held.shape[1:] else None


def require_finite(item: Item, state: StreamState) -> None:
    for name, value in (("x", item.x), ("y", item.y)):
        for leaf in jax.tree.leaves(value):
            if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf).all():
                raise NonFiniteError(f"{name} is not finite.", state)  # type: ignore[arg-type]


def _require_alike(value: np.ndarray, like: np.ndarray, argument: str) -> None:
    same_kind = np.can_cast(value.dtype, like.dtype, "same_kind")
    require(
        value.shape == like.shape and same_kind,
        argument,
        f"{like.dtype} of shape {like.shape}, like the items before",
        f"{value.dtype} of shape {value.shape}",
    )


def _require_alike_tree(value: PyTree, like: PyTree) -> None:
    require(
        jax.tree.structure(value) == jax.tree.structure(like),
        "y",
        f"{jax.tree.structure(like)}, like the targets before",
        jax.tree.structure(value),
    )
    jax.tree.map(lambda a, b: _require_alike(a, b, "y"), value, like)


def as_input(state: LearnerState, x: ArrayLike, dtype: Any) -> np.ndarray:
    x = _inputs.cast(x, dtype, "x")
    _inputs.check_xs(state.model, x, batch_size_of(state), time=False)
    return canonical(x)


def as_target(state: LearnerState, y: PyTree[ArrayLike], dtype: Any) -> PyTree[np.ndarray]:
    y = jax.tree.map(canonical, _inputs.cast(y, dtype, "y"))
    lead = lead_of(state)
    for leaf in jax.tree.leaves(y):
        expected = f"leading axes {lead}, (batch,)"
        require(leaf.shape[: len(lead)] == lead, "y", expected, leaf.shape)
    return y


def canonical(a: ArrayLike) -> np.ndarray:
    """As numpy, in the dtype that JAX would give it."""
    a = np.asarray(a)
    return a.astype(jax.dtypes.canonicalize_dtype(a.dtype), copy=False)


class naming_item:  # a context manager: cheaper than a generator, and it runs for every item
    """Say in an error which item of the source it is about."""

    def __init__(self, number: np.int64, state: Any):
        self.number = number
        self.state = state

    def __enter__(self):
        return None

    def __exit__(self, kind, error, traceback):
        name = f"item {int(self.number)} of the stream: "
        if kind is ValueError:
            raise ValueError(name + str(error)) from error
        if kind is NonFiniteError:
            raise NonFiniteError(name + str(error), self.state) from error
