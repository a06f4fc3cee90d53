"""The kernel: one pass over the trace advances it K timesteps and accumulates the gradient.

For k = 1..K and every sample b, module by module (``s`` is ``(d, N, H)``)::

    s <- D_k s + J_k (x) x_k,    gradient += sum_i delta_k[i] s[i]

Axes: V independent problems (what ``vmap`` adds), K timesteps, B samples, d numbers per module,
P planes of a number (1: real; 2: real and imaginary part, since Pallas has no complex dtype),
N modules, H inputs. A program owns a tile of modules and inputs and loops over its samples and over
the timesteps, with the tile of the trace and of the gradient in registers: the trace is read once
and written once, over itself. Elementwise arithmetic only. Nothing divides by D.

Source: Zucchet et al. (2023), equations B.5-B.10; the step for d > 1 is its matrix form.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from rtrl.kernels import _backend
from rtrl.kernels._tiles import Shape, Tile

Number = tuple[jax.Array, ...]  # one or two planes
ZERO = np.int32(0)  # a Python int as index breaks Pallas' interpret mode


def tile_start(axis: int, size: int):
    """Where this program's tile begins along a grid axis."""
    return pl.program_id(axis) * np.int32(size)


def multiply(a: Number, b: Number) -> Number:
    if len(a) == 1:
        return (a[0] * b[0],)
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def add(a: Number, b: Number) -> Number:
    return tuple(p + q for p, q in zip(a, b, strict=True))


def _body(
    trace, D, J, xs, deltas, gradient, new_trace, *, shape: Shape, tile: Tile, problems: int
) -> None:
    """See `launch` for the shapes of the references."""
    n0, h0 = tile_start(1, tile.N), tile_start(0, tile.H)
    rows, columns = pl.ds(n0, tile.N), pl.ds(h0, tile.H)
    row_mask = n0 + jnp.arange(tile.N, dtype=np.int32) < shape.N
    column_mask = h0 + jnp.arange(tile.H, dtype=np.int32) < shape.H
    mask = row_mask[:, None] & column_mask[None, :]
    problem, part = ZERO, pl.program_id(2)
    if problems > 1:
        problem, part = part // np.int32(tile.splits), part % np.int32(tile.splits)
    samples = shape.B // tile.splits
    ds = [np.int32(i) for i in range(shape.d)]
    planes = [np.int32(p) for p in range(shape.P)]

    def only(index, size):  # an axis of size one is the same for all
        return index if size > 1 else ZERO

    def number(ref, k, b, *entry) -> Number:
        """A number of every module of the tile, as a column."""
        start = only(problem, ref.shape[0]), only(k, ref.shape[1]), only(b, ref.shape[2])
        return tuple(
            _backend.load(ref, (*start, *entry, p, rows), row_mask)[:, None] for p in planes
        )

    def numbers(k, b) -> tuple:
        return (
            [[number(D, k, b, i, j) for j in ds] for i in ds],
            [number(J, k, b, i) for i in ds],
        )

    steady = D.shape[1:3] == J.shape[1:3] == (1, 1)
    fixed = numbers(ZERO, ZERO) if steady else None  # read once, not every timestep

    def sample(b, total: Number) -> Number:
        b = part * np.int32(samples) + b
        s = tuple(
            tuple(_backend.load(trace, (problem, b, i, p, rows, columns), mask) for p in planes)
            for i in ds
        )

        def timestep(k, carry):
            s, total = carry
            decay, gain = numbers(k, b) if fixed is None else fixed
            x = _backend.load(xs, (only(problem, xs.shape[0]), k, b, columns), column_mask)
            x = x[None, :]
            after = []
            for i in range(shape.d):
                after_i = tuple(g * x for g in gain[i])
                for j in range(shape.d):
                    after_i = add(after_i, multiply(decay[i][j], s[j]))
                after.append(after_i)
                total = add(total, multiply(number(deltas, k, b, ds[i]), after_i))
            return tuple(after), total

        if shape.K == 1:
            s, total = timestep(ZERO, (s, total))
        else:
            s, total = jax.lax.fori_loop(ZERO, np.int32(shape.K), timestep, (s, total))
        for i, s_i in zip(ds, s, strict=True):
            for p, plane in zip(planes, s_i, strict=True):
                _backend.store(new_trace, (problem, b, i, p, rows, columns), plane, mask)
        return total

    total = tuple(jnp.zeros((tile.N, tile.H), gradient.dtype) for _ in planes)
    if samples == 1:
        total = sample(ZERO, total)
    else:
        total = jax.lax.fori_loop(ZERO, np.int32(samples), sample, total)
    for p, plane in zip(planes, total, strict=True):
        _backend.store(gradient, (problem, part, p, rows, columns), plane, mask)


def launch(trace, D, J, xs, deltas, *, tile: Tile, interpret: bool) -> tuple[jax.Array, jax.Array]:
    """Run the kernel.

    Args:
        trace: ``(V, B, d, P, N, H)``, real; written over in place where XLA may.
        D: ``(V|1, K|1, B|1, d, d, P, N)``.
        J: ``(V|1, K|1, B|1, d, P, N)``.
        xs: ``(V|1, K, B, H)``.
        deltas: ``(V|1, K, B, d, P, N)``.
        tile: how the launch is cut; ``tile.splits`` divides B.
        interpret: run in Pallas' interpret mode.

    Returns:
        The gradient ``(V, P, N, H)`` and the new trace.
    """
    problems, B, d, P, N, H = trace.shape
    shape = Shape(xs.shape[1], B, d, P, N, H)
    body = functools.partial(_body, shape=shape, tile=tile, problems=problems)
    parts, new_trace = _backend.call(
        body,
        [
            jax.ShapeDtypeStruct((problems, tile.splits, P, N, H), trace.dtype),
            jax.ShapeDtypeStruct(trace.shape, trace.dtype),
        ],
        name="rtrl_diagonal_trace",
        grid=(pl.cdiv(H, tile.H), pl.cdiv(N, tile.N), problems * tile.splits),
        num_warps=tile.warps,
        aliases={0: 1},
        interpret=interpret,
    )(trace, D, J, xs, deltas)
    return (parts[:, 0] if tile.splits == 1 else parts.sum(1)), new_trace
