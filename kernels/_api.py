"""`diagonal_trace`: checks, the choice of an implementation, and the batching rule."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from rtrl.kernels import _backend, _device, _on_mesh, _tiles
from rtrl.kernels._diagonal_trace import launch
from rtrl.kernels._reference import xla
from rtrl.validate import require

#: How a trace advances: by XLA, by the kernel, by the kernel interpreted (slowly, on any device),
#: or, ``None``, by the kernel where it works and pays, else by XLA.
Implementation = Literal["xla", "pallas", "pallas_interpret"] | None

LARGEST = 2**31 - 1  # real numbers in an array: the kernel's offsets have 32 bits


def diagonal_trace(
    trace: Inexact[Array, "B d N H"],
    D: Inexact[Array, "#K #B d d N"],
    J: Inexact[Array, "#K #B d N"],
    xs: Float[Array, "K B H"],
    deltas: Inexact[Array, "K B d N"],
    *,
    implementation: Implementation = None,
) -> tuple[Inexact[Array, "N H"], Inexact[Array, "B d N H"]]:
    """Advance one projection's trace over K timesteps, and read the gradient off it.

    ::

        s_k = D_k s_{k-1} + J_k (x) x_k,    gradient = sum over k, samples, i of delta_k[i] s_k[i]

    Module by module, without conjugation. A reset is ``D_k = 0``.

    Args:
        trace: s_0, ``(B, d, N, H)``: samples, numbers per module, modules, inputs.
        D: one-step decay dh_k/dh_{k-1}, ``(K|1, B|1, d, d, N)``; 1: the same for all.
        J: dh_k/du_k, ``(K|1, B|1, d, N)``.
        xs: inputs, ``(K, B, H)``, real.
        deltas: errors dl_k/dh_k, ``(K, B, d, N)``.
        implementation: ``"xla"``; ``"pallas"``, the kernel for NVIDIA GPUs; ``"pallas_interpret"``,
            the kernel on any platform, slowly; ``None``: XLA, or on an NVIDIA GPU the kernel where
            it should be faster (`kernel_pays`) once it has agreed with the reference on that
            device in this process. If it has not, a `RuntimeWarning` says so, once.

    Returns:
        The gradient ``(N, H)`` and the new trace s_K, both of the trace's dtype. The kernel writes
        the new trace over the old one where XLA may reuse it (a donated argument, a loop's carry).

    Under ``vmap`` the kernel runs once for all problems. It has no derivative: call it inside a
    custom derivative rule.

    Raises:
        ValueError: shapes or dtypes do not fit; the kernel was asked for by name and can't do
            this (more than two numbers per module, on the GPU double precision).

    Source: Zucchet et al. (2023), equations B.5-B.10.
    """
    arguments = trace, D, J, xs, deltas
    _check(*arguments)
    name = _resolve(implementation, *arguments)
    if name == "xla":
        return xla(*arguments)
    if name == "auto":  # the function may yet be compiled for another platform
        gpu = {_backend.PLATFORM: partial(_kernel, interpret=False)}
        return jax.lax.platform_dependent(*arguments, default=xla, **gpu)
    return _kernel(*arguments, interpret=name == "pallas_interpret")


def serves(implementation: Implementation, trace, D, J, xs, deltas) -> bool:
    """Whether `diagonal_trace` would run the kernel for these arguments, not XLA.

    Args:
        implementation, trace, D, J, xs, deltas: as for `diagonal_trace`.

    Raises:
        ValueError: the kernel was asked for by name and can't do this.
    """
    return _resolve(implementation, trace, D, J, xs, deltas) != "xla"


def kernel_pays(K: int, parameters: int) -> bool:
    """Whether the kernel should beat XLA for a chunk of K timesteps.

    As measured on an H100 (``bench/results/gpu.md``), for layers of 256 by 256 and of 1024 by 1024:
    chunks of 4 and 16 always, single timesteps in the large layer only.

    Args:
        K: timesteps, at least 1.
        parameters: modules times inputs of the projection.
    """
    return 2 <= K <= 16 or (K == 1 and parameters >= 2**20)


def _resolve(implementation: Implementation, trace, D, J, xs, deltas) -> str:
    """``"xla"``, ``"pallas"``, ``"pallas_interpret"``, or ``"auto"``: the kernel on CUDA."""
    known = ("xla", "pallas", "pallas_interpret", None)
    expected = '"xla", "pallas", "pallas_interpret" or None'
    require(implementation in known, "implementation", expected, implementation)
    if implementation == "xla":
        return "xla"
    d, single = D.shape[2], trace.dtype in (jnp.float32, jnp.complex64)
    numbers = max(a.size * (2 if jnp.iscomplexobj(a) else 1) for a in (trace, D, J, xs, deltas))
    if implementation is None:
        fits = d <= 2 and single and numbers <= LARGEST
        fits = fits and kernel_pays(xs.shape[0], trace.shape[2] * trace.shape[3])
        device = _backend.device() if fits else None
        return "xla" if device is None or not _device.passed_on(device) else "auto"
    require(d <= 2, "D", f"one or two numbers per module for {implementation!r}", D.shape)
    require(numbers <= LARGEST, "trace", f"at most {LARGEST} real numbers in an array", numbers)
    if implementation == "pallas":
        require(single, "trace", 'float32 or complex64 for "pallas"', str(trace.dtype))
    return implementation


def _kernel(*arguments, interpret: bool):
    run = _with_batching_rule(interpret)
    gradient, new_trace = run(*[a[None] for a in arguments])  # one problem
    return gradient[0], new_trace[0]


def _with_batching_rule(interpret: bool):
    """The kernel; every ``vmap`` folds its axis into the one for independent problems."""

    @jax.custom_batching.custom_vmap
    def run(trace, D, J, xs, deltas):
        V, B, d, N, H = trace.shape
        parts = 2 if jnp.iscomplexobj(trace) else 1
        tile = _tiles.choose(_tiles.Shape(xs.shape[1], B, d, parts, N, H))
        limit = _tiles.LARGEST_GRID_YZ // tile.splits
        require(limit >= V, "trace", f"at most {limit} problems under vmap", V)
        if not interpret and _on_mesh.is_spread((trace, D, J, xs, deltas)):
            return _on_mesh.launch_here(trace, D, J, xs, deltas, tile=tile)
        return launch(trace, D, J, xs, deltas, tile=tile, interpret=interpret)

    @run.def_vmap
    def fold(size, batched, *arguments):
        V = arguments[0].shape[1 if batched[0] else 0]

        def folded(a, has_axis: bool, all_problems: bool):
            if not has_axis:
                if a.shape[0] == 1 and not all_problems:
                    return a  # the same for all problems
                a = jnp.broadcast_to(a[None], (size, *a.shape))
            return jnp.broadcast_to(a, (size, V, *a.shape[2:])).reshape(-1, *a.shape[2:])

        flags = (True, False, False, False, False)  # the trace is written: everyone needs one
        gradient, new_trace = run(*map(folded, arguments, batched, flags))
        outputs = (a.reshape(size, V, *a.shape[1:]) for a in (gradient, new_trace))
        return tuple(outputs), (True, True)

    return run


def _check(trace, D, J, xs, deltas) -> None:
    """Refuse shapes and dtypes that do not fit together."""
    require(jnp.ndim(trace) == 4, "trace", "(B, d, N, H)", jnp.shape(trace))
    inexact = jnp.issubdtype(trace.dtype, jnp.inexact)
    require(inexact, "trace", "real or complex floating point", str(trace.dtype))
    B, d, N, H = trace.shape
    require(min(trace.shape) >= 1, "trace", "no empty axis", trace.shape)
    require(jnp.ndim(xs) == 3 and xs.shape[1:] == (B, H), "xs", f"(K, {B}, {H})", jnp.shape(xs))
    K = xs.shape[0]
    require(K >= 1, "xs", "at least one timestep", xs.shape)
    expected = f"({K}, {B}, {d}, {N})"
    require(jnp.shape(deltas) == (K, B, d, N), "deltas", expected, jnp.shape(deltas))
    for name, a, entries in (("D", D, (d, d)), ("J", J, (d,))):
        shape = jnp.shape(a)
        fits = len(shape) == 3 + len(entries) and shape[2:] == (*entries, N)
        fits = fits and shape[0] in (1, K) and shape[1] in (1, B)
        sizes = ", ".join(map(str, (*entries, N)))
        require(fits, name, f"({K} or 1, {B} or 1, {sizes})", shape)
    for name, a in (("D", D), ("J", J), ("deltas", deltas)):
        require(a.dtype == trace.dtype, name, f"{trace.dtype} like trace", str(a.dtype))
    real = jnp.finfo(trace.dtype).dtype
    require(xs.dtype == real, "xs", f"{real} like a part of trace", str(xs.dtype))
