"""Process memory while learning an endless stream: flat, with one compilation.

    python bench/memory.py                       a million timesteps, learning at every one
    python bench/memory.py --timesteps 100000    sooner
    python bench/memory.py --chunk 8             learning at every eighth
    python bench/memory.py --one-arena           without the C library's own drift, see below

A two-layer network learns a stream in calls of 1,000 timesteps, with fresh data in every call.
The resident memory of the process may grow by at most 1 MiB after the first 20,000 timesteps, and
nothing may be compiled after the first call. Writes bench/results/memory.json (or
memory-one-arena.json); exits with 1 if either fails. Reads /proc, so it needs Linux.

glibc gives every thread of XLA a memory pool (arena) of its own. These pools fill up at random, by
0.2 to 1.2 MiB in the runs we made, mostly before timestep 200,000; so a plain run may fail once in
a while. With --one-arena (MALLOC_ARENA_MAX=1) that growth is gone, and none was left.
"""

import argparse
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rtrl

RESULTS = Path(__file__).parent / "results"
CALL = 1000  # timesteps per call
SETTLED = 20_000  # timesteps from which on memory must not grow
SAMPLE = 10_000  # timesteps between two readings
ALLOWED_MIB = 1.0
ONE_ARENA = ("MALLOC_ARENA_MAX", "1")  # read by glibc when a process starts


def resident_bytes() -> int:
    """Resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status tells no VmRSS")


class Compilations:
    """Counts what XLA compiles and how often Python traces the loss."""

    def __init__(self):
        self.compiled = 0
        self.traced = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **_: str | int) -> None:
        self.compiled += event == "/jax/core/compile/backend_compile_duration"

    def loss(self, prediction, target):
        self.traced += 1
        return jnp.mean((prediction - target) ** 2)

    def so_far(self) -> tuple[int, int]:
        return self.compiled, self.traced


def stream(rng: np.random.Generator, in_size: int):
    """Chunks of an endless stream: noise in, its running mean out."""
    mean = np.zeros(in_size, np.float32)
    while True:
        xs = rng.standard_normal((CALL, in_size), np.float32)
        ys = np.empty_like(xs)
        for t, x in enumerate(xs):
            mean = 0.9 * mean + 0.1 * x
            ys[t] = mean
        yield xs, ys


def run(timesteps: int, chunk: int, seed: int) -> dict:
    model = rtrl.SequenceModel(
        in_size=2,
        out_size=2,
        width=32,
        depth=2,
        cell=lambda size, key: rtrl.cells.LRU(size, 32, key=key),
        key=jax.random.key(seed),
    )
    count = Compilations()
    learner = rtrl.OnlineLearner(count.loss, optax.adam(1e-3), rule=rtrl.RTRL())
    state = learner.init(model)
    data = stream(np.random.default_rng(seed), 2)
    interactive = sys.stderr.isatty()

    samples = []
    before = count.so_far()
    after_first = before
    start = time.perf_counter()
    for done in range(CALL, timesteps + 1, CALL):
        state, out = learner.scan(state, *next(data), chunk=chunk)
        loss = float(np.asarray(out.loss).mean())
        if done == CALL:
            after_first = count.so_far()
        if done % SAMPLE == 0:
            samples.append((done, resident_bytes()))
        if done % (CALL if interactive else 100 * CALL) == 0:
            seconds = time.perf_counter() - start
            print(
                f"{'#' * (30 * done // timesteps):.<30} {done:,} of {timesteps:,}, "
                f"{done / seconds:,.0f} timesteps/s, loss {loss:.4f}, "
                f"{resident_bytes() / 2**20:.2f} MiB",
                end="\r" if interactive and done < timesteps else "\n",
                file=sys.stderr,
                flush=True,
            )
    settled = [size for done, size in samples if done >= SETTLED]
    growth = (settled[-1] - settled[0]) / 2**20
    compiled_first, compiled_later = after_first[0] - before[0], count.compiled - after_first[0]
    return {
        "command": " ".join(["python bench/memory.py", *sys.argv[1:]]),
        "versions": {"python": sys.version.split()[0]}
        | {name: version(name) for name in ("jax", "jaxlib", "equinox", "optax", "numpy")},
        "network": "SequenceModel, 2 layers, width 32, LRU of 32 modules, Adam",
        "rule": learner.rule.label(chunk),
        "chunk": chunk,
        "timesteps": timesteps,
        "one_arena": os.environ.get(ONE_ARENA[0]) == ONE_ARENA[1],
        "passed": growth <= ALLOWED_MIB and (compiled_first, compiled_later) == (1, 0),
        "growth_mib": round(growth, 3),
        "largest_growth_mib": round((max(settled) - settled[0]) / 2**20, 3),
        "compilations_in_first_call": compiled_first,
        "compilations_later": compiled_later,
        "traces_of_loss_later": count.traced - after_first[1],
        "seconds": round(time.perf_counter() - start, 1),
        "samples": samples,  # [timestep, resident bytes]
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--timesteps", type=int, default=1_000_000, help="default 1,000,000")
    parser.add_argument("--chunk", type=int, default=1, help="timesteps per update, default 1")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument(
        "--one-arena", action="store_true", help="start again with MALLOC_ARENA_MAX=1"
    )
    options = parser.parse_args()
    if options.timesteps < SETTLED + SAMPLE:
        parser.error(f"--timesteps: expected at least {SETTLED + SAMPLE}, got {options.timesteps}")
    if options.one_arena and os.environ.get(ONE_ARENA[0]) != ONE_ARENA[1]:
        environment = os.environ | dict([ONE_ARENA])
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    result = run(options.timesteps, options.chunk, options.seed)
    RESULTS.mkdir(exist_ok=True)
    name = "memory-one-arena.json" if result["one_arena"] else "memory.json"
    (RESULTS / name).write_text(json.dumps(result) + "\n")
    print(
        f"{'passed' if result['passed'] else 'FAILED'}: memory grew by {result['growth_mib']} MiB "
        f"between timestep {SETTLED:,} and {options.timesteps:,} (allowed {ALLOWED_MIB}); "
        f"compiled {result['compilations_in_first_call']} time in the first call and "
        f"{result['compilations_later']} times later; {result['seconds']} s"
    )
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()
