"""Looking at gradients and timescales."""

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
    products: dict[str, list[tuple[Array, Array, Array]]] = {}
    leaves_b = jax.tree.leaves(grads_b)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(grads_a), leaves_b, strict=True):
        terms = (jnp.vdot(a, b).real, jnp.vdot(a, a).real, jnp.vdot(b, b).real)
        products.setdefault(layer_of(path), []).append(terms)
    cosines = {}
    for layer, terms in products.items():
        dot, aa, bb = (jnp.stack(t).sum() for t in zip(*terms, strict=True))
        cosines[layer] = dot / jnp.sqrt(aa * bb)
    return cosines
