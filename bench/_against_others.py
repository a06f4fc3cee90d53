"""Rows of `speed.py` that compare with anything but BPTT, one function each."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _networks import Gradient, squared_error, stack
from _published import published_gradient
from _row import Row
from _timing import alternate, digits, faster, ratios, summary

import rtrl
from rtrl.engine import Partials, Trace, advance_once
from rtrl.tasks import copying, copying_loss


def bandwidth(quick: bool) -> Iterator[Row]:
    """Advancing a complex trace of 8 MiB in place, against copying as many bytes."""
    n = 1024
    parts = jax.random.normal(jax.random.key(0), (2, 1, 1, n, n))
    parameter = jnp.full((1, 1, 1, n), 0.9 + 0.1j, jnp.complex64)
    partials = Partials(
        parameter[:, :, None], (parameter,), {}, (jnp.ones((1, 1, n)),), (), None
    )  # fmt: skip
    step = jax.jit(advance_once, donate_argnums=0)
    trace = [Trace((jax.lax.complex(parts[0], parts[1]),), {})]
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
    held = rtrl.Live(learner, learner.init(model))
    carry = rtrl.init_carry(model, rtrl.BPTT())
    params, static = eqx.partition(model, eqx.is_array)

    @jax.jit
    def predict(params, carry, x):
        y, carry = eqx.combine(params, static)(x[None], carry, rule=rtrl.BPTT())
        return y[0], carry

    x = y = np.ones(8, np.float32)
    calls = 100 if quick else 1000

    processor: dict[str, list[float]] = {"step": [], "live": [], "stream": [], "inference": []}

    def step():
        nonlocal state
        start = time.process_time()
        for _ in range(calls):
            state, out = learner.step(state, x, y)
            out.loss.block_until_ready()
        processor["step"].append(time.process_time() - start)

    def live():
        start = time.process_time()
        for _ in range(calls):
            held.step(x, y).loss.block_until_ready()
        processor["live"].append(time.process_time() - start)

    streamed: list[Any] = [learner.init(model)]

    def stream():
        start = time.process_time()
        items = itertools.repeat((x, y), calls)
        for now, out in learner.stream(streamed[0], items):
            out.prediction.block_until_ready()
            streamed[0] = now
        processor["stream"].append(time.process_time() - start)

    def infer():
        nonlocal carry
        start = time.process_time()
        for _ in range(calls):
            prediction, carry = predict(params, carry, x)
            prediction.block_until_ready()
        processor["inference"].append(time.process_time() - start)

    sides = {"step": step, "live": live, "stream": stream, "inference": infer}
    times = alternate(sides, 5 if quick else 15, 20)

    def beyond(name):
        both = zip(times[name], times["inference"], strict=True)
        return digits(median(1e3 * (a - b) / calls for a, b in both))

    detail = {
        "milliseconds a call": {k: summary(t, 1e3 / calls) for k, t in times.items()},
        "processor's milliseconds a call": {
            k: summary(t[1:], 1e3 / calls) for k, t in processor.items()
        },
    }
    what = "from Python, beyond a jitted prediction: 1 layer, LRU, H = 64, Adam"
    yield Row(f"learner.step {what}", beyond("step"), 0.3, False, "ms", detail)
    yield Row(f"rtrl.Live.step {what}", beyond("live"), 0.1, False, "ms", {})
    yield Row(f"an item of learner.stream {what}", beyond("stream"), 0.1, False, "ms", {})


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
start, cpu = time.perf_counter(), time.process_time()
state, out = learner.step(state, np.ones(8, np.float32), np.ones(8, np.float32))
out.loss.block_until_ready()
print(time.perf_counter() - start, time.process_time() - cpu)
"""
IMPORT = """
import time, jax, equinox, optax
start, cpu = time.perf_counter(), time.process_time()
import rtrl
print(time.perf_counter() - start, time.process_time() - cpu)
"""


def _fresh(code: str, times: int) -> tuple[list[float], dict[str, dict[str, float]]]:
    """Seconds that a program prints, run in as many fresh processes, and those of the processor."""
    run = partial(subprocess.run, check=True, capture_output=True, text=True)
    printed = [run([sys.executable, "-c", code]).stdout.split() for _ in range(times)]
    wall, cpu = ([float(pair[i]) for pair in printed] for i in (0, 1))
    return wall, {"seconds": summary(wall), "processor seconds": summary(cpu)}


def first_step(quick: bool) -> Iterator[Row]:
    """The first learning step of a process: tracing, compiling and running it."""
    seconds, detail = _fresh(FIRST_STEP, 1 if quick else 5)
    what = "first learning step, compilation included: 4 layers, LRU, Adam"
    yield Row(what, median(seconds), 5, False, "s", detail)


def importing(quick: bool) -> Iterator[Row]:
    """Importing the library when JAX, Equinox and Optax have been imported."""
    seconds, detail = _fresh(IMPORT, 2 if quick else 9)
    what = "import rtrl, beyond jax, equinox and optax"
    yield Row(what, median(seconds), 0.3, False, "s", detail)


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


def braintrace(quick: bool) -> Iterator[Row]:
    """The same network and the same work at every timestep by the closest other library."""
    from _braintrace_sides import Setting
    from braintrace_peer import compare, environment

    peer = os.environ.get("BRAINTRACE_PYTHON") or environment()
    for cell, bar in (("LRU", 10), ("MinGRU", 1), ("LIF", 1)):
        for depth in (1,) if quick else (1, 4):
            setting = Setting(cell, 64, 1, depth, "sgd")
            result = compare(peer, setting, 3 if quick else 15)
            layers = "1 layer" if depth == 1 else f"{depth} layers"
            yield Row(
                f"time of braintrace 0.2.6 / ours, an update every timestep: {cell}, {layers}, "
                "H = 64, batch 1", result["braintrace / rtrl"]["median"], bar, True, "x", result,
            )  # fmt: skip
