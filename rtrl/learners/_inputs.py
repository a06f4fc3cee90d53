"""What a user hands in, checked and cast before anything is traced or changed."""

import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from rtrl.engine import Chunk, Rule
from rtrl.validate import require

#: Weights of a sequence that are kept for the next one like it.
FEW = 1 << 12


def float_dtype(model: PyTree) -> jnp.dtype:
    """The real dtype of the model's parameters, to which data are cast."""
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    require(bool(leaves), "model", "a model with floating-point parameters", type(model).__name__)
    return jnp.finfo(jnp.result_type(*leaves)).dtype


def feature_axes(model: PyTree) -> int:
    """How many axes a timestep of one sample has: 1, or 0 where the model's in_size is None."""
    return 0 if getattr(model, "in_size", 1) is None else 1


def infer_batch(model: PyTree, xs: Any) -> int | None:
    """Read the batch size off a sequence: ``None`` if it has no batch axis."""
    rank = 1 + feature_axes(model)
    shape = np.shape(xs)
    require(len(shape) in (rank, rank + 1), "xs", _layout(model, "batch"), shape)
    return None if len(shape) == rank else shape[1]


def chunk_size(chunk: int | None, length: int, rule: Rule) -> int:
    """The timesteps per chunk: by default 1 for an online rule, all for one that is not."""
    if chunk is None:
        return length if rule.whole_sequence else 1
    require(
        isinstance(chunk, int | np.integer) and not isinstance(chunk, bool) and chunk >= 1,
        "chunk",
        "an integer of at least 1 (timesteps)",
        chunk,
    )
    return min(int(chunk), length)


def cast(value: PyTree, dtype: jnp.dtype, argument: str) -> Any:
    """Cast floating-point arrays to the model's dtype; leave integers and booleans alone.

    A list is an array to be; tuples, dicts and other containers are pytrees of arrays.
    """
    # JAX would take a list for a pytree of numbers, and a user means an array.
    if isinstance(value, list):
        value = np.asarray(value)

    def leaf(a):
        # Numpy stays numpy: putting it on a device is left to the compiled call.
        a = a if isinstance(a, jax.Array) else np.asarray(a)
        if a.dtype == dtype:  # a copy of what the caller may change while we work with it
            return a if isinstance(a, jax.Array) else a.copy()
        require(
            a.dtype != object and (jnp.issubdtype(a.dtype, jnp.number) or a.dtype == bool),
            argument,
            "numbers",
            f"an array of dtype {a.dtype}",
        )
        return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

    return jax.tree.map(leaf, value)


def check_xs(model: PyTree, xs: Any, batch_size: int | None, *, time: bool = True) -> None:
    """Check the shape of inputs against the model and the batch size that the carry has."""
    argument = "xs" if time else "x"
    shape = np.shape(xs)
    batch = () if batch_size is None else (batch_size,)
    size = getattr(model, "in_size", None)
    expected = _layout(model, batch_size, time)
    lead = 1 if time else 0
    # The likeliest mistake by far, so it gets a hint of its own.
    hint = ""
    if time and len(shape) == len(batch) + feature_axes(model):
        hint = " (is the time axis missing? step() takes one timestep)"
    if len(shape) != lead + len(batch) + feature_axes(model):
        raise ValueError(f"{argument}: expected {expected}, got {shape}{hint}.")
    require(not time or shape[0] >= 1, argument, "at least one timestep", shape)
    if batch and shape[lead] != batch_size:
        raise ValueError(
            f"{argument}: expected {expected}, got {shape}: the batch size differs from that of "
            "the state (start another with init, or keep the size and use weights of 0)."
        )
    require(size is None or shape[-1] == size, argument, expected, shape)


def prepare(
    model: PyTree,
    xs: Any,
    ys: Any,
    weights: Any,
    resets: Any,
    batch_size: int | None,
    dtype: Any = None,
) -> Chunk:
    """Check and cast a sequence, by default to `float_dtype`: what can be wrong is found here."""
    dtype = float_dtype(model) if dtype is None else dtype
    xs = cast(xs, dtype, "xs")
    check_xs(model, xs, batch_size)
    lead = xs.shape[:1] if batch_size is None else xs.shape[:2]
    if ys is not None:
        ys = cast(ys, dtype, "ys")
        for leaf in jax.tree.leaves(ys):
            require(
                leaf.shape[: len(lead)] == lead,
                "ys",
                f"leading axes {lead} like xs, {_names(batch_size)}",
                leaf.shape,
            )
    if weights is None:
        weights = (
            _ones(lead, dtype) if math.prod(lead) <= FEW else jax.device_put(np.ones(lead, dtype))
        )
    else:
        weights = per_timestep(weights, lead, "weights", dtype)
    if resets is not None:
        resets = per_timestep(resets, lead, "resets", bool)
    return Chunk(xs, ys, weights, resets)


def prepare_one(
    model: PyTree, x: Any, y: Any, weight: Any, reset: Any, batch_size: int | None, dtype: Any
) -> Chunk:
    """Check and cast a timestep; without resets where there is none."""
    x = cast(x, dtype, "x")
    check_xs(model, x, batch_size, time=False)
    lead = () if batch_size is None else (batch_size,)
    y = None if y is None else cast(y, dtype, "y")
    weights = of_a_step(weight, lead, "weight", dtype)
    resets = None if reset is False else of_a_step(reset, lead, "reset", bool)
    return Chunk(x, y, weights, resets)


def per_timestep(value: Any, lead: tuple[int, ...], argument: str, dtype: Any) -> Any:
    """Cast to ``(time, [batch])``; one value per timestep, or a single one, serves all samples."""
    if lead == () and isinstance(value, float) and dtype is not bool:  # the default: no more to ask
        return np.asarray(value, dtype)
    value = value if isinstance(value, jax.Array) else np.asarray(value)
    kind = jnp.bool_ if dtype is bool else jnp.number
    require(
        jnp.issubdtype(value.dtype, kind) or value.dtype == bool,
        argument,
        "booleans" if dtype is bool else "numbers",
        f"an array of dtype {value.dtype}",
    )
    shapes = dict.fromkeys([(), lead[:1], lead])
    require(value.shape in shapes, argument, " or ".join(map(str, shapes)), value.shape)
    if value.ndim == 1 and len(lead) == 2:
        value = value[:, None]
    # An array of a caller's jit must stay JAX's; for anything else numpy starts no program.
    module = jnp if isinstance(value, jax.Array) else np
    return module.broadcast_to(value, lead).astype(dtype)


def of_a_step(value: Any, lead: tuple[int, ...], argument: str, dtype: Any) -> Any:
    """As `per_timestep`, without a transfer for the ones that most steps have."""
    if value is True or (isinstance(value, float) and value == 1 and dtype is not bool):
        return _ones(lead, dtype)
    return per_timestep(value, lead, argument, dtype)


@functools.lru_cache(maxsize=64)
def _ones(lead: tuple[int, ...], dtype: Any) -> jax.Array:
    """What lies on the device from the first step on; `jax.transfer_guard` lets it get there."""
    with jax.ensure_compile_time_eval():
        return jax.device_put(np.ones(lead, dtype))


def _names(batch_size: Any) -> str:
    return "(time,)" if batch_size is None else "(time, batch)"


def _layout(model: PyTree, batch_size: Any, time: bool = True) -> str:
    axes = ["time"] if time else []
    if batch_size is not None:
        axes.append("[batch]" if batch_size == "batch" else str(batch_size))
    if feature_axes(model):
        axes.append(str(getattr(model, "in_size", "features")))
    return "(" + ", ".join(axes) + ("," if len(axes) == 1 else "") + ")"
