"""The kernel: one pass over the trace advances it K timesteps and accumulates the gradient.

For k = 1..K and every sample b, module by module (``s`` is ``(d, N, H)``)::

    s <- D_k s + J_k (x) x_k,    gradient += sum_i delta_k[i] s[i]

Axes: V independent problems (what ``vmap`` adds), K timesteps, B samples, d numbers per module,
N modules, H inputs. A program owns a tile of modules and inputs and loops over its samples and over
the timesteps, with the tile of the trace and of the gradient in registers: the trace is read once
and written once, over itself. Elementwise arithmetic only. Nothing divides by D.

Pallas has no complex dtype, so a reference to a complex array is one to real numbers, with a last
axis of double length; numbers are taken apart once they are in registers.

Source: Zucchet et al. (2023), equations B.5-B.10; the step for d > 1 is its matrix form.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from rtrl.kernels import _backend
from rtrl.kernels._tiles import Shape, Tile

Number = tuple[jax.Array, ...]  # real part, or real and imaginary part
ZERO = np.int32(0)  # a Python int as index breaks Pallas' interpret mode


def tile_start(axis: int, size: int):
    """Where this program's tile begins along a grid axis."""
    return pl.program_id(axis) * np.int32(size)


def multiply_add(total: Number, a: Number, b: Number) -> Number:
    """``total + a b``, in the order that takes one or four multiply-add instructions."""
    if len(a) == 1:
        return (total[0] + a[0] * b[0],)
    return (
        total[0] + a[0] * b[0] - a[1] * b[1],
        total[1] + a[0] * b[1] + a[1] * b[0],
    )


def load(ref, index: tuple, mask, parts: int) -> Number:
    """A block of real or complex numbers, zero where the mask is false.

    Two real numbers next to each other are a complex one. They are loaded as one long row, then
    taken apart: in 128-bit loads, and without a move between threads.
    """
    *entry, last = index
    if parts == 1:
        return (_backend.load(ref, index, mask),)
    block = _backend.load(ref, (*entry, _doubled(last)), _repeated(mask))
    return tuple(jax.lax.unstack(block.reshape(*mask.shape, 2), axis=mask.ndim))


def store(ref, index: tuple, value: Number, mask) -> None:
    """Write a block of real or complex numbers where the mask is true."""
    *entry, last = index
    if len(value) == 1:
        _backend.store(ref, index, value[0], mask)
    else:
        block = jnp.stack(value, axis=mask.ndim).reshape(*mask.shape[:-1], -1)
        _backend.store(ref, (*entry, _doubled(last)), block, _repeated(mask))


def _doubled(s):
    return pl.ds(s.start * np.int32(2), s.size * 2)


def _repeated(mask):
    both = jnp.broadcast_to(mask[..., None], (*mask.shape, 2))
    return both.reshape(*mask.shape[:-1], mask.shape[-1] * 2)


