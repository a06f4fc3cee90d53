"""Data for a learner that is spread over devices, and this process's part of what comes out."""

from typing import Any, TypeVar

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from rtrl.engine import placement_of
from rtrl.learners._state import batch_size_of, layout
from rtrl.validate import require

_T = TypeVar("_T")


def feed(state: Any, data: _T, *, time: bool) -> _T:
    """Data of a call where a placed state wants them; those of all processes together."""
    placement = placement_of(state.carry)
    if placement is None or any(isinstance(a, Tracer) for a in jax.tree.leaves(data)):
        return data
    spec = P() if batch_size_of(state) is None else placement.of_data(time)
    sharding = placement.place(spec)
    return jax.tree.map(lambda a: _fed(a, sharding), data)


def _fed(a: Any, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(a, sharding)
    # One process's own samples become a part of what all of them have.
    return jax.make_array_from_process_local_data(sharding, np.asarray(a))


def is_shared(state: Any) -> bool:
    """Whether several processes hold a state together."""
    placement = placement_of(state.carry)
    return placement is not None and not placement.place(P()).is_fully_addressable


def samples_here(state: Any) -> int | None:
    """How many samples of the batch are this process's own; ``None`` for no batch axis."""
    return layout_here(state)[0]


def layout_here(state: Any) -> tuple[int | None, Any]:
    """As `layout`, with the samples that are this process's own."""
    batch_size, dtype = layout(state)
    placement = placement_of(state.carry)
    if placement is None or batch_size is None:
        return batch_size, dtype
    sharding = placement.place(P(placement.batch))
    if sharding.is_fully_addressable:
        return batch_size, dtype
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    spans = {part[0].indices(batch_size)[:2] for part in parts if part}
    return sum(stop - start for start, stop in spans), dtype


def own_samples(tree: PyTree, axis: int = 0) -> PyTree:
    """This process's part of arrays that are spread over samples, such as ``out.prediction``.

    Args:
        tree: arrays; those that every process has all of come back whole.
        axis: that of the samples: 0 for what comes out of a step, 1 for that of a scan.

    Returns numpy arrays.

    Raises:
        ValueError: parts of an array differ along another axis than ``axis``.
    """

    def own(a):
        if not isinstance(a, jax.Array) or a.is_fully_addressable or a.is_fully_replicated:
            return np.asarray(a)
        shards = {_start(s.index[axis]): s for s in a.addressable_shards}
        alone = all(s.index == shards[_start(s.index[axis])].index for s in a.addressable_shards)
        expected = f"the axis that arrays of shape {a.shape} are spread along, and no other"
        require(alone, "axis", expected, axis)
        parts = {start: s.data for start, s in shards.items()}
        return np.concatenate([np.asarray(parts[i]) for i in sorted(parts)], axis)

    return jax.tree.map(own, tree)


def _start(index: slice) -> int:
    return index.start or 0
