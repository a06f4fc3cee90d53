"""`diagonal_trace`: checks, the choice of an implementation, and the batching rule."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from rtrl._validate import require
from rtrl.kernels import _backend, _tiles
from rtrl.kernels._device import passed_on
from rtrl.kernels._diagonal_trace import launch
from rtrl.kernels._planes import from_planes, to_planes
from rtrl.kernels._reference import xla

Implementation = Literal["xla", "pallas", "pallas_interpret"] | None
LARGEST = 2**31 - 1  # elements of an array: the kernel's offsets have 32 bits


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
            the kernel on any platform, slowly; ``None``: XLA, or on a GPU the kernel where it pays
            (`kernel_pays`) once it has agreed with the reference on that device in this process.

    Returns:
        The gradient ``(N, H)`` and the new trace s_K, both of the trace's dtype. The kernel writes
        the new trace over the old one where XLA may reuse it (a donated argument, a loop's carry).

    A complex trace costs the kernel two more passes, to split it and to join it: ``None`` never
    does that. Keep the trace in planes (`to_planes`) and call `diagonal_trace_split`.
    No derivative: call it inside a custom derivative rule.

    Raises:
        ValueError: shapes or dtypes do not fit; ``"pallas"`` asked for what the kernel can't do
            (more than two numbers per module, double precision).

    Source: Zucchet et al. (2023), equations B.5-B.10.
    """
    _check(trace, D, J, xs, deltas, planes=False)
    complex_ = jnp.iscomplexobj(trace)

    def kernel(trace, D, J, xs, deltas, *, interpret: bool):
        if complex_:
            split = to_planes(trace, after=2), *_split(D, J), xs, to_planes(deltas, after=1)
        else:
            split = trace[:, :, None], D[..., None, :], J[..., None, :], xs, deltas[..., None, :]
        gradient, new = _kernel(*split, interpret=interpret)
        if complex_:
            return from_planes(gradient, after=2), from_planes(new, after=2)
        return gradient[0], new[:, :, 0]

    name = _resolve(implementation, trace, D, xs, pays=not complex_)
    return _run(name, kernel, xla, (trace, D, J, xs, deltas))


def diagonal_trace_split(
    trace: Float[Array, "B d 2 N H"],
    D: Float[Array, "#K #B d d 2 N"],
    J: Float[Array, "#K #B d 2 N"],
    xs: Float[Array, "K B H"],
    deltas: Float[Array, "K B d 2 N"],
    *,
    implementation: Implementation = None,
) -> tuple[Float[Array, "2 N H"], Float[Array, "B d 2 N H"]]:
    """`diagonal_trace` of complex modules, with real and imaginary parts in planes.

    The plane axis sits right before N (`to_planes`, `from_planes`). The kernel then needs no
    conversion: it reads the trace once and writes it once.

    Args:
        trace: ``(B, d, 2, N, H)``, real.
        D: ``(K|1, B|1, d, d, 2, N)``.
        J: ``(K|1, B|1, d, 2, N)``.
        xs: ``(K, B, H)``.
        deltas: ``(K, B, d, 2, N)``.
        implementation: as for `diagonal_trace`.

    Returns:
        The gradient ``(2, N, H)`` and the new trace.

    Raises:
        ValueError: as `diagonal_trace`.
    """
    _check(trace, D, J, xs, deltas, planes=True)

    def plain(trace, D, J, xs, deltas):
        D, J, deltas = (from_planes(a, after=1) for a in (D, J, deltas))
        gradient, new = xla(from_planes(trace, after=2), D, J, xs, deltas)
        return to_planes(gradient, after=2), to_planes(new, after=2)

    name = _resolve(implementation, trace, D, xs, pays=True)
    return _run(name, _kernel, plain, (trace, D, J, xs, deltas))


def kernel_pays(K: int) -> bool:
    """Whether the kernel should beat XLA for a chunk of K timesteps, by the table in
    ``kernels/README.md``: an estimate from bytes and flops, until it has been measured."""
    return K <= 16


def _run(name: str, kernel, plain, arguments):
    if name == "xla":
        return plain(*arguments)
    if name == "auto":  # the function may yet be compiled for another platform
        gpu = {_backend.PLATFORM: partial(kernel, interpret=False)}
        return jax.lax.platform_dependent(*arguments, default=plain, **gpu)
    return kernel(*arguments, interpret=name == "pallas_interpret")


