"""The kernel, rungs 1 to 4 of its verification ladder (``kernels/README.md``).

1. The reference, the form for XLA and the kernel agree with autodiff in double precision.
2. The kernel in Pallas' interpret mode agrees with the reference, on shapes that don't fit tiles.
3. So does its *lowered* Triton IR, run by an interpreter that checks every access; and that
   interpreter notices kernels that are broken on purpose.
4. Lowered for CUDA it is one kernel, in place, with nothing around it.
"""

import json
from functools import partial
from typing import Any

import hypothesis.strategies as st
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
import ttir
import ttir_run
import verify_gpu_kernels
from hypothesis import given, settings

from rtrl.kernels import _backend, _device, _diagonal_trace, _tiles, diagonal_trace
from rtrl.kernels._diagonal_trace import launch
from rtrl.kernels._reference import reference, xla
from rtrl.kernels._tiles import Shape, Tile

SMALL = pytest.mark.parametrize("shape", _tiles.SMALL.values(), ids=_tiles.SMALL.keys())
interpreted = partial(diagonal_trace, implementation="pallas_interpret")
ROUNDING = 1e-5  # float32: some dozen products summed, relative to the largest number


def deviation(got, want) -> float:
    """The largest, relative to the largest number of each array."""
    pairs = [(np.asarray(g), np.asarray(w)) for g, w in zip(got, want, strict=True)]
    assert all(g.shape == w.shape and g.dtype == w.dtype for g, w in pairs)
    return max(float(np.max(np.abs(g - w)) / (np.max(np.abs(w)) + 1e-30)) for g, w in pairs)


@st.composite
def problems(draw):
    """Any small shape; D and J may be the same for all timesteps or samples, and reset."""
    limits = Shape(K=4, B=4, d=2, P=2, N=9, H=11)
    shape = Shape._make(draw(st.integers(1, limit)) for limit in limits)
    trace, D, J, xs, deltas = _device.example(shape, seed=draw(st.integers(0, 2**32 - 1)))
    same = draw(st.lists(st.booleans(), min_size=4, max_size=4))
    D, J = (
        a[: 1 if k else None, : 1 if b else None] for a, k, b in ((D, *same[:2]), (J, *same[2:]))
    )
    if draw(st.booleans()):
        D[draw(st.integers(0, len(D) - 1))] = 0  # a reset
    arguments: list[Any] = [trace, D, J, xs, deltas]
    return arguments


def tiles(shape: Shape):
    """Any legal way to cut a launch, not only the chosen one."""
    sizes = st.sampled_from([(4, 4), (2, 8), (8, 4), (4, 8), (16, 2), (1, 16)])
    splits = st.sampled_from([s for s in (1, 2, 4) if shape.B % s == 0])
    return st.builds(lambda size, splits: Tile(size[0], size[1], splits, 1), sizes, splits)


def shape_of(arguments) -> Shape:
    trace, _, _, xs, _ = arguments
    B, d, N, H = trace.shape
    return Shape(xs.shape[0], B, d, 2 if np.iscomplexobj(trace) else 1, N, H)


def by_loops(trace, D, J, xs, deltas):
    """The equations in numpy and double precision, rounded at the end."""
    s, gradient = trace.astype(np.result_type(trace, np.float64)), 0.0
    for k, (x, delta) in enumerate(zip(xs, deltas, strict=True)):
        decay, gain = D[k % len(D)], J[k % len(J)]
        s = np.einsum("...ijn,...jnh->...inh", decay, s) + gain[..., None] * x[:, None, None]
        gradient = gradient + np.einsum("bin,binh->nh", delta, s)
    return np.asarray(gradient, trace.dtype), s.astype(trace.dtype)


# Rung 1