def _body(trace, D, J, xs, deltas, gradient, new_trace, *, shape: Shape, tile: Tile) -> None:
    """See `launch` for the shapes of the references."""
    n0, h0 = tile_start(1, tile.N), tile_start(0, tile.H)
    rows, columns = pl.ds(n0, tile.N), pl.ds(h0, tile.H)
    row_mask = n0 + jnp.arange(tile.N, dtype=np.int32) < shape.N
    column_mask = h0 + jnp.arange(tile.H, dtype=np.int32) < shape.H
    mask = row_mask[:, None] & column_mask[None, :]
    # One grid axis for problems and parts of the batch: the grid has three axes and no more.
    problem, part = ZERO, pl.program_id(2)
    if trace.shape[0] > 1:
        splits = np.int32(tile.splits)
        problem, part = jax.lax.div(part, splits), jax.lax.rem(part, splits)
    samples = shape.B // tile.splits
    ds = [np.int32(i) for i in range(shape.d)]

    def only(index, size):  # an axis of size one is the same for all
        return index if size > 1 else ZERO

    def number(ref, k, b, *entry) -> Number:
        """A number of every module of the tile, as a column."""
        start = only(problem, ref.shape[0]), only(k, ref.shape[1]), only(b, ref.shape[2])
        # Rows beyond N load as zeros, so that what they add to the sums is nothing.
        block = load(ref, (*start, *entry, rows), row_mask, shape.P)
        return tuple(a[:, None] for a in block)

    def numbers(k, b) -> tuple:
        return (
            [[number(D, k, b, i, j) for j in ds] for i in ds],
            [number(J, k, b, i) for i in ds],
        )

    # A linear cell's D and J are alike for all: they stay in registers for the whole launch.
    steady = D.shape[1:3] == J.shape[1:3] == (1, 1)
    fixed = numbers(ZERO, ZERO) if steady else None  # read once, not every timestep

    def sample(b, total: Number) -> Number:
        b = part * np.int32(samples) + b
        s = tuple(load(trace, (problem, b, i, rows, columns), mask, shape.P) for i in ds)

        def timestep(k, carry):
            s, total = carry
            decay, gain = numbers(k, b) if fixed is None else fixed
            x = _backend.load(xs, (only(problem, xs.shape[0]), k, b, columns), column_mask)
            x = x[None, :]
            after = []
            # Unrolled in Python: d is 1 or 2, and registers can't be indexed by a variable.
            for i in range(shape.d):
                after_i = tuple(g * x for g in gain[i])
                for j in range(shape.d):
                    after_i = multiply_add(after_i, decay[i][j], s[j])
                after.append(after_i)
                total = multiply_add(total, number(deltas, k, b, ds[i]), after_i)
            return tuple(after), total

        if shape.K == 1:
            s, total = timestep(ZERO, (s, total))
        else:
            s, total = jax.lax.fori_loop(ZERO, np.int32(shape.K), timestep, (s, total))
        for i, s_i in zip(ds, s, strict=True):
            store(new_trace, (problem, b, i, rows, columns), s_i, mask)
        return total

    # The gradient's tile is summed in registers over all samples and written once, at the end.
    total = tuple(jnp.zeros((tile.N, tile.H), gradient.dtype) for _ in range(shape.P))
    if samples == 1:
        total = sample(ZERO, total)
    else:
        total = jax.lax.fori_loop(ZERO, np.int32(samples), sample, total)
    store(gradient, (problem, part, rows, columns), total, mask)


def launch(trace, D, J, xs, deltas, *, tile: Tile, interpret: bool) -> tuple[jax.Array, jax.Array]:
    """Run the kernel.

    Args:
        trace: ``(V, B, d, N, H)``; written over in place where XLA may.
        D: ``(V|1, K|1, B|1, d, d, N)``.
        J: ``(V|1, K|1, B|1, d, N)``.
        xs: ``(V|1, K, B, H)``, real.
        deltas: ``(V|1, K, B, d, N)``.
        tile: how the launch is cut; ``tile.splits`` divides B.
        interpret: run in Pallas' interpret mode.

    Returns:
        The gradient ``(V, N, H)`` and the new trace.
    """
    V, B, d, N, H = trace.shape
    shape = Shape(xs.shape[1], B, d, 2 if jnp.iscomplexobj(trace) else 1, N, H)
    gradients, new_trace = _backend.call(
        functools.partial(_body, shape=shape, tile=tile),
        [
            jax.ShapeDtypeStruct((V, tile.splits, N, H), trace.dtype),
            jax.ShapeDtypeStruct(trace.shape, trace.dtype),
        ],
        name="rtrl_diagonal_trace",
        grid=(pl.cdiv(H, tile.H), pl.cdiv(N, tile.N), V * tile.splits),
        num_warps=tile.warps,
        aliases={0: 1},
        interpret=interpret,
    )(trace, D, J, xs, deltas)
    # Programs that share a batch each write a sum of their own: no atomics, the same bits twice.
    return (gradients[:, 0] if tile.splits == 1 else gradients.sum(1)), new_trace
