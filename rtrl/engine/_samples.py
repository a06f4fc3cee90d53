"""Samples that contradict the contract of a cell, for one of which it could not be proven."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from rtrl.cells import Cell
from rtrl.engine._modules import Modules
from rtrl.engine._signature import signature
from rtrl.engine._structure import structure

#: Sizes of states, inputs and parameters; each sample draws one for each of them.
SCALES = np.logspace(-2, 3, 16)


class Point(NamedTuple):
    """What a timestep is made of, or a direction in which all of that changes."""

    h: Array  # (d, N)
    w: tuple[Array, ...]
    leaves: tuple[Array, ...]  # the module parameters


def refuse_by_samples(cell: Cell) -> None:
    """Raise a `ValueError` if the modules of a cell are seen to interact, or it to be not
    holomorphic.

    A timestep and its derivative are computed at points of many sizes, with the cell's own
    parameters (where their values are there to be seen) and with others. What all modules but some
    are given is then changed: what these give must not change. A derivative along i times a
    direction must be i times that along the direction.
    """
    name = type(cell).__name__
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(cell))
    with jax.ensure_compile_time_eval():
        if traced:
            kind = signature(cell)
            cell = kind.cell([np.ones(a.shape, a.dtype) for a in kind.arrays()])
        try:
            _check_independence(cell, name, own=not traced)
            _check_holomorphy(cell, name, own=not traced)
        except TypeError as error:
            if "custom_vjp" not in str(error):
                raise
            raise ValueError(
                f"{name}.update(): expected code that can be differentiated forwards, got a "
                "jax.custom_vjp; write it as a jax.custom_jvp."
            ) from error


def _check_independence(cell: Cell, name: str, *, own: bool) -> None:
    rng = np.random.default_rng(0)
    point, direction = _draw(cell, rng, own=own), _draw(cell, rng, own=False)
    n = point.h.shape[-1]
    kept = rng.random((len(point.h), 1, n)) < 0.5
    before = _timestep(cell, point, direction)
    for argument, others in _arguments(cell, point, direction, rng).items():

        def changed(keep, others=others):
            def mix(old, new):
                return jnp.where(keep if old.ndim == 3 else keep[:, 0], old, new)

            replaced = jax.tree.map(
                lambda old, new: old if new is None else mix(old, new),
                (point, direction), others, is_leaf=lambda node: node is None,
            )  # fmt: skip
            return _differences(before, _timestep(cell, *replaced), n)

        for part, difference in changed(kept).items():
            if not (difference & kept[:, 0]).any():
                continue
            pairs = []
            for j in range(n):  # which module is it that others see?
                alone = np.ones((1, 1, n), bool)
                alone[..., j] = False
                seen = changed(np.broadcast_to(alone, kept.shape))[part] & alone[0]
                pairs += [f"module {j} reaches module {i}" for i in np.flatnonzero(seen.any(0))]
                if len(pairs) >= 3:
                    break
            raise ValueError(
                f"{name}.{part}(): its modules are not independent: {argument} of one module "
                f"reaches the state of another ({', '.join(pairs[:3])}). Online rules "
                "need update() to be elementwise over modules; only project() and recurrent() may "
                "mix."
            )


def _check_holomorphy(cell: Cell, name: str, *, own: bool) -> None:
    rng = np.random.default_rng(1)
    point, direction = _draw(cell, rng, own=own), _draw(cell, rng, own=False)
    zero = jax.tree.map(jnp.zeros_like, direction)
    candidates = {"the state h": zero._replace(h=direction.h)}
    for p, u in enumerate(direction.w):
        w = (*zero.w[:p], u, *zero.w[p + 1 :])
        candidates[f"the projected input u[{p}]"] = zero._replace(w=w)
    for argument, along in candidates.items():
        if not any(jnp.iscomplexobj(a) and jnp.abs(a).max() > 0 for a in jax.tree.leaves(along)):
            continue
        turned = jax.tree.map(lambda a: 1j * a if jnp.iscomplexobj(a) else a, along)
        slope = _timestep(cell, point, along)["update"][1]
        got = _timestep(cell, point, turned)["update"][1]
        if _differ(got, 1j * slope, 1e3).any():
            raise ValueError(
                f"{name}.update() is complex but not holomorphic in {argument}: its derivative is "
                "not one complex number per module. Write it with two real numbers per module "
                "instead (initial() giving a pair of real arrays)."
            )


def _draw(cell: Cell, rng: np.random.Generator, *, own: bool) -> Point:
    """Samples, a third of them with the cell's own parameters if ``own``, or with positive ones."""
    m = Modules(cell)
    h, w = m.example()
    count = 3 * len(SCALES)

    def normal(like):
        size = rng.permutation(np.tile(SCALES, 3)).reshape(count, *[1] * like.ndim)
        sample = rng.standard_normal((count, *like.shape))
        if jnp.iscomplexobj(like):
            sample = sample + 1j * rng.standard_normal((count, *like.shape))
        return jnp.asarray(size * sample, like.dtype)

    def parameter(leaf):
        value = np.array(normal(leaf))
        value[::3] = leaf if own else rng.uniform(0.1, 0.9, value[::3].shape)
        value[1::3] = rng.uniform(0.1, 0.9, value[1::3].shape)
        return jnp.asarray(value, leaf.dtype)

    leaves = tuple(parameter(jnp.asarray(m.leaves[i])) for i in structure(m).module_leaves)
    return Point(normal(h), tuple(map(normal, w)), leaves)