def _resolve(implementation: Implementation, trace, D, xs, *, pays: bool) -> str:
    """``"xla"``, ``"pallas"``, ``"pallas_interpret"``, or ``"auto"``: the kernel on CUDA."""
    expected = '"xla", "pallas", "pallas_interpret" or None'
    known = ("xla", "pallas", "pallas_interpret", None)
    require(implementation in known, "implementation", expected, implementation)
    if implementation == "xla":
        return "xla"
    d, real = D.shape[2], trace.real.dtype
    if implementation is None:
        fits = d <= 2 and real == jnp.float32 and trace.size * 2 <= LARGEST
        device = _backend.device() if fits and pays and kernel_pays(xs.shape[0]) else None
        return "auto" if device is not None and passed_on(device) else "xla"
    require(d <= 2, "D", f"one or two numbers per module for {implementation!r}", D.shape)
    if implementation == "pallas":
        require(
            real == jnp.float32, "trace", 'float32 or complex64 for "pallas"', str(trace.dtype)
        )
        limit = f"at most {LARGEST} real numbers for the kernel"
        numbers = trace.size * (2 if jnp.iscomplexobj(trace) else 1)
        require(numbers <= LARGEST, "trace", limit, numbers)
    return implementation


def _kernel(trace, D, J, xs, deltas, *, interpret: bool):
    """Arrays with a plane axis, through the batching rule, to the kernel."""

    @jax.custom_batching.custom_vmap
    def run(*arguments):
        problems, B, d, P, N, H = arguments[0].shape
        tile = _tiles.choose(_tiles.Shape(arguments[3].shape[1], B, d, P, N, H))
        require(
            problems * tile.splits <= _tiles.LARGEST_GRID_YZ,
            "the vmapped axis",
            f"at most {_tiles.LARGEST_GRID_YZ // tile.splits} problems",
            problems,
        )
        return launch(*arguments, tile=tile, interpret=interpret)

    @run.def_vmap
    def rule(size, batched, *arguments):
        """Fold the new axis into the one for independent problems."""
        problems = arguments[0].shape[1 if batched[0] else 0]

        def fold(a, has_axis, full):
            old = a.shape[1] if has_axis else a.shape[0]
            if not has_axis and old == 1 and not full:
                return a  # the same for all problems
            if not has_axis:
                a = jnp.broadcast_to(a[None], (size, *a.shape))
            if old < problems:
                a = jnp.broadcast_to(a, (size, problems, *a.shape[2:]))
            return a.reshape(-1, *a.shape[2:])

        folded = [
            fold(a, b, i == 0) for i, (a, b) in enumerate(zip(arguments, batched, strict=True))
        ]
        outputs = run(*folded)
        return tuple(a.reshape(size, problems, *a.shape[1:]) for a in outputs), (True, True)

    gradient, new = run(trace[None], D[None], J[None], xs[None], deltas[None])
    return gradient[0], new[0]


def _split(D, J):
    return to_planes(D, after=1), to_planes(J, after=1)


def _check(trace, D, J, xs, deltas, *, planes: bool) -> None:
    """Refuse shapes and dtypes that do not fit together."""
    p = (2,) if planes else ()
    axes = "(B, d, 2, N, H)" if planes else "(B, d, N, H)"
    require(jnp.ndim(trace) == 4 + len(p), "trace", axes, jnp.shape(trace))
    require(not planes or trace.shape[2] == 2, "trace", axes, jnp.shape(trace))
    require(jnp.issubdtype(trace.dtype, jnp.inexact), "trace", "floating point", str(trace.dtype))
    if planes:
        require(jnp.isrealobj(trace), "trace", "real planes", str(trace.dtype))
    B, d, *_, N, H = trace.shape
    require(jnp.ndim(xs) == 3 and xs.shape[1:] == (B, H), "xs", f"(K, {B}, {H})", jnp.shape(xs))
    K = xs.shape[0]
    require(K >= 1, "xs", "at least one timestep", xs.shape)
    require(jnp.shape(deltas) == (K, B, d, *p, N), "deltas", (K, B, d, *p, N), jnp.shape(deltas))
    for name, a, entries in (("D", D, (d, d)), ("J", J, (d,))):
        shape = jnp.shape(a)
        expected = f"({K} or 1, {B} or 1, {', '.join(map(str, (*entries, *p, N)))})"
        fits = len(shape) > 2 and shape[2:] == (*entries, *p, N)
        require(fits and shape[0] in (1, K) and shape[1] in (1, B), name, expected, shape)
    for name, a in (("D", D), ("J", J), ("deltas", deltas)):
        require(a.dtype == trace.dtype, name, f"dtype {trace.dtype} like trace", str(a.dtype))
    require(xs.dtype == trace.real.dtype, "xs", f"dtype {trace.real.dtype}", str(xs.dtype))