def by_autodiff(trace, D, J, xs, deltas):
    """Let the initial state be ``s_0 W``, a linear function of the weights; then differentiate."""
    K, B, d, N = deltas.shape

    def states(W):
        h = (trace * W).sum(-1)
        for k in range(K):
            decay, gain = D[k % len(D)], J[k % len(J)]
            h = (decay * h[:, None]).sum(2) + gain * (xs[k] @ W.T)[:, None]
            yield h

    def loss(W):
        return sum((delta * h).sum() for delta, h in zip(deltas, states(W), strict=True))

    W = jnp.zeros(trace.shape[2:], trace.dtype)
    complex_ = bool(jnp.iscomplexobj(trace))
    gradient = jax.grad(loss, holomorphic=complex_)(W)
    dense = jax.jacfwd(lambda W: list(states(W))[-1], holomorphic=complex_)(W)  # (B, d, N, N, H)
    own = jnp.einsum("bnnh->bnh", dense.reshape(B * d, N, N, -1)).reshape(trace.shape)
    others = jnp.abs(dense).sum() - jnp.abs(own).sum()  # zero: modules do not interact
    return gradient, own, others


@SMALL
def test_all_forms_agree_with_autodiff(shape, float64):
    double = [a.astype(np.result_type(a, np.float64)) for a in _device.example(shape)]
    arguments = [jnp.asarray(a) for a in double]
    forms = by_autodiff, reference, xla, interpreted
    (*want, others), *results = jax.jit(lambda *a: [form(*a) for form in forms])(*arguments)
    assert abs(others) < 1e-12 * jnp.abs(want[1]).sum()
    for form, got in zip(forms[1:], results, strict=True):
        assert deviation(got, want) < 1e-12, form  # double precision, some dozen products


# Rung 2


def pallas_calls(function, *arguments) -> list[bool]:
    """Whether each ``pallas_call`` in a function is interpreted."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "pallas_call":
                yield bool(equation.params["interpret"])
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                yield from walk(inner)

    return list(walk(jax.make_jaxpr(function)(*arguments).jaxpr))


@settings(max_examples=12)
@given(problems())
def test_the_interpreted_kernel_agrees(arguments):
    assert pallas_calls(interpreted, *arguments) == [True], "interpret mode did not run"
    assert deviation(jax.jit(interpreted)(*arguments), by_loops(*arguments)) < ROUNDING


AXES = [(0, 0, 0, 0, 0), (0, None, None, 0, 0), (0, None, 0, None, None), (None, None, None, 0, 1)]


@pytest.mark.parametrize("axes", AXES)
def test_vmap_is_one_launch(axes):
    shape = Shape(2, 2, 1, 2, 3, 5)
    stacks = [np.stack([_device.example(shape, seed=i)[j] for i in range(3)]) for j in range(5)]
    arguments: list[Any] = [
        a[0] if axis is None else np.moveaxis(a, 0, axis)
        for a, axis in zip(stacks, axes, strict=True)
    ]
    mapped = jax.vmap(interpreted, axes)
    assert pallas_calls(mapped, *arguments) == [True]
    assert deviation(mapped(*arguments), jax.vmap(reference, axes)(*arguments)) < ROUNDING


def test_vmap_of_vmap():
    """The inner axis on some arguments, the outer one on others."""
    shape = Shape(2, 2, 1, 1, 3, 5)
    trace, D, J, xs, deltas = _device.example(shape)
    traces = np.stack([trace, 2 * trace])
    errors = np.stack([deltas, -deltas, 3 * deltas])

    def twice(form):
        inner = jax.vmap(form, (0, None, None, None, None))
        return jax.vmap(inner, (None, None, None, None, 0))(traces, D, J, xs, errors)

    got = twice(interpreted)
    assert got[1].shape == (3, 2, *trace.shape)
    assert deviation(got, twice(reference)) < ROUNDING


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
    assert deviation((gradients[0].sum(0), new_trace[0]), by_loops(*arguments)) < ROUNDING
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
    real = _diagonal_trace.multiply
    monkeypatch.setattr(_diagonal_trace, "multiply", lambda a, b: real((a[0], -a[1]), b))


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


# Which implementation runs


@pytest.fixture
def no_device_tried(monkeypatch):
    monkeypatch.setattr(_device, "_passed", {})


def test_none_means_xla_on_cpu():
    arguments = _device.example(Shape(2, 2, 1, 2, 3, 5))
    assert str(jax.make_jaxpr(diagonal_trace)(*arguments)) == str(jax.make_jaxpr(xla)(*arguments))
    assert pallas_calls(diagonal_trace, *arguments) == []


def test_a_device_that_fails_is_warned_about_once(monkeypatch, no_device_tried):
    """The CPU stands in for a GPU: the kernel doesn't compile on it."""
    monkeypatch.setattr(_backend, "device", lambda: jax.devices("cpu")[0])
    arguments = _device.example(Shape(1, 2, 1, 1, 3, 5))
    with pytest.warns(RuntimeWarning, match="using XLA instead") as caught:
        got = diagonal_trace(*arguments)
    assert len(caught) == 1
    assert deviation(got, reference(*arguments)) < ROUNDING
    diagonal_trace(*arguments)  # a second warning would be an error


