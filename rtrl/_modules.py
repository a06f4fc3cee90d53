"""A cell as the engine sees it: plain arrays, d numbers per module, one-step derivatives.

Everything here is for one timestep of one sample; the engine maps it over time and batch.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, PyTree

from rtrl.cells._base import Cell, as_tuple


class Partials(NamedTuple):
    """One-step derivatives of the state, module by module (leading time and batch axes allowed).

    Attributes:
        D: dh_t/dh_{t-1}, ``(..., d, d, N)``.
        J: dh_t/du_t for every projection, ``(..., d, N)``.
        E: dh_t/dtheta for every module parameter by name, ``(..., d, N)``.
    """

    D: Inexact[Array, "*t d d N"]
    J: tuple[Inexact[Array, "*t d N"], ...]
    E: dict[str, Inexact[Array, "*t d N"]]


class Modules:
    """The independent modules of one cell, their state stacked into a ``(d, N)`` array.

    Built while tracing; holds the cell's arrays, so it must not outlive the trace.
    """

    def __init__(self, cell: Cell):
        self.cell = cell
        self.params, self.rest = eqx.partition(cell, eqx.is_inexact_array)
        paths, self.treedef = jax.tree_util.tree_flatten_with_path(self.params)
        self.names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
        self.leaves = [leaf for _, leaf in paths]
        initial, self.state_def = jax.tree.flatten(cell.initial())
        self.initial = jnp.stack(initial)  # (d, N)
        self.dtype = self.initial.dtype

    def with_leaves(self, leaves: list[Array]) -> Cell:
        return eqx.combine(jax.tree.unflatten(self.treedef, leaves), self.rest)

    # Projections -----------------------------------------------------------------------------

    def weights(self) -> tuple[Array | None, ...]:
        return as_tuple(self.cell.project())

    def where_weights(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The entries of projections that have a weight, ``None`` for the others."""
        return tuple(None if w is None else v for v, w in zip(values, self.weights(), strict=True))

    def pull_back_weights(self, cotangents: tuple[Array | None, ...]) -> list[Array]:
        """Carry gradients of the projection weights back to the leaves they are made of."""

        def project(leaves):
            return tuple(w for w in as_tuple(self.with_leaves(leaves).project()) if w is not None)

        _, pullback = jax.vjp(project, self.leaves)
        return pullback(tuple(c for c in cotangents if c is not None))[0]

    # State -----------------------------------------------------------------------------------

    def stack(self, state: PyTree[Array], axis: int = -2) -> Array:
        """Turn a state with leaves ``(..., N)`` into ``(..., d, N)``."""
        return jnp.stack(jax.tree.leaves(state), axis)

    def unstack(self, h: Array) -> PyTree[Array]:
        """Turn ``(..., d, N)`` into a state with leaves ``(..., N)``."""
        leaves = [h[..., i, :] for i in range(h.shape[-2])]
        return jax.tree.unflatten(self.state_def, leaves)

    # One timestep ----------------------------------------------------------------------------

    def update(self, h: Array, u: tuple[Array, ...], leaves: list[Array] | None = None) -> Array:
        """Advance ``(d, N)`` by one timestep."""
        cell = self.cell if leaves is None else self.with_leaves(leaves)
        single = not isinstance(self.cell.project(), tuple)
        return self.stack(cell.update(self.unstack(h), u[0] if single else u))

    def decay(self, h: Array, u: tuple[Array, ...]) -> Array:
        """D: one jvp with a tangent of ones for each number of a module, ``(d, d, N)``."""
        columns = []
        for j in range(h.shape[0]):
            tangent = jnp.zeros_like(h).at[j].set(1) if h.shape[0] > 1 else jnp.ones_like(h)
            columns.append(jax.jvp(lambda h: self.update(h, u), (h,), (tangent,))[1])
        return jnp.stack(columns, 1)

    def input_gain(self, h: Array, u: tuple[Array, ...], p: int) -> Array:
        """J: dh_t/du_t for projection ``p``, ``(d, N)``."""

        def update(v):
            return self.update(h, (*u[:p], v, *u[p + 1 :]))

        return jax.jvp(update, (u[p],), (jnp.ones_like(u[p]),))[1]

    def immediate(self, h: Array, u: tuple[Array, ...], i: int) -> Array:
        """E: dh_t/dtheta at fixed ``h_{t-1}`` for parameter leaf ``i``, ``(d, N)``."""

        def update(leaf):
            return self.update(h, u, [*self.leaves[:i], leaf, *self.leaves[i + 1 :]])

        return jax.jvp(update, (self.leaves[i],), (jnp.ones_like(self.leaves[i]),))[1]

    def per_timestep(self, function: Callable[..., Array], h: Array, u: tuple[Array, ...]) -> Array:
        """Map ``function(h, u)`` over time and batch; ``(1, 1, ...)`` if all would be alike."""
        example = self.example()
        if depends(lambda hu: function(*hu), example):
            return jax.vmap(jax.vmap(function))(h, u)
        return function(*example)[None, None]

    def example(self) -> tuple[Array, tuple[Array, ...]]:
        """A zero state and projected input of one timestep, for their shapes."""
        n = self.initial.shape[1]
        real = jnp.finfo(self.dtype).dtype
        u = tuple(
            jnp.zeros(n, real) if w is None else jnp.zeros(w.shape[0], w.dtype)
            for w in self.weights()
        )
        return jnp.zeros_like(self.initial), u

    # What depends on what: the same for all cells of a signature ------------------------------

    @property
    def module_leaves(self) -> tuple[int, ...]:
        """Indices of the leaves that `update` uses: the module parameters."""
        return _structure(signature(self.cell)).module_leaves

    @property
    def projection_leaves(self) -> tuple[int, ...]:
        """Indices of the leaves that `project` uses."""
        return _structure(signature(self.cell)).projection_leaves

    @property
    def affine(self) -> bool:
        """Whether D does not depend on the state: then ``update(h, u) = D h + update(0, u)``."""
        return _structure(signature(self.cell)).affine