def _arguments(cell: Cell, point: Point, direction: Point, rng) -> dict[str, tuple[Point, Point]]:
    """For every argument that modules have their own of: another value and direction of it, and
    ``None`` for all else."""
    m = Modules(cell)
    n = point.h.shape[-1]
    other, turned = _draw(cell, rng, own=False), _draw(cell, rng, own=False)
    nothing = Point(None, (None,) * len(point.w), (None,) * len(point.leaves))  # type: ignore[arg-type]

    def put(values, p):
        return tuple(value if q == p else None for q, value in enumerate(values))

    found = {"the state h": tuple(nothing._replace(h=a.h) for a in (other, turned))}
    for p, value in enumerate(point.w):
        if value.shape[1:] == (n,):  # a row that all modules share may reach them all
            found[f"the projected input u[{p}]"] = tuple(
                nothing._replace(w=put(a.w, p)) for a in (other, turned)
            )
    for p, i in enumerate(structure(m).module_leaves):
        if point.leaves[p].shape[1:] == (n,):
            found[f"the parameter {m.names[i]}"] = tuple(
                nothing._replace(leaves=put(a.leaves, p)) for a in (other, turned)
            )
    return found  # type: ignore[return-value]


@eqx.filter_jit
def _timestep(cell: Cell, points: Point, directions: Point) -> dict[str, tuple[Array, Array]]:
    """New states, and for a dense cell what modules see of them, with derivatives."""
    used = structure(Modules(cell)).module_leaves

    def one(point, direction):
        m = Modules(cell)

        def timestep(point):
            leaves: list[Any] = list(m.leaves)
            for i, value in zip(used, point.leaves, strict=True):
                leaves[i] = value
            parts = {"update": m.update(point.h, point.w, leaves)}
            if m.recurrent():
                parts["output"] = m.visible(point.h)[None]
            return parts

        values, slopes = jax.jvp(timestep, (point,), (direction,))
        return {part: (values[part], slopes[part]) for part in values}

    return jax.vmap(one)(points, directions)


def _differences(before, after, n: int) -> dict[str, np.ndarray]:
    """For every sample and module, whether something of it has changed, ``(samples, N)``."""
    return {
        part: np.any(
            [_differ(a, b, 16).any(1) for a, b in zip(before[part], after[part], strict=True)], 0
        )
        for part in before
    }


def _differ(a: Any, b: Any, roundings: float) -> np.ndarray:
    """Where samples ``(samples, ...)`` differ by more than roundings of their largest number.

    Where one is not finite nothing can be concluded.
    """
    a, b = np.asarray(a), np.asarray(b)
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = np.where(finite, a, 0), np.where(finite, b, 0)
    size = np.maximum(np.abs(a), np.abs(b)).max(tuple(range(1, a.ndim)), keepdims=True)
    return np.abs(a - b) > roundings * np.finfo(a.dtype).eps * size
