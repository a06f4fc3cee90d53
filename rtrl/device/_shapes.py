"""What JAX's primitives do to the shape of an array: a row each, for one plane of it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import lax

from rtrl.device._graph import Graph
from rtrl.device._node import Axis, Node, known, natural_strides

Rule = Callable[..., Any]


def kept(shape: tuple[int, ...]) -> list[int]:
    """The axes longer than 1: those that a node has."""
    return [i for i, n in enumerate(shape) if n != 1]


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def whole(g: Graph, x: Node, aval: Any) -> Node:
    """As an array with all its axes, if it is a number that stands for one."""
    return g.broadcast(x, squeezed(aval.shape)) if x.shape == () else x


def _reread(g: Graph, eqn: Any, x: Node, where: Sequence[tuple[int, int, int]]) -> Node:
    """A view; ``where``: for every axis of the operand (axis of the result, stride, offset)."""
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if x.shape == ():
        return x
    place = {axis: i for i, axis in enumerate(kept(after))}
    axes = [Axis(place.get(where[i][0]), *where[i][1:]) for i in kept(before)]
    axes = [Axis(a.axis, a.stride if a.axis is not None else 1, a.offset) for a in axes]
    return g.view(x, squeezed(after), axes)


def align(g: Graph, x: Node, before: tuple[int, ...], after: tuple[int, ...]) -> Node:
    """Repeat an array along the axes that are longer in ``after``."""
    if x.shape == () or before == after or not before:
        return x
    place = {axis: i for i, axis in enumerate(kept(after))}
    return g.view(x, squeezed(after), [Axis(place[i]) for i in kept(before)])


def _broadcast(g: Graph, eqn: Any, x: Node) -> Node:
    axes = eqn.params["broadcast_dimensions"]
    return _reread(g, eqn, x, [(int(a), 1, 0) for a in axes])


def _transpose(g: Graph, eqn: Any, x: Node) -> Node:
    order = list(eqn.params["permutation"])
    return _reread(g, eqn, x, [(order.index(i), 1, 0) for i in range(len(order))])


def _slice(g: Graph, eqn: Any, x: Node) -> Node:
    starts = eqn.params["start_indices"]
    strides = eqn.params["strides"] or [1] * len(starts)
    return _reread(
        g,
        eqn,
        x,
        [(i, int(s), int(o)) for i, (s, o) in enumerate(zip(strides, starts, strict=True))],
    )


def _reverse(g: Graph, eqn: Any, x: Node) -> Node:
    shape, turned = eqn.invars[0].aval.shape, eqn.params["dimensions"]
    at = [(i, -1, n - 1) if i in turned else (i, 1, 0) for i, n in enumerate(shape)]
    return _reread(g, eqn, x, at)


def _reshape(g: Graph, eqn: Any, x: Node) -> Node:
    return g.reshape(x, eqn.outvars[0].aval.shape)


def _split(g: Graph, eqn: Any, x: Node) -> list[Node]:
    axis, parts, offset = eqn.params["axis"], [], 0
    before = eqn.invars[0].aval.shape
    for size in eqn.params["sizes"]:
        shape = [size if i == axis else n for i, n in enumerate(before)]
        place = {a: i for i, a in enumerate(kept(tuple(shape)))}
        axes = [Axis(place.get(i), 1, offset if i == axis else 0) for i in kept(before)]
        parts.append(g.view(x, squeezed(tuple(shape)), axes))
        offset += size
    return parts


def _concatenate(g: Graph, eqn: Any, *pieces: Node) -> Node:
    axis, shape = eqn.params["dimension"], eqn.outvars[0].aval.shape
    return _joined(g, pieces, [v.aval.shape for v in eqn.invars], axis, shape)


def _stack(g: Graph, eqn: Any, *pieces: Node) -> Node:
    axis, shape = eqn.params["axis"], eqn.outvars[0].aval.shape
    piece = tuple(1 if i == axis else n for i, n in enumerate(shape))
    return _joined(g, pieces, [piece] * len(pieces), axis, shape)


def join_rows(g: Graph, rows: list[Node], shape: tuple[int, ...]) -> Node:
    """Arrays stacked along a new leading axis."""
    return _joined(g, rows, [(1, *shape[1:])] * len(rows), 0, shape)


def _joined(g: Graph, pieces: Any, shapes: list, axis: int, shape: tuple[int, ...]) -> Node:
    filled = [(p, s) for p, s in zip(pieces, shapes, strict=True) if 0 not in s]
    if len(filled) == 1:
        return filled[0][0]
    if all(p.op == "const" and p is filled[0][0] for p, _ in filled):
        return filled[0][0]
    position = kept(shape).index(axis)
    same = [g.broadcast(p, squeezed(s)) if p.shape == () else p for p, s in filled]
    return g.concat(same, position, squeezed(shape))


def _pad(g: Graph, eqn: Any, x: Node, fill: Node) -> Node:
    shape = list(eqn.invars[0].aval.shape)
    for axis, (low, high, inner) in enumerate(eqn.params["padding_config"]):
        if (low, high, inner) == (0, 0, 0) or 0 in shape:
            continue
        if inner or low < 0 or high < 0:
            raise NotImplementedError("between numbers, or by less than nothing")
        sizes = [low, shape[axis], high]
        shapes = [tuple(n if i == axis else m for i, m in enumerate(shape)) for n in sizes]
        shape[axis] = int(sum(sizes))
        x = _joined(g, (fill, x, fill), shapes, axis, tuple(shape))
    return x


def _iota(g: Graph, eqn: Any) -> Node:
    shape, axis = eqn.outvars[0].aval.shape, eqn.params["dimension"]
    dtype = kind_of(eqn.outvars[0].aval)
    if shape[axis] == 1:
        return g.const(0, dtype)
    return g.iota(squeezed(shape), kept(shape).index(axis), dtype)


def _gather(g: Graph, eqn: Any, x: Node, index: Node) -> Node:
    table, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if x.shape == ():
        return x
    places = known(index)
    if places is not None:
        places = np.broadcast_to(places, squeezed(eqn.invars[1].aval.shape))
        places = places.reshape(eqn.invars[1].aval.shape)
        flat = np.arange(math.prod(table)).reshape(table)
        found = np.asarray(lax.gather(flat, places, eqn.params["dimension_numbers"],
                                      eqn.params["slice_sizes"], mode="clip"))  # fmt: skip
        return _affine(g, x, found.reshape(squeezed(after)))
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    axis, at = _one_place(g, index, eqn.invars[1].aval.shape, numbers.start_index_map, sizes, table)
    return x if axis is None else g.take(x, at, kept(table).index(axis), table[axis] - 1)


def _one_place(
    g: Graph, index: Node, shape: tuple[int, ...], axes: Any, sizes: Any, table: tuple[int, ...]
) -> tuple[int | None, Node]:
    """The one axis of which a single slice is used, and where; the others are used whole."""
    if math.prod(shape[:-1]) != 1:
        raise NotImplementedError("at several places that are known only when the program runs")
    found: list[tuple[int, Node]] = []
    for i, axis in enumerate(axes):
        at = index if index.shape == () else g.view(index, (), [Axis(None, 1, i)])
        if sizes[axis] == table[axis]:
            continue
        if sizes[axis] != 1:
            raise NotImplementedError("of several slices")
        found.append((axis, at))
    if any(sizes[i] != n for i, n in enumerate(table) if i not in axes) or len(found) > 1:
        raise NotImplementedError("along several axes")
    return found[0] if found else (None, index)


def _affine(g: Graph, x: Node, places: np.ndarray) -> Node:
    """Read an array at places that are a linear function of the index."""
    offset = int(places.flat[0])
    strides = [int(np.take(places, 1, i).flat[0]) - offset for i in range(places.ndim)]
    grid = np.indices(places.shape)
    linear = offset + sum(
        (s * i for s, i in zip(strides, grid, strict=True)), np.zeros(places.shape, int)
    )
    if not (linear == places).all():
        raise NotImplementedError("at places without a pattern")
    if natural_strides(places.shape) == tuple(strides) and not offset and places.size == x.size:
        return g.reshape(x, places.shape)
    return g.flat(x, places.shape, offset, strides)


def _scatter(g: Graph, eqn: Any, x: Node, index: Node, update: Node) -> Node:
    """Put or add one slice along one axis."""
    numbers, shape = eqn.params["dimension_numbers"], eqn.invars[0].aval.shape
    axes, add = numbers.scatter_dims_to_operand_dims, eqn.primitive.name != "scatter"
    windows = iter(eqn.invars[2].aval.shape[i] for i in numbers.update_window_dims)
    sizes = [1 if i in numbers.inserted_window_dims else next(windows) for i in range(len(shape))]
    axis, index = _one_place(g, index, eqn.invars[1].aval.shape, axes, sizes, shape)
    if axis is None:
        return g.map("add", x, update) if add else update
    after = squeezed(shape)
    position = kept(shape).index(axis)
    if update.shape:
        others = [i for i in range(len(after)) if i != position]
        update = g.view(update, after, [Axis(i) for i in others])
    here = g.map("eq", g.iota(after, position, "int"), g.map("to_int", index))
    zero = g.const(0, x.dtype)
    return (
        g.map("add", x, g.map("select", here, update, zero))
        if add
        else g.map("select", here, update, x)
    )


def kind_of(aval: Any) -> str:
    """The kind of a number: its name here."""
    name = np.dtype(aval.dtype).name
    kinds = {"float32": "float", "int32": "int", "uint32": "uint", "bool": "bool",
             "complex64": "float", "bfloat16": "ushort", "uint16": "ushort",
             "int8": "schar"}  # fmt: skip
    if name not in kinds:
        raise NotImplementedError(f"numbers of the kind {name}")
    return kinds[name]


#: Of one plane of an array; a complex one goes through twice.
SHAPES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "rev": _reverse,
    "split": _split,
    "concatenate": _concatenate,
    "stack": _stack,
    "pad": _pad,
    "iota": _iota,
    "gather": _gather,
    "scatter": _scatter,
    "scatter-add": _scatter,
    "scatter_add": _scatter,
}
