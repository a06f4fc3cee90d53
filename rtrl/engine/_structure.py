"""The structure of a cell, read off its code: which leaves do what, and whether it is affine."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rtrl.cells import Cell
from rtrl.engine._dependence import depends
from rtrl.engine._modules import Modules, all_weights


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


class Structure(NamedTuple):
    """What a cell's code says of itself, the same for all values of its arrays.

    Attributes:
        module_leaves: indices of the parameter leaves that ``update`` uses: module parameters.
        projection_leaves: indices of those that ``project`` and ``recurrent`` use.
        affine: whether ``update`` is affine in ``(h, v)``, so that its derivatives see no state.
            Then ``update(h, u) = D h + update(0, u)`` for independent modules.
    """

    module_leaves: tuple[int, ...]
    projection_leaves: tuple[int, ...]
    affine: bool


def structure(modules: Modules) -> Structure:
    """Read off a cell's code what the engine may rely on."""
    return _structure(signature(modules.cell))


@functools.lru_cache(maxsize=256)
def _structure(signature: tuple[Any, tuple[Any, ...]]) -> Structure:
    with jax.ensure_compile_time_eval():
        m = Modules(with_values(signature, lambda a: np.ones(a.shape, a.dtype)))
        h, w = m.example()
        count = len(m.weights())

        def replaced(i, leaf):
            return [*m.leaves[:i], leaf, *m.leaves[i + 1 :]]

        def using(function):
            return tuple(
                i
                for i, leaf in enumerate(m.leaves)
                if depends(lambda v, i=i: function(replaced(i, v)), leaf)
            )

        def derivatives(hv):
            h, v = hv
            after = (*w[:count], *v)
            return m.decay(h, after), [m.gain(h, after, p) for p in range(count, len(w))]

        return Structure(
            module_leaves=using(lambda leaves: m.update(h, w, leaves)),
            projection_leaves=using(lambda leaves: all_weights(m.with_leaves(leaves))),
            affine=not depends(derivatives, (h, w[count:])) and _looks_affine(m, w, count),
        )


def _looks_affine(m: Modules, w: tuple[Array, ...], count: int) -> bool:
    """Whether ``update(h, u, v) = D h + J v + update(0, u, 0)`` at random states of many sizes.

    A derivative that does not depend on the state is not enough: a cell may use the state where no
    derivative sees it, such as a spike behind ``stop_gradient``.
    """
    rng = np.random.default_rng(0)
    scales = np.logspace(-2, 3, 16)[:, None]

    def draw(like):
        sample = rng.standard_normal((16, *like.shape))
        return jnp.asarray(scales.reshape(16, *[1] * like.ndim) * sample, like.dtype)

    u, v = w[:count], w[count:]

    @jax.jit
    def compare(hs, vs):
        rest, matrix = m.update(jnp.zeros_like(m.initial), w), m.decay(m.initial, w)
        gains = [m.gain(m.initial, w, p) for p in range(count, len(w))]

        def affine(h, v):
            recurrent = sum(gain * x for gain, x in zip(gains, v, strict=True))
            return (matrix * h).sum(1) + recurrent + rest

        return jax.vmap(lambda h, v: m.update(h, (*u, *v)))(hs, vs), jax.vmap(affine)(hs, vs)

    got, expected = compare(draw(m.initial), tuple(draw(x) for x in v))
    return bool(np.allclose(got, expected, rtol=1e-4, atol=1e-4))
