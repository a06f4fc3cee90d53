"""`diagonal_trace`: rungs 1 and 2 of its verification ladder (``kernels/README.md``), its choices.

1. The reference, the form for XLA and the kernel agree with autodiff in double precision.
2. The kernel in Pallas' interpret mode agrees with the equations, on shapes that don't fit tiles.
"""

from functools import partial
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
import ttir
from hypothesis import given, settings
from kernel_cases import ROUNDING, SMALL, by_loops, deviation, interpreted, problems, sizes

from rtrl.kernels import _backend, _device, diagonal_trace, selftest
from rtrl.kernels._reference import reference, xla
from rtrl.kernels._tiles import Shape

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
    got = jax.jit(interpreted)(*arguments)
    assert deviation(got, by_loops(*arguments), sizes(arguments)) < ROUNDING


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
    want = jax.vmap(reference, axes)(*arguments)
    assert deviation(mapped(*arguments), want) < ROUNDING
    assert deviation(jax.vmap(xla, axes)(*arguments), want) < ROUNDING


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
    arguments = _device.example(Shape(2, 2, 1, 1, 3, 5))
    with pytest.warns(RuntimeWarning, match="using XLA instead") as caught:
        got = diagonal_trace(*arguments)
    assert len(caught) == 1
    assert deviation(got, reference(*arguments)) < ROUNDING
    diagonal_trace(*arguments)  # a second warning would be an error


@pytest.mark.parametrize("wrong", [1e-3, np.nan])
def test_a_device_that_is_wrong_is_warned_about(monkeypatch, no_device_tried, wrong):
    """Also if only the last of its cases is, and if it is not a number."""
    errors = iter([1e-8] * (len(_device.CASES) - 1) + [wrong])
    monkeypatch.setattr(_backend, "device", lambda: jax.devices("cpu")[0])
    monkeypatch.setattr(_device, "error", lambda shape: next(errors))
    with pytest.warns(RuntimeWarning, match="off by (1.0e-03|nan)"):
        diagonal_trace(*_device.example(Shape(2, 2, 1, 1, 3, 5)))


def test_the_check_of_a_device_sees_nan(monkeypatch):
    """In either of the two results."""
    real = _device.launch
    for spoiled in (0, 1):

        def launch(*arguments, spoiled=spoiled, **settings):
            outputs = list(real(*arguments, **settings))
            outputs[spoiled] = outputs[spoiled].at[..., 0].set(np.nan)
            return outputs

        monkeypatch.setattr(_device, "launch", launch)
        assert np.isnan(_device.error(Shape(1, 2, 1, 1, 3, 5), interpret=True))


@pytest.mark.parametrize("P", [1, 2])
def test_a_device_that_passes_gets_the_kernel(monkeypatch, no_device_tried, P):
    """The self-test runs inside a trace; only the program for CUDA holds the kernel."""
    monkeypatch.setattr(_backend, "device", lambda: jax.devices("cpu")[0])
    monkeypatch.setattr(_device, "error", partial(_device.error, interpret=True))
    run = jax.jit(diagonal_trace)
    arguments = _device.example(Shape(2, 2, 1, P, 3, 5))
    assert len(ttir.kernels_of(_backend.lower(run, *arguments))) == 1
    assert _device._passed == {jax.devices("cpu")[0]: True}
    assert deviation(run(*arguments), reference(*arguments)) < ROUNDING  # the program for CPU
    mapped = jax.jit(jax.vmap(diagonal_trace, (0, None, None, None, None)))
    stacked = np.stack([arguments[0]] * 3), *arguments[1:]
    assert len(ttir.kernels_of(_backend.lower(mapped, *stacked))) == 1, "one launch under vmap"
    long = _device.example(Shape(17, 2, 1, P, 3, 5))
    assert not ttir.kernels_of(_backend.lower(run, *long)), "too long a chunk to pay"
    single = _device.example(Shape(1, 2, 1, P, 3, 5))
    assert not ttir.kernels_of(_backend.lower(run, *single)), "too small for single timesteps"
    large = _device.shapes(Shape(1, 1, 1, P, 1024, 1024))
    assert len(ttir.kernels_of(_backend.lower(run, *large))) == 1


@pytest.mark.parametrize("P", [1, 2])
def test_no_warning_about_the_backend_stops_a_program(P):
    """Where warnings are errors, as they are in this suite. JAX warns from 0.11 on."""
    run = jax.jit(partial(diagonal_trace, implementation="pallas"))
    with _backend._abstract_device("NVIDIA H100"):
        lowered = run.trace(*_device.example(Shape(2, 2, 1, P, 3, 5))).lower(
            lowering_platforms=("cuda",)
        )
    assert len(ttir.kernels_of(lowered)) == 1


def test_the_self_test_without_a_gpu(capsys):
    assert selftest.main([]) == 2
    assert "no NVIDIA GPU" in capsys.readouterr().out


def test_the_self_test_times_every_form(capsys):
    """The code that takes times, on a machine where they mean nothing."""
    rows = selftest.timings(Shape(1, 2, 1, 2, 3, 5), chunks=(1, 2), kernel="pallas_interpret")
    assert [row["K"] for row in rows] == [1, 2]
    assert all(row[form] > 0 for row in rows for form in ("kernel", "xla", "copy"))
    assert capsys.readouterr().out.count("GB/s") == 4


@pytest.mark.slow
def test_the_self_test_interpreted(tmp_path):
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
