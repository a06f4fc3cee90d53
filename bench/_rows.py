"""What `speed.py` measures: one function a row of its table, each giving its `Row`s."""

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _networks import (
    CELLS, Gradient, Online, UpdateAlone, noise, plain_bptt, squared_error, stack,
)  # fmt: skip
from _published import published_gradient
from _timing import alternate, digits, faster, ratios, say, summary

import rtrl
from rtrl import _trace
from rtrl._modules import Partials
from rtrl.tasks import copying, copying_loss


class Row(NamedTuple):
    """One figure and its bar: ``least`` says whether the bar is a lower bound."""

    what: str
    value: float
    bar: float
    least: bool
    unit: str
    detail: dict[str, Any]  # the numbers behind it

    @property
    def met(self) -> bool:
        return self.value >= self.bar if self.least else self.value <= self.bar


def gradient(quick: bool) -> Iterator[Row]:
    """Chunks of 64 timesteps, parameters held fixed, against BPTT over the whole sequence."""
    length = 256 if quick else 1024
    for cell in ["LRU"] if quick else CELLS:
        for batch in (None, 16):
            model, (xs, ys) = stack(cell), noise(length, batch)
            programs = {
                "BPTT": Gradient(model, xs, ys, rtrl.BPTT()),
                "BPTT by hand": Gradient(model, xs, ys, function=plain_bptt),
                "chunk errors": Gradient(model, xs, ys, rtrl.RTRL(errors="chunk"), 64),
                "timestep errors": Gradient(model, xs, ys, rtrl.RTRL(errors="timestep"), 64),
            }
            times = alternate(programs, 3 if quick else 40, 12)
            baseline = faster(times, "BPTT", "BPTT by hand")
            detail = {
                "milliseconds": {name: summary(t, 1e3) for name, t in times.items()},
                "temporaries": {name: p.temporaries() for name, p in programs.items()},
                "baseline": baseline,
            }
            for errors in ("chunk errors", "timestep errors"):
                ratio = ratios(times, errors, baseline)
                yield Row(
                    f"gradient in chunks of 64 / BPTT: {cell}, batch {batch or 1}, {errors}",
                    median(ratio), 1.15, False, "x", detail | {"ratio": summary(ratio)},
                )  # fmt: skip


def online(quick: bool) -> Iterator[Row]:
    """An Adam update at every timestep, against BPTT of as many timesteps and as many updates."""
    length = 256 if quick else 1024
    optimizer = optax.adam(1e-3)
    for cell in ["LRU"] if quick else CELLS:
        model, (xs, ys) = stack(cell), noise(length, None)
        programs = {
            "BPTT": Gradient(model, xs, ys, rtrl.BPTT()),
            "BPTT by hand": Gradient(model, xs, ys, function=plain_bptt),
            "Adam": UpdateAlone(model, optimizer, length),
            "K = 1, gradient only": Gradient(model, xs, ys, rtrl.RTRL()),
            "K = 1, Adam": Online(model, xs, ys, optimizer),
        }
        times = alternate(programs, 3 if quick else 20, 20)
        baseline = faster(times, "BPTT", "BPTT by hand")
        ratio = ratios(times, "K = 1, Adam", baseline, "Adam")
        per_step = {name: summary(t, 1e6 / length) for name, t in times.items()}
        yield Row(
            f"K = 1, Adam at every timestep / (BPTT + Adam): {cell}, batch 1", median(ratio), 2,
            False, "x", {"microseconds per timestep": per_step, "ratio": summary(ratio),
            "baseline": baseline},
        )  # fmt: skip


def wide(quick: bool) -> Iterator[Row]:
    """Single timesteps of one wide layer in a batch: traces that fill the cache."""
    length = 32 if quick else 256
    model, (xs, ys) = stack("LRU", 1, 256, 256), noise(length, 16)
    programs = {
        "BPTT": Gradient(model, xs, ys, rtrl.BPTT()),
        "BPTT by hand": Gradient(model, xs, ys, function=plain_bptt),
        "K = 1": Gradient(model, xs, ys, rtrl.RTRL()),
    }
    times = alternate(programs, 3 if quick else 15, 20)
    baseline = faster(times, "BPTT", "BPTT by hand")
    ratio = ratios(times, "K = 1", baseline)
    per_step = {name: summary(t, 1e6 / length) for name, t in times.items()}
    yield Row(
        "K = 1, gradient only / BPTT: 1 layer, LRU, N = H = 256, batch 16", median(ratio), 4, False,
        "x", {"microseconds per timestep": per_step, "ratio": summary(ratio), "baseline": baseline},
    )  # fmt: skip


