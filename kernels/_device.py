"""The kernel is trusted on a device once it has agreed with the reference there."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np

from rtrl.kernels import _tiles
from rtrl.kernels._diagonal_trace import launch
from rtrl.kernels._reference import reference

TOLERANCE = 1e-5  # relative to the largest number: float32 sums of some dozen products
CASES = (
    "one real number, K = 1",
    "one complex number, K = 4",
    "two real numbers, K = 3",
    "several tiles",
    "a split batch",
)

_passed: dict[Any, bool] = {}  # by jax.Device


def passed_on(device) -> bool:
    """Whether the kernel works on this device; tried once a process, and one warning if not.

    Compiles and runs a few small cases, also while another function is being traced.
    """
    if device not in _passed:
        try:
            with ThreadPoolExecutor(1) as thread:  # knows nothing of what is being traced here
                worst = thread.submit(_worst_error, device).result()
            problem = None if worst < TOLERANCE else f"it is off by {worst:.1e}"
        except Exception as e:  # whatever a driver or a compiler may come up with
            problem = f"{type(e).__name__}: {e}"
        _passed[device] = problem is None
        if problem is not None:
            warnings.warn(
                f"rtrl's Pallas kernel does not work on {device.device_kind}, using XLA instead "
                f"({problem}). `python -m rtrl.kernels.selftest` tells more.",
                RuntimeWarning,
                stacklevel=2,
            )
    return _passed[device]


def _worst_error(device) -> float:
    with jax.default_device(device):
        return float(np.max([error(_tiles.SMALL[name]) for name in CASES]))  # NaN if one is


def error(
    shape: _tiles.Shape, *, interpret: bool = False, tile: _tiles.Tile | None = None
) -> float:
    """The kernel's largest deviation from the reference, relative to the largest number."""
    arguments = example(shape)
    tile = _tiles.choose(shape) if tile is None else tile
    run = jax.jit(partial(launch, tile=tile, interpret=interpret))
    got = run(*[a[None] for a in arguments])
    want = jax.jit(reference)(*arguments)
    errors = [
        np.max(np.abs(np.asarray(g)[0] - w)) / np.max(np.abs(w))
        for g, w in zip(got, map(np.asarray, want), strict=True)
    ]
    return float(np.max(errors))  # NaN if one is, unlike Python's max


def shapes(shape: _tiles.Shape, *, steady: bool = False) -> list[jax.ShapeDtypeStruct]:
    """The arguments of `diagonal_trace`; steady: one D and one J for all timesteps and samples."""
    K, B, d, P, N, H = shape
    k, b = (1, 1) if steady else (K, B)
    dtype = np.complex64 if P == 2 else np.float32
    each = (B, d, N, H), (k, b, d, d, N), (k, b, d, N), (K, B, H), (K, B, d, N)
    dtypes = dtype, dtype, dtype, np.float32, dtype
    return [jax.ShapeDtypeStruct(*a) for a in zip(each, dtypes, strict=True)]


def example(shape: _tiles.Shape, *, seed: int = 0, steady: bool = False) -> list[Any]:
    """Arguments of `diagonal_trace`: standard normal, the decay scaled so that nothing explodes."""
    rng = np.random.default_rng(seed)

    def draw(a):
        real = rng.standard_normal(a.shape)
        return (real + 1j * rng.standard_normal(a.shape) if a.dtype == np.complex64 else real) / 2

    return [draw(a).astype(a.dtype) for a in shapes(shape, steady=steady)]
