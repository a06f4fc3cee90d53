"""Spreading a learner over devices: samples along one axis of a mesh, modules along another."""

import dataclasses
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from rtrl.cells import cells_of, is_cell
from rtrl.engine import (
    Placement,
    Trace,
    check_placement,
    is_carry,
    of_carry,
    of_cell,
    pin,
    placement_of,
)
from rtrl.learners._narrow_moments import NarrowMoments
from rtrl.learners._state import LearnerState, StepOutput, batch_size_of, require_there
from rtrl.networks import Readout
from rtrl.validate import require

_T = TypeVar("_T")


def shard(
    state: LearnerState, mesh: Mesh, batch: str | None = None, modules: str | None = None
) -> LearnerState:
    """Spread a learner's state over devices; every call goes on as before, and keeps it there.

    ::

        states (B, N), traces (B, d, N, H)      over batch along B, over modules along N
        parameters of a cell, its gradients     over modules along N, the same for all samples
        and their moments in the optimizer
        everything else                         the same on every device

    No part of a trace ever leaves the device that it lives on. What travels: the gradient, summed
    over the devices of ``batch``; the error of every cell's input, ``(time, B, H)``, and what is
    read off the cells, summed over those of ``modules``; and for dense cells what modules see of
    each other, ``(B, N)`` a timestep. `rtrl.collectives` lists it for a compiled program. Results
    are those of one device, up to the order in which sums are taken.

    Where several processes make up the mesh (``jax.distributed``), every process calls this and all
    that follows alike, with the same state; data are the process's own samples, as arrays of its
    own, and `rtrl.own_samples` gives its part of what comes out.

    Args:
        state: from `OnlineLearner.init`, or any later one; spread already or not. It is left as it
            was.
        mesh: the devices, of any type of axes.
        batch: the axis of the mesh for the samples; the batch size must be a multiple of it.
        modules: the axis for the modules; the size of every cell must be a multiple of it. Rules
            whose trace is one number per parameter alone: `RTRL`, `SnAp1`, `EProp` and `BPTT`.

    Returns the same state, spread. Its arrays may be saved, and loaded onto other devices.

    Raises:
        ValueError: a size is no multiple of its axis, an axis is not one of the mesh's, or the rule
            can't be spread over modules, or the optimizer is one of `rtrl.narrow_moments`.
    """
    learning = isinstance(state, LearnerState)
    require(learning, "state", "a LearnerState, from init, step or scan", type(state).__name__)
    require_there(state)
    # A moment is found by its parameter's name and shape, which one in two arrays has not.
    alone = not any(map(_is_narrow, jax.tree.leaves(state.opt_state, is_leaf=_is_narrow)))
    require(alone, "state", "moments in float32 (rtrl.shard knows none of rtrl.narrow_moments)",
            "narrow moments")  # fmt: skip
    require(isinstance(mesh, Mesh), "mesh", "a jax.sharding.Mesh", type(mesh).__name__)
    # The compiler is to place what is not said here, whatever the mesh was made for.
    check_placement(Placement(mesh, batch, modules))
    # Along an axis of one device nothing is spread, and nothing is to be said about it.
    batch, modules = (None if a is None or mesh.shape[a] == 1 else a for a in (batch, modules))
    placement = Placement(Mesh(mesh.devices, mesh.axis_names), batch, modules)
    _check_sizes(state, placement)
    carry = jax.tree.map(
        lambda c: dataclasses.replace(c, placement=placement), state.carry, is_leaf=is_carry
    )
    state = dataclasses.replace(state, carry=carry)
    arrays, static = eqx.partition(state, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    specs = structure.flatten_up_to(specs_of(state))
    shardings = [placement.place(spec) for spec in specs]
    leaves = _all_put(leaves, shardings)
    return eqx.combine(jax.tree.unflatten(structure, leaves), static)


def _is_narrow(node: Any) -> bool:
    return isinstance(node, NarrowMoments)


def specs_of(state: LearnerState) -> Any:
    """How every array of a placed state is spread; ``None`` for what is no array."""
    placement: Any = placement_of(state.carry)
    batched = batch_size_of(state) is not None
    model = _of_model(placement, state)
    known = _by_path(state.model, model)
    # A parameter's gradient, moments and copies are where it is: they have its name and shape.
    specs = jax.tree_util.tree_map_with_path(lambda path, a: _like(path, a, known), state)
    past = P(None, placement.batch) if batched else P()
    return dataclasses.replace(
        specs,
        model=model,
        carry=jax.tree.map(
            lambda c: of_carry(placement, c, batched), state.carry, is_leaf=is_carry
        ),
        past=jax.tree.map(lambda _: past, state.past),
    )


def in_place(state: LearnerState, out: StepOutput) -> tuple[LearnerState, StepOutput]:
    """In a compiled program: a state stays where it is; every device knows what a step tells."""
    placement = placement_of(state.carry)
    if placement is None:
        return state, out
    batched = batch_size_of(state) is not None
    specs = jax.tree.map(lambda _: P(), out)
    predictions = jax.tree.map(lambda _: placement.of_data() if batched else P(), out.prediction)
    specs = dataclasses.replace(specs, prediction=predictions)
    return pin(placement, state, specs_of(state)), pin(placement, out, specs)


def _all_put(leaves: list[Any], shardings: list[NamedSharding]) -> list[jax.Array]:
    placed = [_put(a, sharding) for a, sharding in zip(leaves, shardings, strict=True)]
    # In memory of their own: donating them must not delete what was given. One program for all.
    return jax.jit(lambda leaves: [a.copy() for a in leaves], out_shardings=shardings)(placed)


def _put(a: Any, sharding: NamedSharding) -> jax.Array:
    """An array spread over devices; every process gives all of it and keeps its part."""
    if sharding.is_fully_addressable:
        return jax.device_put(a, sharding)
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(a), NamedSharding(sharding.mesh, P()))
        return jax.jit(lambda d: jax.random.wrap_key_data(d, impl=jax.random.key_impl(a)))(data)
    if isinstance(a, jax.Array) and not a.is_fully_addressable:
        return jax.device_put(a, sharding)
    host = np.asarray(a)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _check_sizes(state: LearnerState, placement: Placement) -> None:
    batch_size = batch_size_of(state)
    if placement.batch is not None:
        size = placement.size(placement.batch)
        require(
            batch_size is not None and batch_size % size == 0,
            "batch",
            f"a batch size that is a multiple of {size}, the devices along {placement.batch!r}",
            batch_size,
        )
    if placement.modules is None:
        return
    size = placement.size(placement.modules)
    carries = jax.tree.leaves(state.carry, is_leaf=is_carry)
    for cell, carry in zip(cells_of(state.model), carries, strict=True):
        name, n = type(cell).__name__, jax.tree.leaves(carry.state)[0].shape[-1]
        expected = f"a multiple of {size} modules in {name}, devices along {placement.modules!r}"
        require(n % size == 0, "modules", expected, n)
        alone = carry.trace is None or isinstance(carry.trace, Trace)
        expected = "None for a rule whose trace is not one number per parameter"
        require(alone, "modules", expected, placement.modules)
        _check_cell(cell, placement, n // size)


def _check_cell(cell: Any, placement: Placement, here: int) -> None:
    """What a device has of a cell must be a cell of as many modules as it has."""
    size = placement.size(placement.modules)
    specs = of_cell(placement, cell, here * size)

    def part(a, spec):
        if not eqx.is_array(a):
            return a
        cut = spec == P(placement.modules)
        return jax.ShapeDtypeStruct((here, *a.shape[1:]) if cut else a.shape, a.dtype)

    def shapes(arrays, static):
        local = eqx.combine(arrays, static)
        weights = [w for w in jax.tree.leaves((local.project(), local.recurrent()))]
        return local.initial(), weights

    arrays, static = eqx.partition(cell, eqx.is_array)
    arrays = jax.tree.map(part, arrays, eqx.filter(specs, lambda s: s is not None))
    states, weights = eqx.filter_eval_shape(shapes, arrays, static)
    fits = all(a.shape == (here,) for a in jax.tree.leaves(states))
    fits = fits and all(w.shape[0] in (1, here) for w in weights)
    expected = (
        f"a cell whose arrays have the modules as their first axis, such that {here} of "
        f"{type(cell).__name__} are a cell themselves"
    )
    require(fits, "modules", expected, [a.shape for a in jax.tree.leaves((states, weights))])


def _of_model(placement: Placement, state: LearnerState) -> Any:
    """How the network is spread: its cells by modules, and what our readouts read of them."""
    carries = iter(jax.tree.leaves(state.carry, is_leaf=is_carry))
    sizes: list[int] = []

    def of_node(node):
        if is_cell(node):
            sizes.append(jax.tree.leaves(next(carries).state)[0].shape[-1])
            return of_cell(placement, node, sizes[-1])
        if isinstance(node, Readout):
            return jax.tree.map(lambda a: _of_readout(placement, a, sizes), node)
        return P() if eqx.is_array(node) else None

    def is_known(node):
        return is_cell(node) or isinstance(node, Readout)

    return jax.tree.map(of_node, state.model, is_leaf=is_known)


def _of_readout(placement: Placement, a: Any, sizes: list[int]) -> P:
    """``C`` along its modules: those of the cell before it."""
    if a.ndim == 2 and placement.modules and sizes and a.shape[1] == sizes[-1]:
        return P(None, placement.modules)
    return P()


def _by_path(tree: PyTree, specs: PyTree) -> dict[str, tuple[tuple[int, ...], P]]:
    """Shape and spec of every parameter, by its name."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    found = {}
    for (path, leaf), spec in zip(leaves, _leaves(specs, tree), strict=True):
        if eqx.is_array(leaf):
            found[jax.tree_util.keystr(path)] = leaf.shape, spec
    return found


def _leaves(specs: PyTree, like: PyTree) -> list[P | None]:
    return jax.tree.structure(like).flatten_up_to(specs)


def _like(path: Any, a: Any, known: dict[str, tuple[tuple[int, ...], P]]) -> P | None:
    """The spec of the parameter whose name a path ends with."""
    if not eqx.is_array(a):
        return None
    for first in range(len(path)):
        shape, spec = known.get(jax.tree_util.keystr(path[first:]), (None, P()))
        if shape == a.shape:
            return spec
    return P()
