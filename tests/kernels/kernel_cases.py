"""Helpers for the tests of the kernel."""

from functools import partial
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest

from rtrl.kernels import _device, _tiles, diagonal_trace
from rtrl.kernels._tiles import Shape

SMALL = pytest.mark.parametrize("shape", _tiles.SMALL.values(), ids=_tiles.SMALL.keys())
interpreted = partial(diagonal_trace, implementation="pallas_interpret")
ROUNDING = 1e-5  # float32 rounds to 6e-8; some hundred terms are summed, one after another


def deviation(got, want, scale=None) -> float:
    """The largest, relative to the largest number of each array (or of ``scale``)."""
    worst = 0.0
    for g, w, s in zip(got, want, want if scale is None else scale, strict=True):
        g, w = np.asarray(g), np.asarray(w)
        assert g.shape == w.shape and g.dtype == w.dtype
        worst = np.maximum(worst, np.max(np.abs(g - w)) / (np.max(np.abs(s)) + 1e-30))
    return float(worst)  # NaN if anything is


def sizes(arguments):
    """What the results would be if nothing cancelled: what rounding errors are relative to."""
    return by_loops(*map(np.abs, arguments))


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


def by_loops(trace, D, J, xs, deltas):
    """The equations in numpy and double precision, rounded at the end."""
    s, gradient = trace.astype(np.result_type(trace, np.float64)), 0.0
    for k, (x, delta) in enumerate(zip(xs, deltas, strict=True)):
        decay, gain = D[k % len(D)], J[k % len(J)]
        s = np.einsum("...ijn,...jnh->...inh", decay, s) + gain[..., None] * x[:, None, None]
        gradient = gradient + np.einsum("bin,binh->nh", delta, s)
    return np.asarray(gradient, trace.dtype), s.astype(trace.dtype)
