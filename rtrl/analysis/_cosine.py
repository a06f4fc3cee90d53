"""Looking at gradients and timescales."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from rtrl.analysis._layers import layer_of
from rtrl.validate import require


def cosine_by_layer(grads_a: PyTree, grads_b: PyTree) -> dict[str, Float[Array, ""]]:
    """Cosine similarity of two gradients, layer by layer.

    ::

        cos = <a, b> / (|a| |b|)      over all parameters of a layer

    A layer is a field of the network, or an element of a field that is a list or tuple:
    ``encoder``, ``layers[0]``, ``layers[1]``, ``decoder`` for a `SequenceModel`. It is NaN where a
    gradient is zero.

    Args:
        grads_a, grads_b: gradients of the same network, as from `sequence_gradient`.

    Returns:
        The cosine of every layer by its name, scalars in [-1, 1] or NaN.

    Raises:
        ValueError: the two have different structure.
    """
    structures = jax.tree.structure(grads_a), jax.tree.structure(grads_b)
    require(structures[0] == structures[1], "grads_b", "the structure of grads_a", structures[1])
    layers: dict[str, list[tuple[Array, Array]]] = {}
    leaves_b = jax.tree.leaves(grads_b)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(grads_a), leaves_b, strict=True):
        layers.setdefault(layer_of(path), []).append((a, b))
    return {layer: _cosine(*zip(*leaves, strict=True)) for layer, leaves in layers.items()}


def _cosine(a: Sequence[Array], b: Sequence[Array]) -> Float[Array, ""]:
    a, b = _scaled(a), _scaled(b)
    return _dot(a, b) / (jnp.sqrt(_dot(a, a)) * jnp.sqrt(_dot(b, b)))


def _scaled(leaves: Sequence[Array]) -> list[Array]:
    """By the largest number: the squares of gradients of 1e-20 are zero in single precision."""
    largest = jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]).max()
    return [leaf / largest for leaf in leaves]


def _dot(a: Sequence[Array], b: Sequence[Array]) -> Float[Array, ""]:
    return jnp.stack([jnp.vdot(x, y).real for x, y in zip(a, b, strict=True)]).sum()
