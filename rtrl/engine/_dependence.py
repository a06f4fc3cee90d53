"""What a value depends on, read off the code that computes it."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, PyTree


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
