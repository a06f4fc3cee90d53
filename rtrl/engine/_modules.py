"""A cell as the engine sees it: plain arrays, d numbers per module, one-step derivatives.

Everything here is for one timestep of one sample; the engine maps it over time and batch.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from rtrl.cells import Cell, as_tuple
from rtrl.engine._dependence import depends


class Modules:
    """The modules of one cell, their state stacked into a ``(d, N)`` array.

    What enters a timestep is a tuple ``w``: the projected inputs u, then the recurrent ones v.

    Built while tracing; holds the cell's arrays, so it must not outlive the trace.

    Args:
        cell: the cell.
        axis: of the mesh of a `jax.shard_map`, along which the cell's modules are spread; the cell
            is then what this device has of it.
    """

    def __init__(self, cell: Cell, axis: str | None = None):
        self.cell = cell
        self.axis = axis
        self.params, self.rest = eqx.partition(cell, eqx.is_inexact_array)
        paths, self.treedef = jax.tree_util.tree_flatten_with_path(self.params)
        # Names and not positions label module parameters in a trace: they are readable in a saved
        # state, and stay when a field is added.
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

    def feedback(self) -> tuple[Array | None, ...]:
        return as_tuple(self.cell.feedback())

    def recurrent(self) -> tuple[Array, ...]:
        return _recurrent(self.cell)

    def pull_back_weights(self, cotangents: tuple[Array | None, ...]) -> list[Array]:
        """Carry gradients of the projections' weights back to the leaves they are made of."""

        def project(leaves):
            return all_weights(self.with_leaves(leaves))

        _, pullback = jax.vjp(project, self.leaves)
        # A projection without a weight (None) has no cotangent, as `all_weights` lists none for it.
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

    def update(self, h: Array, w: tuple[Array, ...], leaves: list[Array] | None = None) -> Array:
        """Advance ``(d, N)`` by one timestep."""
        cell = self.cell if leaves is None else self.with_leaves(leaves)
        return self.stack(self.advance(self.unstack(h), w, cell))

    def advance(
        self, state: PyTree[Array], w: tuple[Array, ...], cell: Cell | None = None
    ) -> PyTree[Array]:
        """Call the cell's update as it is written: with a tuple or a single array for u and v."""
        projections, recurrences = self.cell.project(), self.cell.recurrent()
        # A cell that names one weight is handed one array, one that names a tuple gets a tuple: the
        # author's own spelling decides.
        count = len(as_tuple(projections))
        u, v = w[:count], w[count:]
        arguments = [u if isinstance(projections, tuple) else u[0]]
        if recurrences is not None:
            arguments.append(v if isinstance(recurrences, tuple) else v[0])
        return (cell or self.cell).update(state, *arguments)

    def visible(self, h: Array) -> Array:
        """What the modules see of each other, ``(d, N)`` to ``(N,)``."""
        return self.cell.output(self.unstack(h))

    def recurrent_inputs(self, h: Array) -> tuple[Array, ...]:
        """``v = U output(h)`` for every recurrent projection; leading axes allowed."""
        weights = self.recurrent()
        if not weights:
            return ()
        function = self.visible
        for _ in range(h.ndim - 2):
            function = jax.vmap(function)
        phi = self.gathered(function(h))
        return tuple(phi @ weight.T for weight in weights)

    def gathered(self, phi: Array) -> Array:
        """What is seen of all modules, ``(..., N)``, from what is of those of this device."""
        if self.axis is None:
            return phi
        return jax.lax.all_gather(phi, self.axis, axis=phi.ndim - 1, tiled=True)

    def recurrent_here(self) -> tuple[Array, ...]:
        """The recurrent weights between the modules of this device: all, unless they are spread."""
        if self.axis is None:
            return self.recurrent()
        count = self.initial.shape[1]
        first = jax.lax.axis_index(self.axis) * count
        return tuple(
            jax.lax.dynamic_slice_in_dim(weight, first, count, 1) for weight in self.recurrent()
        )

    def decay(self, h: Array, w: tuple[Array, ...]) -> Array:
        """D: one jvp with a tangent of ones for each number of a module, ``(d, d, N)``."""
        return jnp.stack(self._along_state(lambda h: self.update(h, w), h), 1)

    def slope(self, h: Array) -> Array:
        """doutput/dh, ``(d, N)``."""
        return jnp.stack(self._along_state(self.visible, h))

    def _along_state(self, function: Callable[[Array], Array], h: Array) -> list[Array]:
        """Derivatives by each number of a module."""
        tangents = [
            # Modules are independent: a tangent of ones gives every module's derivative in one
            # pass.
            jnp.zeros_like(h).at[j].set(1) if h.shape[0] > 1 else jnp.ones_like(h)
            for j in range(h.shape[0])
        ]
        return [jax.jvp(function, (h,), (tangent,))[1] for tangent in tangents]

    def gain(self, h: Array, w: tuple[Array, ...], p: int) -> Array:
        """J: dh_t/dw_t for projection ``p``, input ones first, ``(d, N)``."""

        def update(x):
            return self.update(h, (*w[:p], x, *w[p + 1 :]))

        return jax.jvp(update, (w[p],), (jnp.ones_like(w[p]),))[1]

    def immediate(self, h: Array, w: tuple[Array, ...], i: int) -> Array:
        """E: dh_t/dtheta at fixed ``h_{t-1}`` for parameter leaf ``i``, ``(d, N)``."""

        def update(leaf):
            return self.update(h, w, [*self.leaves[:i], leaf, *self.leaves[i + 1 :]])

        # Ones again, for N modules at once; for a parameter that they share it is each one's part.
        return jax.jvp(update, (self.leaves[i],), (jnp.ones_like(self.leaves[i]),))[1]

    def per_timestep(self, function: Callable[..., Array], *arguments: Any) -> Array:
        """Map a function of ``(h, w)`` or of ``h`` over time and batch; ``(1, 1, ...)`` if all
        would be alike."""
        example = self.example()[: len(arguments)]
        # Most D, J or E of linear cells are the same for all timesteps and samples: then one is
        # computed, and axes of length 1 broadcast wherever it is used.
        if depends(lambda hw: function(*hw), example):
            return jax.vmap(jax.vmap(function))(*arguments)
        return function(*example)[None, None]

    def example(self) -> tuple[Array, tuple[Array, ...]]:
        """A zero state and projections of one timestep, for their shapes."""
        n = self.initial.shape[1]
        real = jnp.finfo(self.dtype).dtype
        w = tuple(
            jnp.zeros(n, real) if w is None else jnp.zeros(w.shape[0], w.dtype)
            for w in (*self.weights(), *self.recurrent())
        )
        return jnp.zeros_like(self.initial), w


def _recurrent(cell: Cell) -> tuple[Array, ...]:
    recurrences = cell.recurrent()
    return () if recurrences is None else as_tuple(recurrences)  # type: ignore[return-value]


def all_weights(cell: Cell) -> tuple[Array, ...]:
    """The weights of the input projections that have one, then of the recurrent ones."""
    weights = tuple(w for w in as_tuple(cell.project()) if w is not None)
    return (*weights, *_recurrent(cell))