def test_a_device_that_is_wrong_is_warned_about(monkeypatch, no_device_tried):
    monkeypatch.setattr(_backend, "device", lambda: jax.devices("cpu")[0])
    monkeypatch.setattr(_device, "error", lambda shape: 1e-3)
    with pytest.warns(RuntimeWarning, match="off by 1.0e-03"):
        diagonal_trace(*_device.example(Shape(1, 2, 1, 1, 3, 5)))


@pytest.mark.parametrize("P", [1, 2])
def test_a_device_that_passes_gets_the_kernel(monkeypatch, no_device_tried, P):
    """The self-test runs inside a trace; only the program for CUDA holds the kernel."""
    monkeypatch.setattr(_backend, "device", lambda: jax.devices("cpu")[0])
    monkeypatch.setattr(_device, "error", partial(_device.error, interpret=True))
    run = jax.jit(diagonal_trace)
    arguments = _device.example(Shape(1, 2, 1, P, 3, 5))
    assert len(ttir.kernels_of(_backend.lower(run, *arguments))) == 1
    assert _device._passed == {jax.devices("cpu")[0]: True}
    assert deviation(run(*arguments), reference(*arguments)) < ROUNDING  # the program for CPU
    long = _device.example(Shape(17, 2, 1, P, 3, 5))
    assert not ttir.kernels_of(_backend.lower(run, *long)), "too long a chunk to pay"


def test_the_self_test_without_a_gpu(capsys):
    from rtrl.kernels import selftest

    assert selftest.main([]) == 2
    assert "no NVIDIA GPU" in capsys.readouterr().out


@pytest.mark.slow
def test_the_self_test_interpreted(tmp_path):
    from rtrl.kernels import selftest

    assert selftest.main(["--interpret", "--json", str(tmp_path / "report.json")]) == 0


# Refusals


def _changed(name, change) -> dict[str, Any]:
    names = ("trace", "D", "J", "xs", "deltas")
    example = _device.example(Shape(3, 2, 1, 1, 4, 5))
    arguments: dict[str, Any] = dict(zip(names, example, strict=True))
    arguments[name] = change(arguments[name])
    return arguments


@pytest.mark.parametrize(
    "name, change",
    [
        ("trace", lambda a: a[0]),
        ("trace", lambda a: a.astype(np.int32)),
        ("trace", lambda a: a[..., :0]),
        ("D", lambda a: a[:2]),
        ("D", lambda a: a[..., :3]),
        ("D", lambda a: a.astype(np.complex64)),
        ("J", lambda a: a[:, :, :, None]),
        ("xs", lambda a: a[:0]),
        ("xs", lambda a: a[:, :, :4]),
        ("xs", lambda a: a.astype(np.float16)),
        ("deltas", lambda a: a[:1]),
    ],
)
def test_bad_arguments_are_named(name, change):
    blamed = "(xs|deltas|D|J)" if name == "trace" else name
    with pytest.raises(ValueError, match=rf"^({blamed}|{name}): expected .*, got "):
        diagonal_trace(**_changed(name, change))


def test_what_the_kernel_cannot_do_is_said():
    three = _device.example(Shape(1, 2, 3, 1, 4, 5))
    assert deviation(diagonal_trace(*three), reference(*three)) < ROUNDING
    with pytest.raises(ValueError, match="D: expected one or two numbers per module"):
        interpreted(*three)
    with pytest.raises(ValueError, match="implementation: expected"):
        diagonal_trace(*three, implementation="triton")  # type: ignore[arg-type]


def test_the_kernel_is_for_single_precision(float64):
    arguments = [jnp.asarray(a, "float64") for a in _device.example(Shape(1, 2, 1, 1, 4, 5))]
    with pytest.raises(ValueError, match="trace: expected float32 or complex64"):
        diagonal_trace(*arguments, implementation="pallas")