def bandwidth(quick: bool) -> Iterator[Row]:
    """Advancing a complex trace of 8 MiB in place, against copying as many bytes."""
    n = 1024
    parts = jax.random.normal(jax.random.key(0), (2, 1, 1, n, n))
    parameter = jnp.full((1, 1, 1, n), 0.9 + 0.1j, jnp.complex64)
    partials = Partials(
        parameter[:, :, None], (parameter,), {}, (jnp.ones((1, 1, n)),), (), None
    )  # fmt: skip
    step = jax.jit(_trace._step, donate_argnums=0)
    trace = [_trace.Trace((jax.lax.complex(parts[0], parts[1]),), {})]
    source, target = np.ones((n, n), np.complex64), np.zeros((n, n), np.complex64)

    def update():
        trace[0] = step(trace[0], partials)
        return trace[0]

    times = alternate(
        {"update": update, "copy": lambda: np.copyto(target, source)}, 30 if quick else 300, 10
    )
    share = ratios(times, "copy", "update")
    gigabytes = {name: digits(2 * source.nbytes / median(t) / 1e9) for name, t in times.items()}
    yield Row(
        "bandwidth of the trace update / of a copy: complex, 8 MiB", median(share), 0.7, True, "",
        {"gigabytes per second": gigabytes, "ratio": summary(share)},
    )  # fmt: skip


def dispatch(quick: bool) -> Iterator[Row]:
    """A learning step called from Python, less a jitted prediction of the same network."""
    model = stack("LRU", 1, 64, 64)
    learner = rtrl.OnlineLearner(squared_error, optax.adam(1e-3))
    state = learner.init(model)
    carry = rtrl.init_carry(model, rtrl.BPTT())
    params, static = eqx.partition(model, eqx.is_array)

    @jax.jit
    def predict(params, carry, x):
        y, carry = eqx.combine(params, static)(x[None], carry, rule=rtrl.BPTT())
        return y[0], carry

    x = y = np.ones(8, np.float32)
    calls = 100 if quick else 1000

    def step():
        nonlocal state
        for _ in range(calls):
            state, out = learner.step(state, x, y)
            out.loss.block_until_ready()

    def infer():
        nonlocal carry
        for _ in range(calls):
            prediction, carry = predict(params, carry, x)
            prediction.block_until_ready()

    times = alternate({"step": step, "inference": infer}, 5 if quick else 15, 20)
    more = [1e3 * (a - b) / calls for a, b in zip(times["step"], times["inference"], strict=True)]
    yield Row(
        "learner.step from Python, beyond a jitted prediction: 1 layer, LRU, H = 64, Adam",
        median(more), 0.3, False, "ms",
        {"milliseconds a call": {k: summary(t, 1e3 / calls) for k, t in times.items()}},
    )  # fmt: skip


