"""The lowered kernel, rungs 3 and 4 of its verification ladder (``kernels/README.md``).

3. Its Triton IR, run by an interpreter that checks every access, agrees with the equations; and
   that interpreter notices kernels that are broken on purpose.
4. Lowered for CUDA it is one kernel, in place, with nothing around it.

Rungs 5 and 6 take compilers that are not in this environment; their results are kept.
"""

import json
from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import ttir
import ttir_run
import verify_gpu_kernels
from hypothesis import given, settings
from kernel_cases import ROUNDING, SMALL, by_loops, deviation, problems, sizes

from rtrl.kernels import _backend, _device, _diagonal_trace, _tiles, diagonal_trace
from rtrl.kernels._diagonal_trace import launch
from rtrl.kernels._tiles import Shape, Tile


def tiles(shape: Shape):
    """Any legal way to cut a launch, not only the chosen one."""
    sizes = st.sampled_from([(4, 4), (2, 8), (8, 4), (4, 8), (16, 2), (1, 16)])
    splits = st.sampled_from([s for s in (1, 2, 4) if shape.B % s == 0])
    return st.builds(lambda size, splits: Tile(size[0], size[1], splits, 1), sizes, splits)


def shape_of(arguments) -> Shape:
    trace, _, _, xs, _ = arguments
    B, d, N, H = trace.shape
    return Shape(xs.shape[0], B, d, 2 if np.iscomplexobj(trace) else 1, N, H)


# Rung 3


def run_lowered(arguments, tile: Tile) -> ttir_run.Run:
    """The kernel as Triton IR, in place over the trace, every access checked."""
    run = jax.jit(partial(launch, tile=tile, interpret=False))
    batched = [a[None] for a in arguments]
    (kernel,) = ttir.kernels_of(_backend.lower(run, *batched))
    assert kernel.aliases == {1: 0}, "the new trace must lie over the old one"
    return ttir_run.run(kernel, *batched)


def check_lowered(arguments, tile: Tile) -> None:
    """Raise an `AssertionError` if the lowered kernel is wrong in any way."""
    done = run_lowered(arguments, tile)
    gradients, new_trace = done.outputs
    got = gradients[0].sum(0), new_trace[0]
    assert deviation(got, by_loops(*arguments), sizes(arguments)) < ROUNDING
    assert (done.reads[0] == 1).all() and (done.writes[0] == 1).all(), "one pass over the trace"
    assert not any(writes.any() for writes in done.writes[1:5]), "an input was written"


@settings(max_examples=30)
@given(st.data())
def test_the_lowered_kernel_agrees(data):
    arguments = data.draw(problems())
    check_lowered(arguments, data.draw(tiles(shape_of(arguments))))


@SMALL
def test_the_lowered_kernel_agrees_with_its_chosen_tile(shape):
    check_lowered(_device.example(shape), _tiles.choose(shape))


def test_the_lowered_kernel_agrees_where_double_precision_is_on(float64):
    """A model in single precision: loop counters and constants must not turn it into double."""
    check_lowered(_device.example(Shape(3, 4, 1, 2, 5, 6)), Tile(2, 4, 2, 1))


def test_the_lowered_kernel_keeps_problems_apart():
    """Under vmap, with a batch that programs share."""
    shape, tile = Shape(2, 4, 1, 2, 3, 5), Tile(2, 4, 2, 1)
    examples = [_device.example(shape, seed=seed) for seed in range(3)]
    stacked = [np.stack(arrays) for arrays in zip(*examples, strict=True)]
    stacked[1] = stacked[1][:1]  # one decay for all problems
    run = jax.jit(partial(launch, tile=tile, interpret=False))
    (kernel,) = ttir.kernels_of(_backend.lower(run, *stacked))
    gradients, traces = ttir_run.run(kernel, *stacked).outputs
    for i, example in enumerate(examples):
        example[1] = examples[0][1]
        assert deviation((gradients[i].sum(0), traces[i]), by_loops(*example)) < ROUNDING


def _without_mask(monkeypatch, name):
    real = getattr(_backend, name)

    def everywhere(*arguments):
        *others, mask = arguments
        return real(*others, jnp.ones_like(mask))

    monkeypatch.setattr(_backend, name, everywhere)


