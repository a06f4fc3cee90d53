"""The cell contract: what a layer of independent recurrent modules has to say about itself."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


class Cell(eqx.Module):
    """A layer of ``N`` recurrent modules.

    Module ``i`` has a small state ``h_i`` (one or a few numbers) and sees its input only through
    linear projections ``u = W x``::

        h_t = update(h_{t-1}, u_t)        elementwise: no module sees another module's state

    Modules that see each other do so through recurrent projections of what they put out, which
    `recurrent` names; ``update`` stays elementwise::

        h_t = update(h_{t-1}, u_t, v_t),    v_t = U output(h_{t-1})

    A subclass writes ``project`` and ``update``; traces, gradients and checks follow from these.
    Array fields that ``project`` or ``recurrent`` use are projection parameters; the floating-point
    ones that ``update`` uses are module parameters, of shape ``(N,)`` or ``()`` (one number shared
    by all modules). Every field is real: a complex parameter is a pair of real fields, because
    optimizers mishandle complex ones. Readouts live outside the cell.

    Source: Zucchet et al., "Online learning of long-range dependencies" (2023), section 3.1.
    """

    @abc.abstractmethod
    def project(self) -> Array | None | tuple[Array | None, ...]:
        """Name the input projections.

        Returns an ``(N, H)`` weight, a ``(1, H)`` row whose product all modules share, ``None``
        where ``x`` itself (then ``H = N``) drives the modules, or a tuple of these.
        """

    def recurrent(self) -> Array | None | tuple[Array, ...]:
        """Name the recurrent projections: by default ``None``, the modules are independent.

        Returns a real ``(N, N)`` weight, a ``(1, N)`` row whose product all modules share, or a
        tuple of these. Their input is ``output(h_{t-1})``, then one real array ``(N,)``.
        """
        return None

    def feedback(self) -> Array | None | tuple[Array | None, ...]:
        """Name the weights by whose transposes errors travel to the inputs: those of `project`.

        Others of the same shapes make the layers below learn from other errors; see
        `random_feedback`.
        """
        return self.project()

    @abc.abstractmethod
    def update(self, h: PyTree[Array], u: PyTree[Array], *v: PyTree[Array]) -> PyTree[Array]:
        """Advance the state by one timestep, elementwise over modules.

        Args:
            h: the state, structured like ``initial()``: leaves of shape ``(N,)``.
            u: the projected input, ``(N,)`` (``(1,)`` for a shared row), a tuple if ``project``
                returns one.
            v: the recurrent input likewise, handed in if ``recurrent`` names a projection.

        Returns the new state, same structure, shapes and dtypes as ``h``.
        """

    def initial(self) -> PyTree[Array]:
        """Give the state before the first timestep: zeros of shape ``(N,)`` by default.

        Raises:
            ValueError: N can't be told from the parameters; then a cell says what it is here.
        """
        weights = [w for w in as_tuple(self.project()) if w is not None]
        leaves = jax.tree.leaves(eqx.filter(self, eqx.is_inexact_array))
        sizes = {w.shape[0] for w in weights if w.ndim == 2 and w.shape[0] != 1}
        sizes = sizes or {leaf.shape[0] for leaf in leaves if leaf.ndim == 1}
        if len(sizes) != 1:
            raise ValueError(
                f"{type(self).__name__}: the number of modules is not clear from the parameters "
                f"(candidates: {sorted(sizes)}); override initial()."
            )
        return jnp.zeros(sizes.pop(), jnp.result_type(*(weights or leaves)))

    def output(self, h: PyTree[Array]) -> PyTree[Array]:
        """Give what the rest of the network sees of the state: by default all of it.

        Args:
            h: the state, structured like ``initial()``: leaves of shape ``(N,)``.
        """
        return h


def as_tuple(projections: Array | None | tuple[Array | None, ...]) -> tuple[Array | None, ...]:
    """Give as a tuple what `Cell.project` or `Cell.recurrent` names.

    Args:
        projections: weights, or a single one, or ``None``.
    """
    return projections if isinstance(projections, tuple) else (projections,)


def is_dense(cell: Cell) -> bool:
    """Whether the modules of a cell see each other.

    Args:
        cell: any cell; it is dense if its ``recurrent()`` names a weight.
    """
    return cell.recurrent() is not None


def is_cell(node: object) -> bool:
    """Whether something is a `Cell`: ``is_leaf`` for ``jax.tree`` functions.

    Args:
        node: anything.
    """
    return isinstance(node, Cell)


def cells_of(tree: PyTree) -> list[Cell]:
    """List every cell in a pytree, in the order of its leaves.

    Args:
        tree: any pytree, such as a network.
    """
    return [node for node in jax.tree.leaves(tree, is_leaf=is_cell) if is_cell(node)]
