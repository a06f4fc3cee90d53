"""Mechanical checks that a cell keeps its contract; a cell that breaks it is refused by name."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rtrl.cells import Cell, as_tuple, is_dense
from rtrl.engine._dependence import depends
from rtrl.engine._modules import Modules
from rtrl.engine._structure import signature, structure, with_values


def check_cell(cell: Cell) -> None:
    """Raise a `ValueError` that says what breaks the contract of `Cell`, if anything does.

    Shapes and dtypes are read off without computing. Independence of the modules and holomorphy
    are tested by differentiating one timestep at a random point: a Jacobian is diagonal exactly if
    its product with any vector is the vector times its product with ones. Cells that differ in
    the values of their arrays alone are checked once.
    """
    name = type(cell).__name__
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(cell, eqx.is_inexact_array))
    for path, leaf in leaves:
        if jnp.iscomplexobj(leaf):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)}: expected a real parameter, got "
                f"{leaf.dtype}. Store a complex parameter as two real fields and join them in "
                "project() or update() with jax.lax.complex."
            )
    _check(signature(cell))


@functools.lru_cache(maxsize=256)
def _check(signature: tuple) -> None:
    """Check a cell of this signature at random values of its arrays (which jit may hide)."""
    rng = np.random.default_rng(0)

    def draw(a):
        if jnp.issubdtype(a.dtype, jnp.inexact):
            return rng.uniform(0.1, 0.9, a.shape).astype(a.dtype)
        return np.ones(a.shape, a.dtype)

    with jax.ensure_compile_time_eval():
        cell = with_values(signature, draw)
        name = type(cell).__name__
        _check_shapes(cell, name)
        _check_jacobians(cell, name)


def _check_shapes(cell: Cell, name: str) -> None:
    initial = jax.eval_shape(cell.initial)
    shapes = {leaf.shape for leaf in jax.tree.leaves(initial)}
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(initial)}
    if len(shapes) != 1 or len(shapes := shapes.pop()) != 1 or len(dtypes) != 1:
        raise ValueError(
            f"{name}.initial(): expected one or more arrays (N,) of one dtype, got {initial}."
        )
    (n,) = shapes
    dtype = dtypes.pop()
    params, rest = eqx.partition(cell, eqx.is_inexact_array)
    if jax.tree.leaves(params) and depends(
        lambda p: jnp.stack(jax.tree.leaves(eqx.combine(p, rest).initial())), params
    ):
        raise ValueError(
            f"{name}.initial(): expected a constant, got a state that depends on the cell's "
            "parameters; no rule would learn them there."
        )
    inputs = {w.shape[1] for w in as_tuple(cell.project()) if w is not None and w.ndim == 2}
    for w in as_tuple(cell.project()):
        if w is not None and (w.ndim != 2 or w.shape[0] not in (1, n) or len(inputs) != 1):
            raise ValueError(
                f"{name}.project(): expected weights ({n}, H) or rows (1, H) of one H, or None, "
                f"got {[None if w is None else w.shape for w in as_tuple(cell.project())]}."
            )
        if w is not None and jnp.iscomplexobj(w) and not jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(
                f"{name}.project(): got a complex weight although the state is {dtype}; give a "
                "complex initial(), or two real projections."
            )
        if w is None and inputs and inputs != {n}:
            raise ValueError(f"{name}.project(): None drives module i by x_i, which needs H = {n}.")
    if is_dense(cell):
        _check_recurrent(cell, name, n, dtype)
    modules = Modules(cell)
    after = jax.eval_shape(lambda h, w: modules.advance(modules.unstack(h), w), *modules.example())
    if jax.tree.map(_signature, after) != jax.tree.map(_signature, initial):
        raise ValueError(
            f"{name}.update(): expected a new state like initial(), {initial}, got {after}."
        )
    for i in structure(modules).module_leaves:
        if modules.leaves[i].shape not in ((), (n,)):
            raise ValueError(
                f"{name}.{modules.names[i]}: expected a module parameter of shape ({n},) or (), "
                f"got {modules.leaves[i].shape}. Weights that mix inputs belong in project()."
            )


def _check_recurrent(cell: Cell, name: str, n: int, dtype) -> None:
    shapes = [(w.shape, w.dtype) for w in Modules(cell).recurrent()]
    if any(shape not in ((n, n), (1, n)) or kind != dtype for shape, kind in shapes):
        raise ValueError(
            f"{name}.recurrent(): expected {dtype} weights ({n}, {n}) or rows (1, {n}), got "
            f"{shapes}."
        )
    output = jax.eval_shape(lambda: cell.output(cell.initial()))
    if jnp.issubdtype(dtype, jnp.complexfloating) or jax.tree.map(_signature, output) != (
        (n,),
        jnp.dtype(dtype),
    ):
        raise ValueError(
            f"{name}.output(): expected one real array ({n},), as it is what the modules see of "
            f"each other, got {output}."
        )

    params, rest = eqx.partition(cell, eqx.is_inexact_array)
    if depends(lambda p: eqx.combine(p, rest).output(cell.initial()), params):
        raise ValueError(
            f"{name}.output(): expected what the modules see of each other to depend on the state "
            "alone, got an output that depends on the cell's parameters too; no rule would learn "
            "what they do there. Put what they make of the state into the state."
        )


def _signature(leaf) -> tuple:
    return (leaf.shape, jnp.dtype(leaf.dtype))


def _check_jacobians(cell: Cell, name: str) -> None:
    rng = np.random.default_rng(0)

    def draw(like, real=False) -> Any:
        sample = rng.standard_normal(like.shape)
        if jnp.iscomplexobj(like) and not real:
            sample = sample + 1j * rng.standard_normal(like.shape)
        return sample.astype(like.dtype)

    example = Modules(cell).example()
    h, u = jax.tree.map(draw, example)
    directions = {
        n: draw(point, real=True) for n, (point, _) in _arguments(Modules(cell), h, u).items()
    }

    @eqx.filter_jit  # one small program instead of a compilation for every operation
    def probe(cell):
        arguments = _arguments(Modules(cell), h, u)
        return {n: _compare(f, x, directions[n]) for n, (x, f) in arguments.items()}

    for argument, (rotations, (got, expected)) in probe(cell).items():
        if any(_differ(*pair) for pair in rotations):
            raise ValueError(
                f"{name}.update() is complex but not holomorphic in {argument}: its derivative is "
                "not one complex number per module. Write it with two real numbers per module "
                "instead (initial() giving a pair of real arrays)."
            )
        if _differ(got, expected):
            point, function = _arguments(Modules(cell), h, u)[argument]
            raise ValueError(
                f"{name}.update(): its modules are not independent: {argument} of one module "
                f"reaches the state of another ({_interacting(function, point)}). Online rules "
                "need update() to be elementwise over modules; only project() and recurrent() may "
                "mix."
            )


def _arguments(m: Modules, h: Array, u: tuple[Array, ...]) -> dict[str, tuple[Array, Callable]]:
    """Everything per module that a timestep depends on: its value, and the timestep as a function
    of it alone."""
    n = h.shape[1]
    arguments: dict[str, tuple[Array, Callable]] = {"the state h": (h, lambda h: m.update(h, u))}
    for p, v in enumerate(u):
        if v.shape == (n,):  # a row that all modules share may reach them all
            arguments[f"the projected input u[{p}]"] = (
                v,
                lambda v, p=p: m.update(h, (*u[:p], v, *u[p + 1 :])),
            )
    for i in structure(m).module_leaves:
        if m.leaves[i].shape == (n,):
            arguments[f"the parameter {m.names[i]}"] = (
                jnp.asarray(m.leaves[i]),
                lambda v, i=i: m.update(h, u, [*m.leaves[:i], v, *m.leaves[i + 1 :]]),
            )
    return arguments


def _compare(function: Callable, point: Array, direction: Array):
    """Jvps that are equal where ``function`` is elementwise over modules and holomorphic."""
    expected = 0.0
    rotations = []
    for j in range(point.shape[0] if point.ndim == 2 else 1):  # the numbers of a module
        ones = jnp.zeros_like(point).at[j].set(1) if point.ndim == 2 else jnp.ones_like(point)
        slope = jax.jvp(function, (point,), (ones,))[1]
        expected = expected + slope * (direction[j] if point.ndim == 2 else direction)
        if jnp.iscomplexobj(point):
            rotations.append((jax.jvp(function, (point,), (1j * ones,))[1], 1j * slope))
    return rotations, (jax.jvp(function, (point,), (direction,))[1], expected)


def _differ(a: Any, b: Any) -> bool:
    # Rounding of a handful of operations; where an entry is not finite nothing can be concluded.
    tolerance = 1e3 * float(jnp.finfo(a.dtype).eps)
    a, b = np.asarray(a), np.asarray(b)
    scale = np.maximum(np.abs(a), np.abs(b)) + 1.0
    finite = np.isfinite(a) & np.isfinite(b)
    return bool(np.any(np.abs(a - b)[finite] > (tolerance * scale)[finite]))


def _interacting(function: Callable, point: Array) -> str:
    """Name up to three pairs of modules that interact."""
    jacobian = jax.jacfwd(function, holomorphic=bool(jnp.iscomplexobj(point)))(point)
    strength = np.abs(np.asarray(jacobian)).max(axis=0)  # (N, [d,] N): state, argument
    if point.ndim == 2:
        strength = strength.max(axis=1)
    np.fill_diagonal(strength, 0)
    pairs = np.argwhere(strength > 0)[:3]
    return ", ".join(f"module {j} reaches module {i}" for i, j in pairs.tolist())