def published(quick: bool) -> Iterator[Row]:
    """The paper's rule with one trace carried along, against traces of all timesteps at once."""
    model = rtrl.SequenceModel(
        8, 14, 128, 4, lambda size, key: rtrl.cells.LRU(size, 64, key=key), key=jax.random.key(0)
    )
    xs, ys, weights = (jnp.asarray(a) for a in copying(20, rng=0))
    rule = rtrl.RTRL(errors="timestep")

    def ours(chunk):
        def function(network, xs, ys):
            return rtrl.sequence_gradient(
                network, copying_loss, xs, ys, rule=rule, chunk=chunk, weights=weights
            )

        return Gradient(model, xs, ys, function=function)

    def theirs(network, xs, ys):
        return published_gradient(network, copying_loss, xs, ys, weights)

    programs = {f"K = {k}": ours(k) for k in (1, 16, 48)}
    programs["all timesteps"] = Gradient(model, xs, ys, function=theirs)
    exact = jax.tree.leaves(programs["all timesteps"]()[1])
    errors = {}
    for name, program in programs.items():
        pairs = zip(jax.tree.leaves(program()[1]), exact, strict=True)
        errors[name] = max(float(abs(a - b).max() / (abs(b).max() + 1e-12)) for a, b in pairs)
    assert max(errors.values()) < 1e-4, errors
    times = alternate(programs, 3 if quick else 15, 30)
    best = faster(times, "K = 16", "K = 48")
    speed = ratios(times, "all timesteps", best)
    memory = {name: program.temporaries() for name, program in programs.items()}
    detail = {
        "milliseconds": {name: summary(t, 1e3) for name, t in times.items()},
        "temporaries": memory, "largest relative error": errors, "ours": best,
    }  # fmt: skip
    task = "copy task, 4 layers, N = 64, H = 128, batch 20"
    yield Row(f"time of the paper's released algorithm / ours: {task}", median(speed), 3, True, "x",
              detail | {"ratio": summary(speed)})  # fmt: skip
    yield Row(f"memory of the paper's released algorithm / ours: {task}",
              memory["all timesteps"] / memory[best], 8, True, "x", detail)  # fmt: skip


FIRST_STEP = """
import sys, time; sys.path.insert(0, "bench")
import numpy as np, optax, rtrl
from _networks import squared_error, stack
learner = rtrl.OnlineLearner(squared_error, optax.adam(1e-3))
state = learner.init(stack("LRU"))
start = time.perf_counter()
state, out = learner.step(state, np.ones(8, np.float32), np.ones(8, np.float32))
out.loss.block_until_ready()
print(time.perf_counter() - start)
"""
IMPORT = """
import time, jax, equinox, optax
start = time.perf_counter()
import rtrl
print(time.perf_counter() - start)
"""


def _fresh(code: str, times: int) -> list[float]:
    """What a program prints, run in as many fresh processes."""
    run = partial(subprocess.run, check=True, capture_output=True, text=True)
    return [float(run([sys.executable, "-c", code]).stdout) for _ in range(times)]


def first_step(quick: bool) -> Iterator[Row]:
    """The first learning step of a process: tracing, compiling and running it."""
    seconds = _fresh(FIRST_STEP, 1 if quick else 5)
    yield Row("first learning step, compilation included: 4 layers, LRU, Adam", median(seconds), 5,
              False, "s", {"seconds": summary(seconds)})  # fmt: skip


def importing(quick: bool) -> Iterator[Row]:
    """Importing the library when JAX, Equinox and Optax have been imported."""
    seconds = _fresh(IMPORT, 2 if quick else 9)
    yield Row("import rtrl, beyond jax, equinox and optax", median(seconds), 0.3, False, "s",
              {"seconds": summary(seconds)})  # fmt: skip


def carried(quick: bool) -> Iterator[Row]:
    """What is carried between timesteps, against the parameters it is the sensitivity to."""

    def size(tree):
        return sum(a.nbytes for a in jax.tree.leaves(tree))

    cell = rtrl.cells.LRU(128, 64, key=jax.random.key(0))
    carry = rtrl.init_carry(cell, rtrl.RTRL(), batch_size=1)
    parts = {
        "trace": size(carry.trace), "hidden state": size(carry.state), "parameters": size(cell),
    }  # fmt: skip
    held = parts["trace"] + parts["hidden state"]
    yield Row(
        "state carried per sample / (parameters of the recurrence + hidden state): LRU",
        held / (parts["parameters"] + parts["hidden state"]), 1.1, False, "x", {"bytes": parts},
    )  # fmt: skip


def timed(function, quick: bool) -> tuple[list[Row], float]:
    start = time.perf_counter()
    rows = []
    for row in function(quick):
        say(f"{row.what}: {row.value:.3g} {row.unit} ({'met' if row.met else 'NOT met'})")
        rows.append(row)
    return rows, time.perf_counter() - start
