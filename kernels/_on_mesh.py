"""The kernel inside `jax.shard_map`: a launch on every device, for what lives there.

There JAX asks of every array over which axes of the mesh it varies, which Pallas does not tell of a
kernel's insides. The kernel needs not know: it is lowered apart from the mesh, and what came out is
called with the types of what is around.
"""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from rtrl.kernels import _backend
from rtrl.kernels._diagonal_trace import launch
from rtrl.kernels._tiles import Tile


def is_spread(arguments: Sequence[jax.Array]) -> bool:
    """Whether these arrays are one device's own, inside `jax.shard_map`."""
    return bool(_axes(arguments))


def launch_here(trace, D, J, xs, deltas, *, tile: Tile) -> tuple[jax.Array, jax.Array]:
    """As `launch`, for what this device has."""
    arguments = (trace, D, J, xs, deltas)
    axes = _axes(arguments)
    arguments = [_own(a, axes) for a in arguments]
    views = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arguments]
    # In a thread of its own: there is no mesh there.
    with ThreadPoolExecutor(1) as thread:
        ((target, settings),) = thread.submit(_lowered, views, tile).result()
    V, _, _, N, H = trace.shape
    outputs = [
        # The type of an argument with as many axes says where a result varies.
        jax.typeof(arguments[3]).update(shape=(V, tile.splits, N, H), dtype=trace.dtype),
        jax.typeof(arguments[0]),
    ]
    call = jax.ffi.ffi_call(target, outputs, input_output_aliases={0: 1})
    gradients, after = call(*arguments, **settings)
    return (gradients[:, 0] if tile.splits == 1 else gradients.sum(1)), after


def _lowered(views: list[jax.ShapeDtypeStruct], tile: Tile) -> list[tuple[str, dict]]:
    run = jax.jit(functools.partial(launch, tile=tile, interpret=False))
    return _backend.custom_calls(_backend.lower(run, *views))


def _axes(arguments: Sequence[jax.Array]) -> frozenset[str]:
    kinds: list[Any] = [getattr(jax.typeof(a), "manual_axis_type", None) for a in arguments]
    return frozenset().union(*(kind.varying for kind in kinds if kind is not None))


def _own(a: jax.Array, axes: frozenset[str]) -> jax.Array:
    missing = tuple(sorted(axes - _axes([a])))
    return jax.lax.pcast(a, missing, to="varying") if missing else a
