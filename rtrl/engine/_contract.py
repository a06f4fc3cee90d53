"""Mechanical checks that a cell keeps its contract; a cell that breaks it is refused by name."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp

from rtrl.cells import Cell, as_tuple, is_dense
from rtrl.engine._dependence import depends
from rtrl.engine._modules import Modules
from rtrl.engine._samples import refuse_by_samples
from rtrl.engine._signature import Signature, signature, trace_abstractly
from rtrl.engine._structure import structure


def check_cell(cell: Cell) -> None:
    """Raise a `ValueError` that says what breaks the contract of `Cell`, if anything does.

    Shapes and dtypes, independence of the modules and holomorphy are proven from the cell's code
    (see `structure`), once for all cells that differ in the values of their arrays alone. Where
    there is no proof the cell is run at samples, and refused if one of them contradicts the
    contract. A cell with neither a proof nor a contradiction passes and takes the general path:
    its forward pass is that of its code, its gradients are as good as its promise.
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
    proven = structure(Modules(cell))
    if not (proven.independent and proven.holomorphic):
        refuse_by_samples(cell)


@functools.lru_cache(maxsize=256)
def _check(signature: Signature) -> None:
    """Check the shapes of a cell of this signature."""
    trace_abstractly(signature, lambda cell: _check_shapes(cell, type(cell).__name__))


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
