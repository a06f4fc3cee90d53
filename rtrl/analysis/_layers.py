"""The name of a layer, as all of the analysis says it."""

import jax


def layer_of(path: tuple) -> str:
    """Name the layer of a leaf: its first key, and the index that follows directly."""
    indexed = len(path) > 1 and isinstance(path[1], jax.tree_util.SequenceKey)
    return jax.tree_util.keystr(path[: 1 + indexed]).lstrip(".") or "all"
