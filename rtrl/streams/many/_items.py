"""What arrives in one call, in which order it is taken, and what is told of it."""

from collections.abc import Container, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, PyTree

from rtrl.validate import require


class ManyOutput(NamedTuple):
    """What one call tells.

    Attributes:
        prediction: of every item, in the order given, made before its target was looked at; numpy
            arrays ``(items, ...)``.
        loss: of every round, the mean over the items that have a target; NaN where none has.
        begun: streams that were new.
        returned: streams that came back from disk.
        parked: streams whose memory went to disk to make room.
    """

    prediction: PyTree[np.ndarray]
    loss: Float[np.ndarray, "rounds"]
    begun: int
    returned: int
    parked: int


class Items(NamedTuple):
    """Items of many streams, side by side."""

    names: list[Hashable]
    xs: np.ndarray
    ys: PyTree[np.ndarray] | None
    weights: np.ndarray
    resets: np.ndarray


def items_of(
    names: Sequence[Hashable] | np.ndarray,
    xs: ArrayLike,
    ys: PyTree[ArrayLike] | None,
    weights: ArrayLike | None,
    resets: ArrayLike | None,
    features: int | None,
) -> Items:
    """Check what a user hands in, one of everything for each name.

    Args:
        features: of an input; ``None`` where the model does not say.
    """
    named: list = names.tolist() if isinstance(names, np.ndarray) else list(names)
    require(len(named) > 0, "names", "at least one item", 0)
    for name in named:
        if not isinstance(name, int | str):
            require(False, "names", "integers or strings", type(name).__name__)
    count = len(named)
    inputs = _array(xs, "xs", jnp.number)
    fits = inputs.ndim == 2 and inputs.shape == (count, features or inputs.shape[1])
    size = "features" if features is None else features
    require(fits, "xs", f"{count} items, one a name, so ({count}, {size})", inputs.shape)
    # A list is an array to be; JAX would take it for a pytree of numbers.
    given = np.asarray(ys) if isinstance(ys, list) else ys
    ys = jax.tree.map(lambda a: _array(a, "ys", jnp.number), given)
    for y in jax.tree.leaves(ys):
        fits = y.ndim >= 1 and len(y) == count
        require(fits, "ys", f"{count} items, one a name", y.shape)
    return Items(
        named,
        inputs.astype(float) if inputs.dtype.kind in "iub" else inputs,
        ys,
        np.ones(count) if weights is None else _one_each(weights, "weights", count, float),
        np.zeros(count, bool) if resets is None else _one_each(resets, "resets", count, bool),
    )


def _array(value: Any, argument: str, kind: Any) -> np.ndarray:
    a = np.asarray(value)
    fits = a.dtype == bool or (a.dtype != object and jnp.issubdtype(a.dtype, kind))
    expected = "booleans" if kind is jnp.bool_ else "numbers"
    require(fits, argument, expected, f"an array of dtype {a.dtype}")
    return a


def _one_each(value: Any, argument: str, count: int, dtype: type) -> np.ndarray:
    a = _array(value, argument, jnp.bool_ if dtype is bool else jnp.number)
    require(not np.iscomplexobj(a), argument, "real numbers", f"an array of dtype {a.dtype}")
    require(a.shape == (count,), argument, f"{count} items, one a name, so ({count},)", a.shape)
    return a.astype(dtype)  # a copy, which is written to


def rounds_of(names: list, served: Container, size: int) -> Iterator[np.ndarray]:
    """Places of items by rounds: at most one of a stream in each, and no more than ``size``.

    Args:
        names: whose every item is.
        served: who has a slot, whenever a round begins.
        size: slots.
    """
    seen: dict[Hashable, int] = {}
    rounds: list[list[int]] = []
    for i, name in enumerate(names):
        k = seen.get(name, 0)
        seen[name] = k + 1
        if k == len(rounds):
            rounds.append([])
        rounds[k].append(i)
    for items in rounds:
        # Who has a slot comes first: nobody is moved out who is about to be served.
        items.sort(key=lambda i: names[i] not in served)
        yield from (np.array(items[i : i + size]) for i in range(0, len(items), size))


def in_order(predictions: list[tuple[np.ndarray, Any]]) -> PyTree[np.ndarray]:
    """The predictions of all items, in the order in which they were given."""
    order = np.argsort(np.concatenate([items for items, _ in predictions]))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[order], *[p for _, p in predictions])
