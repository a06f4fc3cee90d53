"""The one place that knows which Pallas backend runs the kernel, and where.

Today: Pallas Triton. It is deprecated in JAX 0.11 and later, its successor Mosaic GPU is partial
before Hopper; whoever moves the kernel (to Mosaic GPU, or to jax_triton) changes this file only,
so the kernel's body keeps to loads and stores of blocks and elementwise arithmetic.
"""

import contextlib
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as _triton
from jax.interpreters.mlir import ir
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

PLATFORM = "cuda"  # as in jax.lax.platform_dependent


def load(ref, index: tuple, mask) -> jax.Array:
    """The block of ``ref`` at ``index``, zero where the mask is false."""
    return _triton.load(ref.at[index], mask=mask, other=np.zeros((), ref.dtype))


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
    """``pallas_call`` with whole arrays as references, complex arrays included.

    Args:
        body: the kernel: input references, then output references. A complex array's reference is
            one to real numbers with a last axis of double length: real, imaginary, real, ...
        out_shape: the outputs.
        name: of the kernel in profiles.
        grid: programs along x (the fastest), y and z; y and z below 65536.
        num_warps: warps a program.
        aliases: input number -> number of the output that is written over it.
        interpret: run on any platform, slowly, as ordinary JAX.
    """
    run = pl.pallas_call(
        body,
        out_shape=[_view(s) for s in out_shape],
        grid=grid,
        input_output_aliases=aliases,
        interpret=interpret,
        name=name,
        compiler_params=_triton.CompilerParams(num_warps=num_warps, num_stages=1),
    )
    if not interpret:
        return lambda *arguments: _call_lowered(run, arguments, out_shape, aliases)
    if not any(jnp.issubdtype(s.dtype, jnp.complexfloating) for s in out_shape):
        return run

    def through_copies(*arguments):
        outputs = run(*[_pairs(a) if jnp.iscomplexobj(a) else a for a in arguments])
        return [jax.lax.complex(a[..., ::2], a[..., 1::2]) for a in outputs]

    return through_copies


def _pairs(a) -> jax.Array:
    view = _view(a)
    return jnp.stack([a.real, a.imag], -1).reshape(view.shape)


def _view(a) -> jax.ShapeDtypeStruct:
    """The real array of the same bytes: every complex number is two real ones."""
    if not jnp.issubdtype(a.dtype, jnp.complexfloating):
        return jax.ShapeDtypeStruct(a.shape, a.dtype)
    return jax.ShapeDtypeStruct((*a.shape[:-1], 2 * a.shape[-1]), np.zeros(0, a.dtype).real.dtype)


def _call_lowered(run: Callable, arguments, out_shape, aliases) -> list[jax.Array]:
    """Run a kernel for real arrays on these, or on the complex arrays of the same bytes.

    JAX has no free cast between the two, and splitting a trace and joining it would cost two
    passes over it. But a kernel sees addresses only: so lower it for the real arrays, and call
    what came out, with the same settings, with the complex ones. Real arrays take the same way:
    lowered here, the kernel keeps JAX's word on its backend's future to itself, which would stop a
    program that turns warnings into errors.
    """
    lowered = lower(jax.jit(run), *[_view(a) for a in arguments])
    ((target, settings),) = custom_calls(lowered)
    compiled = jax.ffi.ffi_call(target, list(out_shape), input_output_aliases=aliases)
    return list(compiled(*arguments, **settings))


def custom_calls(lowered: jax.stages.Lowered) -> list[tuple[str, dict]]:
    """Target and settings of every Triton kernel in a lowered function."""
    found = []

    def plain(a):
        if isinstance(a, ir.StringAttr):
            return a.value_bytes
        if isinstance(a, ir.BoolAttr):
            return a.value
        return np.int32(ir.IntegerAttr(a).value)

    def visit(op):
        if op.name == "stablehlo.custom_call" and "mhlo.backend_config" in op.attributes:
            target = ir.StringAttr(op.attributes["call_target_name"]).value
            if "triton" in target:
                config = ir.DictAttr(op.attributes["mhlo.backend_config"])
                found.append((target, {a.name: plain(a.attr) for a in config}))
        return ir.WalkResult.ADVANCE

    module: Any = lowered.compiler_ir("stablehlo")
    module.operation.walk(visit)
    return found


def device():
    """The `jax.Device` that the kernel would run on in this process; ``None`` if there is none."""
    if jax.default_backend() != "gpu":
        return None
    try:
        return jax.local_devices(backend=PLATFORM)[0]
    except RuntimeError:  # a GPU of another maker
        return None


def lower(function: Callable, *arguments, device_kind: str | None = None) -> jax.stages.Lowered:
    """Lower a jitted function for an NVIDIA GPU, on any machine.

    Args:
        function: made by ``jax.jit``.
        arguments: arrays or ``jax.ShapeDtypeStruct``.
        device_kind: the name of the GPU; ``None``: the one of this machine, or any if it has none.
            Newer versions of JAX want to know; no instruction of the kernel depends on it.
    """
    gpu = device()
    if device_kind is None and gpu is not None and gpu.platform == "gpu":
        context = jax.default_device(gpu)
    else:
        context = _abstract_device(device_kind or "NVIDIA H100")
    with context, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The Pallas Triton backend is deprecated")
        return function.trace(*arguments).lower(lowering_platforms=(PLATFORM,))


def _abstract_device(kind: str):
    """A context that names the GPU to compile for. JAX 0.10 needs none, 0.12 does."""
    if "platform" not in inspect.signature(AbstractDevice).parameters:
        return contextlib.nullcontext()
    gpu = AbstractDevice(device_kind=kind, num_cores=None, platform="gpu")
    return use_abstract_mesh(AbstractMesh((), (), abstract_device=gpu))
