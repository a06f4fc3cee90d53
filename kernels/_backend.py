"""The one place that knows which Pallas backend runs the kernel, and where.

Today: Pallas Triton. It is deprecated in JAX 0.11 and later, its successor Mosaic GPU is partial
before Hopper; whoever moves the kernel (to Mosaic GPU, or to jax_triton) changes this file only,
so the kernel's body keeps to loads and stores of blocks and elementwise arithmetic.
"""

import warnings
from collections.abc import Callable, Sequence

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as _triton

PLATFORM = "cuda"  # as in jax.lax.platform_dependent


def load(ref, index: tuple, mask) -> jax.Array:
    """The block of ``ref`` at ``index``, zero where the mask is false."""
    return _triton.load(ref.at[index], mask=mask, other=0.0)


def store(ref, index: tuple, value, mask) -> None:
    """Write a block where the mask is true."""
    _triton.store(ref.at[index], value, mask=mask)


def call(
    body: Callable,
    out_shape: Sequence[jax.ShapeDtypeStruct],
    *,
    name: str,
    grid: tuple[int, int, int],
    num_warps: int,
    aliases: dict[int, int],
    interpret: bool,
) -> Callable:
    """``pallas_call`` with whole arrays as references.

    Args:
        body: the kernel: input references, then output references.
        out_shape: the outputs.
        name: of the kernel in profiles.
        grid: programs along x (the fastest), y and z; y and z below 65536.
        num_warps: warps a program.
        aliases: input number -> number of the output that is written over it.
        interpret: run on any platform, slowly, as ordinary JAX.
    """
    return pl.pallas_call(
        body,
        out_shape=list(out_shape),
        grid=grid,
        input_output_aliases=aliases,
        interpret=interpret,
        name=name,
        compiler_params=_triton.CompilerParams(num_warps=num_warps, num_stages=1),
    )


def device() -> jax.Device | None:
    """The device that the kernel would run on in this process; ``None`` if there is none."""
    if jax.default_backend() != "gpu":
        return None
    try:
        return jax.local_devices(backend=PLATFORM)[0]
    except RuntimeError:  # a GPU of another maker
        return None


def lower(function: Callable, *arguments, kind: str = "NVIDIA H100") -> jax.stages.Lowered:
    """Lower a jitted function for an NVIDIA GPU, on any machine.

    Args:
        function: made by ``jax.jit``.
        arguments: arrays or ``jax.ShapeDtypeStruct``.
        kind: the device's name, which newer versions of JAX ask for.
    """
    with abstract_device(kind), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The Pallas Triton backend is deprecated")
        return function.trace(*arguments).lower(lowering_platforms=(PLATFORM,))


def abstract_device(kind: str):
    """A context that names the GPU to compile for. JAX 0.10 needs none, 0.12 does."""
    import contextlib
    import inspect

    from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

    if "platform" not in inspect.signature(AbstractDevice).parameters:
        return contextlib.nullcontext()
    gpu = AbstractDevice(device_kind=kind, num_cores=None, platform="gpu")
    return use_abstract_mesh(AbstractMesh((), (), abstract_device=gpu))
