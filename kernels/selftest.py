"""Try the kernel on this machine's GPU: ``python -m rtrl.kernels.selftest``.

Numbers first: every shape of `SMALL` against the reference. Then times: the kernel against XLA's
own best form for one timestep and for chunks, and the share of a device copy's bandwidth that the
kernel reaches (it moves the same bytes: the trace once in, once out).
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from rtrl.kernels import _backend, _device, _tiles, diagonal_trace
from rtrl.kernels._api import Implementation

CHUNKS = (1, 4, 16, 64)


def numerics(interpret: bool) -> list[dict]:
    """The kernel's error on every small shape."""
    rows = []
    for name, shape in _tiles.SMALL.items():
        error = _device.error(shape, interpret=interpret)
        rows.append({"shape": name, "error": error, "ok": error < _device.TOLERANCE})
        print(f"  {name:28s} error {error:.1e}  {'ok' if rows[-1]['ok'] else 'WRONG'}", flush=True)
    return rows


def seconds(step, trace, others, repeats: int = 5, calls: int = 20) -> float:
    """Median time of ``step(trace, *others) -> (gradient, trace)``, the trace carried on.

    The calls are a loop on the device, so that starting a program from Python costs nothing here;
    the barrier keeps XLA from computing once what depends on ``others`` only.
    """

    def body(_, carry):
        _, trace, others = carry
        trace, inputs = jax.lax.optimization_barrier((trace, others))
        return (*step(trace, *inputs), others)

    @partial(jax.jit, donate_argnums=0)
    def loop(trace, others):
        gradient = jnp.zeros(trace.shape[2:], trace.dtype)
        return jax.lax.fori_loop(0, calls, body, (gradient, trace, others))[:2]

    _, trace = jax.block_until_ready(loop(trace, others))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        _, trace = jax.block_until_ready(loop(trace, others))
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


def copy(trace, *_):
    """Reads and writes the trace, nothing else; a new number every time."""
    return jnp.zeros(trace.shape[2:], trace.dtype), trace * np.float32(0.5)


def timings(shape: _tiles.Shape, chunks=CHUNKS, kernel: Implementation = "pallas") -> list[dict]:
    """The kernel and XLA for several chunk lengths, and a copy of the trace."""
    rows = []
    steps: dict[str, Callable] = {
        "kernel": partial(diagonal_trace, implementation=kernel),
        "xla": partial(diagonal_trace, implementation="xla"),
        "copy": copy,
    }
    for K in chunks:
        trace, *others = map(jnp.asarray, _device.example(shape._replace(K=K)))
        row = {**shape._replace(K=K)._asdict(), "bytes": 2 * trace.nbytes}
        row |= {name: seconds(step, jnp.array(trace), others) for name, step in steps.items()}
        rows.append(row)
        rate = {name: row["bytes"] / row[name] / 1e9 for name in ("copy", "kernel")}
        print(
            f"  K = {K:2d}  kernel {row['kernel'] * 1e6:8.1f} us, XLA {row['xla'] * 1e6:8.1f} us "
            f"({row['xla'] / row['kernel']:.2f}x)  kernel {rate['kernel']:.0f} GB/s, "
            f"copy {rate['copy']:.0f} GB/s",
            flush=True,
        )
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m rtrl.kernels.selftest")
    parser.add_argument("--interpret", action="store_true", help="numbers only, without a GPU")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    options = parser.parse_args(arguments)
    device = _backend.device()
    if device is None and not options.interpret:
        print("There is no NVIDIA GPU that JAX can use here; --interpret checks the numbers only.")
        return 2
    kind = "interpret mode" if device is None else device.device_kind
    report: dict = {"device": kind, "jax": jax.__version__}
    print(f"{kind}, jax {jax.__version__}: against the reference")
    report["numerics"] = numerics(options.interpret)
    if not options.interpret:
        report["timings"] = []
        for P, N, B in ((1, 256, 16), (1, 1024, 16), (2, 256, 16), (2, 256, 256), (2, 1024, 16)):
            print(f"{'complex' if P == 2 else 'real'}, N = H = {N}, batch {B}")
            report["timings"] += timings(_tiles.Shape(1, B, 1, P, N, N))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    wrong = [row["shape"] for row in report["numerics"] if not row["ok"]]
    print(f"WRONG: {', '.join(wrong)}" if wrong else "the numbers agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