def _overlapping(monkeypatch, axis):
    real = _diagonal_trace.tile_start
    monkeypatch.setattr(
        _diagonal_trace,
        "tile_start",
        lambda a, size: real(a, size // 2 if a == axis else size),
    )


def _call_with(monkeypatch, **changes):
    real = _backend.call
    monkeypatch.setattr(_backend, "call", lambda *a, **k: real(*a, **{**k, **changes}))


def _conjugated(monkeypatch):
    real = _diagonal_trace.multiply_add
    conjugate = lambda t, a, b: real(t, (a[0], -a[1]), b)  # noqa: E731
    monkeypatch.setattr(_diagonal_trace, "multiply_add", conjugate)


MUTATIONS = {
    "a load without its mask": lambda m: _without_mask(m, "load"),
    "a store without its mask": lambda m: _without_mask(m, "store"),
    "overlapping tiles of modules": lambda m: _overlapping(m, 1),
    "overlapping tiles of inputs": lambda m: _overlapping(m, 0),
    "a tile that nobody owns": lambda m: _call_with(m, grid=(2, 1, 2)),
    "not in place": lambda m: _call_with(m, aliases={}),
    "a conjugate": lambda m: _conjugated(m),
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_a_broken_kernel_is_noticed(mutation, monkeypatch):
    arguments, tile = _device.example(Shape(2, 2, 1, 2, 7, 13)), Tile(4, 8, 2, 1)
    check_lowered(arguments, tile)  # the control: intact, it passes
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        check_lowered(arguments, tile)


def test_a_wrong_alias_is_noticed(monkeypatch):
    """Written over the errors, which have the trace's shape here: caught by its accesses alone."""
    arguments, tile = _device.example(Shape(2, 2, 2, 1, 2, 2)), Tile(2, 2, 1, 1)
    assert arguments[0].shape == arguments[4].shape
    check_lowered(arguments, tile)
    _call_with(monkeypatch, aliases={4: 1})
    run = jax.jit(partial(launch, tile=tile, interpret=False))
    batched = [a[None] for a in arguments]
    (kernel,) = ttir.kernels_of(_backend.lower(run, *batched))
    with pytest.raises(ttir_run.AccessError, match="reads what it"):
        ttir_run.run(kernel, *batched)


# Rung 4


@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize("shape", _tiles.LARGE.values(), ids=_tiles.LARGE.keys())
def test_lowered_for_cuda(shape, steady):
    """One kernel in place, and nothing else touches an array as large as the trace."""
    run = jax.jit(partial(diagonal_trace, implementation="pallas"))
    arguments = _device.shapes(shape, steady=steady)
    lowered = _backend.lower(run, *arguments)
    (kernel,) = ttir.kernels_of(lowered)
    assert kernel.aliases == {1: 0}
    for block in ttir.block_shapes(kernel):
        assert all(size & (size - 1) == 0 for size in block), "Triton needs powers of two"
    tile = _tiles.choose(shape)
    programs = -(-shape.H // tile.H), -(-shape.N // tile.N), tile.splits
    assert kernel.grid == programs
    operations = set()
    for line in lowered.as_text().splitlines():
        if "stablehlo." in line:
            operations.add(line.split("stablehlo.")[1].split()[0].split("(")[0])
    allowed = {"broadcast_in_dim", "reshape", "slice", "custom_call", "return"}
    if tile.splits > 1:
        allowed |= {"constant", "reduce", "add"}  # the gradients of the shares of the batch
    assert operations <= allowed


@given(
    st.builds(
        Shape,
        st.integers(1, 64),
        st.integers(1, 300),
        st.integers(1, 2),
        st.integers(1, 2),
        st.integers(1, 3000),
        st.integers(1, 3000),
    )
)
def test_tiles_are_legal(shape):
    tile = _tiles.choose(shape)
    assert all(n & (n - 1) == 0 for n in (tile.N, tile.H, tile.splits))
    assert tile.N * tile.H * shape.d * shape.P <= 512, "registers"
    assert shape.B % tile.splits == 0
    assert tile.splits == 1 or 8 * tile.splits <= shape.B * shape.d
    assert -(-shape.N // tile.N) <= _tiles.LARGEST_GRID_YZ


def test_what_gpu_compilers_said_is_about_this_kernel():
    """Rungs 5 and 6 take compilers that are not in this environment: their results are kept."""
    stale = "the kernel has changed: run `make verify-gpu-kernels`"
    reports = sorted(verify_gpu_kernels.OUTPUT.parent.glob("kernels_verify*.json"))
    assert verify_gpu_kernels.OUTPUT in reports
    for file in reports:
        report = json.loads(file.read_text())
        assert report["code"] == verify_gpu_kernels.fingerprint(), stale
        assert report["ok"], file
        assert {row["shape"] for row in report["xla"]} == set(_tiles.LARGE), stale
