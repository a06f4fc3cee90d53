"""The kernel is trusted on a device once it has agreed with the reference there."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from rtrl.kernels import _tiles
from rtrl.kernels._diagonal_trace import launch
from rtrl.kernels._planes import from_planes
from rtrl.kernels._reference import reference

TOLERANCE = 1e-5  # relative to the largest number: float32 sums of some dozen products
CASES = ("one real number, K = 1", "one complex number, K = 4", "two real numbers, K = 3")

_passed: dict[jax.Device, bool] = {}


def passed_on(device: jax.Device) -> bool:
    """Whether the kernel works on this device; tried once a process, and one warning if not.

    Compiles and runs three small cases, also while another function is being traced.
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


def _worst_error(device: jax.Device) -> float:
    with jax.default_device(device):
        return max(error(_tiles.SMALL[name]) for name in CASES)


def error(shape: _tiles.Shape, *, interpret: bool = False, tile: _tiles.Tile | None = None):
    """The kernel's largest deviation from the reference, relative to the largest number."""
    arguments = example(shape)
    got = launch(
        *[jnp.asarray(a)[None] for a in arguments],
        tile=_tiles.choose(shape) if tile is None else tile,
        interpret=interpret,
    )
    want = expected(arguments)
    return max(
        float(np.max(np.abs(np.asarray(g)[0] - w)) / np.max(np.abs(w)))
        for g, w in zip(got, want, strict=True)
    )


def example(shape: _tiles.Shape, seed: int = 0, steady: bool = False) -> list[np.ndarray]:
    """Trace, D, J, xs and deltas in planes, standard normal, float32."""
    K, B, d, P, N, H = shape
    k, b = (1, 1) if steady else (K, B)
    shapes = (B, d, P, N, H), (k, b, d, d, P, N), (k, b, d, P, N), (K, B, H), (K, B, d, P, N)
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


def expected(arguments) -> list[np.ndarray]:
    """The reference's gradient and trace, in planes."""
    trace, D, J, xs, deltas = (jnp.asarray(a) for a in arguments)
    if trace.shape[2] == 1:
        outputs = reference(trace[:, :, 0], D[..., 0, :], J[..., 0, :], xs, deltas[..., 0, :])
        return [np.asarray(a)[..., None, :, :] for a in outputs]
    D, J, deltas = (from_planes(a, after=1) for a in (D, J, deltas))
    outputs = reference(from_planes(trace, after=2), D, J, xs, deltas)
    return [np.stack([np.real(a), np.imag(a)], -3) for a in map(np.asarray, outputs)]