class AbstractArray(NamedTuple):
    """An array's shape and dtype, hashable."""

    shape: tuple[int, ...]
    dtype: Any


def signature(cell: Cell) -> tuple[Any, tuple[Any, ...]]:
    """All of a cell but the values of its arrays."""
    leaves, treedef = jax.tree.flatten(cell)
    return treedef, tuple(
        AbstractArray(leaf.shape, leaf.dtype) if eqx.is_array_like(leaf) and hasattr(leaf, "dtype")
        else leaf
        for leaf in leaves
    )  # fmt: skip


def with_values(signature: tuple[Any, tuple[Any, ...]], value: Callable[[AbstractArray], Any]):
    """A cell of this signature with other arrays."""
    treedef, leaves = signature
    return jax.tree.unflatten(
        treedef, [value(leaf) if isinstance(leaf, AbstractArray) else leaf for leaf in leaves]
    )


class _Structure(NamedTuple):
    module_leaves: tuple[int, ...]
    projection_leaves: tuple[int, ...]
    affine: bool


@functools.lru_cache(maxsize=256)
def _structure(signature: tuple[Any, tuple[Any, ...]]) -> _Structure:
    with jax.ensure_compile_time_eval():
        m = Modules(with_values(signature, lambda a: np.ones(a.shape, a.dtype)))
        h, u = m.example()

        def replaced(i, leaf):
            return [*m.leaves[:i], leaf, *m.leaves[i + 1 :]]

        def project(leaves):
            weights = as_tuple(m.with_leaves(leaves).project())
            return tuple(w for w in weights if w is not None)

        def using(function):
            return tuple(
                i
                for i, leaf in enumerate(m.leaves)
                if depends(lambda v, i=i: function(replaced(i, v)), leaf)
            )

        return _Structure(
            module_leaves=using(lambda leaves: m.update(h, u, leaves)),
            projection_leaves=using(project),
            affine=not depends(lambda h: m.decay(h, u), h) and _looks_affine(m, u),
        )


def _looks_affine(m: Modules, u: tuple[Array, ...]) -> bool:
    """Whether ``update(h, u) = D h + update(0, u)`` at random states of many sizes.

    A derivative that does not depend on the state is not enough: a cell may use the state where no
    derivative sees it, such as a spike behind ``stop_gradient``.
    """
    rng = np.random.default_rng(0)
    scales = np.logspace(-2, 3, 16)[:, None, None]
    hs = jnp.asarray(scales * rng.standard_normal((16, *m.initial.shape)), m.dtype)

    @jax.jit
    def compare(hs):
        rest, matrix = m.update(jnp.zeros_like(m.initial), u), m.decay(m.initial, u)
        expected = jax.vmap(lambda h: (matrix * h).sum(1) + rest)(hs)
        return jax.vmap(lambda h: m.update(h, u))(hs), expected

    got, expected = compare(hs)
    return bool(np.allclose(got, expected, rtol=1e-4, atol=1e-4))


def depends(function: Callable[[Any], PyTree[Array]], argument: PyTree[Array]) -> bool:
    """Whether ``function(argument)`` depends on ``argument``, read off the trace.

    A mapped argument whose output is not mapped cannot have been used.
    """
    jax.eval_shape(function, argument)  # an error of the function itself surfaces here
    batched = jax.tree.map(lambda a: a[None], argument)
    try:
        jax.eval_shape(jax.vmap(function, out_axes=None), batched)
    except ValueError:
        return True
    return False
