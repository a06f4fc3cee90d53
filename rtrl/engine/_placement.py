"""Where a network's memory lives: samples along one axis of a mesh, modules along another.

A recurrence whose carry is placed runs on every device by itself, on the samples and modules that
live there (`jax.shard_map`): what it holds of a trace is read and written there and nowhere else,
whatever the compiler thinks of it. Between devices travel, per timestep or chunk,

- the gradient of the parameters that a device holds, summed over devices with other samples;
- the error of the layer's input, ``(time, batch, H)``, summed over devices with other modules;
- for a dense cell what modules see of each other, ``(batch, N)``, gathered.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from rtrl.validate import require


class Placement(NamedTuple):
    """How memory is spread over devices.

    Attributes:
        mesh: the devices.
        batch: the axis of the mesh along which samples are spread; ``None`` for none.
        modules: the axis along which modules are.
    """

    mesh: Mesh
    batch: str | None
    modules: str | None

    def size(self, axis: str | None) -> int:
        """Devices along an axis of the mesh."""
        return 1 if axis is None else self.mesh.shape[axis]

    def place(self, spec: P) -> NamedSharding:
        """The sharding of an array whose axes are spread as a spec says."""
        return NamedSharding(self.mesh, spec)

    def of_data(self, time: bool = True) -> P:
        """How data are spread: ``([time,] batch, ...)``."""
        return P(None, self.batch) if time else P(self.batch)


def of_states(placement: Placement, batched: bool) -> P:
    """How states ``([B,] N)`` are spread."""
    lead = (placement.batch,) if batched else ()
    return P(*lead, placement.modules)


def of_traces(placement: Placement, batched: bool) -> P:
    """How traces ``([B,] d, N, ...)`` are; those without modules have the samples first."""
    lead = (placement.batch,) if batched else ()
    return P(*lead) if placement.modules is None else P(*lead, None, placement.modules)


def of_cell(placement: Placement, cell: PyTree, modules: int) -> PyTree[P]:
    """How the arrays of a cell are: by their first axis, where that is the modules'."""
    axis = placement.modules

    def spec(leaf):
        if not eqx.is_array(leaf):
            return None
        return P(axis) if axis and leaf.ndim and leaf.shape[0] == modules else P()

    return jax.tree.map(spec, cell)


def of_carry(placement: Placement, carry: Any, batched: bool) -> Any:
    """How everything that one cell carries is spread: specs in the place of arrays."""
    states, traces = of_states(placement, batched), of_traces(placement, batched)

    def fill(tree, spec):
        return jax.tree.map(lambda _: spec, tree)

    return eqx.tree_at(
        lambda c: (c.state, c.trace, c.newest),
        carry,
        (fill(carry.state, states), fill(carry.trace, traces), fill(carry.newest, states)),
        is_leaf=lambda node: node is None,
    )


def on_every_device(run: Callable[..., Any], cell: Any, data: PyTree, carry: Any) -> Any:
    """Give ``run(cell, data, carry)``, every device with its own samples and modules.

    Args:
        run: gives outputs ``(time, [batch,] N)``, and a carry like the one given.
        cell: the cell; on a device it has the modules that live there.
        data: arrays ``(time, [batch,] ...)``.
        carry: placed.
    """
    placement = carry.placement
    state = jax.tree.leaves(carry.state)[0]
    batched = state.ndim == 2
    arrays, static = eqx.partition(cell, eqx.is_array)
    numbers, rest = eqx.partition(carry, eqx.is_array)
    of_data = placement.of_data() if batched else P()
    in_specs = (
        of_cell(placement, arrays, state.shape[-1]),
        jax.tree.map(lambda _: of_data, data),
        of_carry(placement, numbers, batched),
    )

    def local(arrays, data, numbers):
        outputs, after = run(eqx.combine(arrays, static), data, eqx.combine(numbers, rest))
        kept.append(eqx.filter(after, eqx.is_array, inverse=True))
        return outputs, eqx.filter(after, eqx.is_array)

    kept: list[Any] = []
    lead = (None, placement.batch) if batched else (None,)
    outputs, after = jax.shard_map(
        local,
        mesh=placement.mesh,
        in_specs=in_specs,
        out_specs=(P(*lead, placement.modules), _after(placement, carry, batched)),
    )(arrays, data, numbers)
    return outputs, eqx.combine(after, kept[-1])


def _after(placement: Placement, carry: Any, batched: bool) -> Any:
    """The specs of the carry that comes back: inside a window it holds the newest state, too."""
    specs = of_carry(placement, eqx.filter(carry, eqx.is_array), batched)
    if carry.advance is None:
        return specs
    newest = jax.tree.map(lambda _: of_states(placement, batched), carry.state)
    return eqx.tree_at(lambda c: c.newest, specs, newest, is_leaf=lambda node: node is None)


def pin(placement: Placement, tree: PyTree, specs: PyTree) -> PyTree:
    """Say in a compiled program how arrays are spread."""

    def one(a, spec):
        if not eqx.is_array(a):  # tracers are arrays, too
            return a
        return jax.lax.with_sharding_constraint(a, placement.place(spec))

    return jax.tree.map(one, tree, specs)


def check_placement(placement: Placement) -> None:
    """Raise a `ValueError` unless the axes are two of the mesh's, and there is one."""
    mesh, batch, modules = placement
    for name, axis in (("batch", batch), ("modules", modules)):
        known = axis is None or axis in mesh.axis_names
        require(known, name, f"None or an axis of the mesh, {mesh.axis_names}", axis)
    some = batch is not None or modules is not None
    require(some, "batch", "an axis of the mesh for the samples, the modules or both", "neither")
    require(batch != modules, "modules", "another axis than the batch's", modules)
