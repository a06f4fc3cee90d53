"""Mechanical checks that a cell keeps its contract; a cell that breaks it is refused by name."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from rtrl.cells import Cell, as_tuple, is_dense
from rtrl.engine._affinity import Affinity, Degree
from rtrl.engine._alignment import Alignment
from rtrl.engine._dependence import depends
from rtrl.engine._modules import Modules
from rtrl.engine._structure import AbstractArray, read_code, signature, structure, with_values


def check_cell(cell: Cell) -> None:
    """Raise a `ValueError` that says what breaks the contract of `Cell`, if anything does.

    Shapes and dtypes are read off without computing. That modules are independent and, if complex,
    holomorphic is proven from the code of ``update`` and its derivative. Where the code allows no
    proof, a timestep is differentiated at points of many sizes, and a cell that breaks the contract
    at one of them is refused. Cells that differ in the values of their arrays alone are looked at
    once; without a proof, also at the values they have.
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
    kind = signature(cell)
    if not _check_kind(kind) and not any(isinstance(a, Tracer) for a in jax.tree.leaves(cell)):
        with jax.ensure_compile_time_eval():
            _check_jacobians([cell], name)


@functools.lru_cache(maxsize=256)
def _check_kind(signature: tuple) -> bool:
    """Check the cells of a signature; whether their Jacobians are proven to be as they must."""
    with jax.ensure_compile_time_eval():
        cell = with_values(signature, lambda a: np.ones(a.shape, a.dtype))
        name = type(cell).__name__
        _check_shapes(cell, name)
        if independent_and_holomorphic(signature):
            return True
        _check_jacobians([with_values(signature, draw) for draw in _draws()], name)
        return False


def independent_and_holomorphic(signature: tuple) -> bool:
    """Whether it is proven that modules stay apart and that complex ones are holomorphic.

    Of the code of ``jax.jvp`` of a timestep, for all values and tangents: entries of module i are
    made of entries of module i, and the tangent of the state is linear over the complex numbers in
    the tangents of complex values.
    """

    def derivative(m: Modules, h, w, tangents):
        dleaves, dh, dw = tangents
        return jax.jvp(
            lambda h, w, leaves: m.update(h, w, leaves), (h, w, m.leaves), (dh, dw, dleaves)
        )

    code = read_code(signature, derivative, derivative=True)
    state, (n,) = code.shape(code.h), code.shape(code.h)[1:]
    one_a_module = {state: 1, (n,): 0}  # the axis of modules; what else there is they share
    asked = (*code.leaves, code.h, *code.u, *code.v, *code.tangents)
    axes = {i: one_a_module.get(code.shape(i)) for i in asked}
    if any(axis not in (1, None) for axis in code.classify(Alignment(), axes)):
        return False
    if not code.is_complex(code.h):
        return True
    turning = {i: Degree.AFFINE for i in code.tangents if code.is_complex(i)}
    _, degree = code.classify(Affinity(over_complex=True), turning)
    return degree <= Degree.AFFINE


def _draws() -> Iterator[Callable[[AbstractArray], np.ndarray]]:
    """Values for the arrays of a cell, of many sizes and both signs."""
    rng = np.random.default_rng(0)

    def between(a: AbstractArray) -> np.ndarray:
        return rng.uniform(0.1, 0.9, a.shape)

    def normal(scale: float) -> Callable[[AbstractArray], np.ndarray]:
        return lambda a: scale * rng.standard_normal(a.shape)

    for draw in (between, *map(normal, (1e-3, 0.1, 1.0, 3.0, 30.0))):
        yield (
            lambda a, draw=draw: (
                draw(a).astype(a.dtype)
                if jnp.issubdtype(a.dtype, jnp.inexact)
                else np.ones(a.shape, a.dtype)
            )
        )


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


SCALES = np.logspace(-3, 3, 7)  # of states and of inputs


def _check_jacobians(cells: Iterable[Cell], name: str) -> None:
    """Differentiate a timestep at states and inputs of all sizes, and refuse what interacts.

    A Jacobian is diagonal exactly if its product with any vector is the vector times its product
    with ones.
    """
    rng = np.random.default_rng(0)

    def draw(like, real=False) -> Any:
        sample = rng.standard_normal(like.shape)
        if jnp.iscomplexobj(like) and not real:
            sample = sample + 1j * rng.standard_normal(like.shape)
        return sample.astype(like.dtype)

    def scaled(by, like) -> Any:
        return np.stack([(s * draw(like)).astype(like.dtype) for s in by])

    @eqx.filter_jit  # one small program instead of a compilation for every operation
    def probe(cell, h, u):
        arguments = _arguments(Modules(cell), h, u)
        return {n: _compare(f, x, directions[n]) for n, (x, f) in arguments.items()}

    for cell in cells:
        h, u = Modules(cell).example()
        arguments = _arguments(Modules(cell), h, u)
        directions = {n: draw(point, real=True) for n, (point, _) in arguments.items()}
        sizes = np.array(list(itertools.product(SCALES, SCALES)))
        hs = scaled(sizes[:, 0], h)
        us = tuple(scaled(sizes[:, 1], x) for x in u)
        for k in range(len(sizes)):
            at = hs[k], tuple(x[k] for x in us)
            _refuse(cell, name, at, probe(cell, *at))


def _refuse(cell: Cell, name: str, at: tuple, found: dict) -> None:
    for argument, (rotations, (got, expected)) in found.items():
        if any(_differ(*pair) for pair in rotations):
            raise ValueError(
                f"{name}.update() is complex but not holomorphic in {argument}: its derivative is "
                "not one complex number per module. Write it with two real numbers per module "
                "instead (initial() giving a pair of real arrays)."
            )
        if _differ(got, expected):
            point, function = _arguments(Modules(cell), *at)[argument]
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
