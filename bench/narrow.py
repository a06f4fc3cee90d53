"""Which width costs what: traces and moments in bfloat16 and int8, beside float32.

    python bench/narrow.py                   run what is missing (ten minutes)
    python bench/narrow.py --for SECONDS     stop after about so long; the next call goes on
    python bench/narrow.py --table           only write narrow.md from the runs that exist

A run is one JSON file in bench/results/narrow/: three seeds side by side. One layer of 32 modules,
width 32, no norm, Adam, chunks of one timestep, as on a device. Its rate is 3e-3 for copying, 3e-4
on the laser: of that, 1e-3, 3e-3 and 1e-2 it was the best for the LRU in float32.

laser    the Santa Fe laser, 1 and 5 timesteps ahead, every target revealed so many timesteps late;
         NRMSE of the second half of 6,000 timesteps, predicted before learning
copying  3 random bits a timestep for 5 timesteps, 5 of silence, then repeat; 16 sequences side by
         side, one update per sequence; bit accuracy over the last tenth of 1,500 updates

memory   a trace itself, s <- exp(-1 / tau) s + x, 16 rows of 32, beside float32: after 5 tau
         timesteps of noise, and tau timesteps after a single pulse

"nearest" is the same code with every random number replaced by one half. Moments: those of Adam; in
int8 the second one is kept in bfloat16, as `rtrl.narrow_moments` says.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rtrl
from rtrl.engine import _narrow  # type: ignore[attr-defined]
from rtrl.tasks import copying, copying_loss, santafe

RESULTS = Path(__file__).parent / "results" / "narrow"
SEEDS = (0, 1, 2)
SIZE = 32
TASKS = {
    "laser, 1 ahead": ("LRU", "MinGRU", "LIF"),
    "laser, 5 ahead": ("LRU",),
    "copying": ("LRU", "MinGRU"),
}
WIDTHS = ("bfloat16", "int8")
ROUNDINGS = ("stochastic", "nearest")
MEMORIES = (10, 100, 1000, 10_000)  # timesteps
INPUTS = ("noise", "pulse")
PATTERN, SILENCE, BITS, UPDATES, BATCH = 5, 5, 3, 1500, 16


def runs(rounding: str) -> list[tuple[str, str, str, str]]:
    """(task, cell, what, width) of a rounding; float32, which has none, is with the first."""
    plain = [("nothing", "float32")] if rounding == ROUNDINGS[0] else []
    kinds = [*plain, *((what, width) for what in ("traces", "moments") for width in WIDTHS)]
    return [(task, cell, *kind) for task, cells in TASKS.items() for cell in cells
            for kind in kinds]  # fmt: skip


def file_of(task: str, cell: str, what: str, width: str, rounding: str) -> Path:
    name = "-".join((task, cell, what, width, rounding)).replace(",", "").replace(" ", "-")
    return RESULTS / f"{name.lower()}.json"


def learner_of(loss: Any, rate: float, what: str, width: str, **options: Any) -> rtrl.OnlineLearner:
    optimizer: Any = optax.adam(rate)
    if what == "moments":
        optimizer = rtrl.narrow_moments(optimizer, width)  # type: ignore[arg-type]
    kept: Any = width if what == "traces" else "float32"
    return rtrl.OnlineLearner(loss, optimizer, trace_dtype=kept, donate=False, **options)


def states_of(learner: Any, cell: str, in_size: int, out_size: int) -> Any:
    """One state a seed, side by side."""
    new = getattr(rtrl.cells, cell)

    def one(seed: int) -> Any:
        return learner.init(rtrl.SequenceModel(
            in_size, out_size, SIZE, 1, lambda n, key: new(n, SIZE, key=key), norm=None,
            key=jax.random.key(seed),
        ), batch_size=None if in_size == 1 else BATCH)  # fmt: skip

    first, *rest = [one(seed) for seed in SEEDS]
    return jax.tree.map(lambda *a: jnp.stack(a) if hasattr(a[0], "shape") else a[0], first, *rest)


def half_squared(prediction: Any, target: Any) -> Any:
    return 0.5 * ((prediction - target) ** 2).sum()


def laser(cell: str, what: str, width: str, ahead: int) -> list[float]:
    z = np.asarray(santafe(1).xs, np.float32)[:6001]
    z = jnp.asarray((z - z[:1000].mean()) / z[:1000].std())
    learner = learner_of(half_squared, 3e-4, what, width)

    def body(state, t):
        # What comes now is the target of the input that came so long ago; the inputs since then are
        # run with the new parameters, and the last one's prediction is of what comes so much later.
        state, _ = learner.step(state, z[t - ahead], z[t])
        carry = prediction = None
        for k in range(ahead):
            prediction, carry = learner.predict(state, z[t - ahead + 1 + k], carry)
        return state, prediction

    times = jnp.arange(ahead, len(z) - ahead)
    run = jax.jit(jax.vmap(lambda state: jax.lax.scan(body, state, times)[1]))
    predictions = np.asarray(run(states_of(learner, cell, 1, 1)))
    targets = np.asarray(z[times + ahead])
    half = len(targets) // 2
    error = ((predictions - targets)[:, half:] ** 2).mean((1, 2))
    return [float(e) for e in np.sqrt(error / targets[half:].var())]


def copy(cell: str, what: str, width: str) -> list[float]:
    length = 2 * PATTERN + SILENCE + 1
    learner = learner_of(copying_loss, 3e-3, what, width, update_every=length)
    sizes = {"pattern": PATTERN, "padding": SILENCE, "bits": BITS}
    drawn = [[copying(BATCH, rng=rng, **sizes) for _ in range(UPDATES)]
             for rng in map(np.random.default_rng, SEEDS)]  # fmt: skip
    data = jax.tree.map(lambda *a: jnp.stack(a), *[
        jax.tree.map(lambda *a: np.stack(a), *map(tuple, one)) for one in drawn
    ])  # fmt: skip
    resets = jnp.zeros((length, BATCH), bool).at[0].set(True)

    def body(state, sequence):
        xs, ys, weights = sequence
        state, out = learner.scan(state, xs, ys, weights=weights, resets=resets, chunk=1)
        guess = out.prediction.reshape(*ys.shape, 2).argmax(-1)
        return state, (guess == ys)[PATTERN + SILENCE + 1 :].mean()

    run = jax.jit(jax.vmap(lambda state, data: jax.lax.scan(body, state, data)[1]))
    right = np.asarray(run(states_of(learner, cell, BITS + 1, 2 * BITS), data))
    return [float(a) for a in right[:, -UPDATES // 10 :].mean(1)]


def measure(task: str, cell: str, what: str, width: str, rounding: str) -> None:
    start = time.process_time()
    if task == "copying":
        found = copy(cell, what, width)
    else:
        found = laser(cell, what, width, int(task.split()[1]))
    result = {
        "task": task, "cell": cell, "what": what, "width": width, "rounding": rounding,
        "seeds": SEEDS, "found": [round(x, 5) for x in found],
        "processor_seconds": round(time.process_time() - start, 1), "jax": jax.__version__,
        "command": "python bench/narrow.py",
    }  # fmt: skip
    file_of(task, cell, what, width, rounding).write_text(json.dumps(result) + "\n")
    print(f"{task}, {cell}, {what} {width} {rounding}: {result['found']}, "
          f"{result['processor_seconds']} s", flush=True)  # fmt: skip


def memory(rounding: str) -> None:
    """How far narrow traces are from wide ones, by what came and how long they remember."""
    found = {f"{width}, {rounding}, {inputs}": [_error(width, inputs, tau) for tau in MEMORIES]
             for inputs in INPUTS for width in WIDTHS}  # fmt: skip
    result = {"error": found, "jax": jax.__version__, "command": "python bench/narrow.py"}
    (RESULTS / f"memory-{rounding}.json").write_text(json.dumps(result) + "\n")
    print(f"memory: {found}", flush=True)


def _error(width: str, inputs: str, tau: int) -> float:
    decay = jnp.float32(np.exp(-1 / tau))

    def body(traces, t):
        x = jax.random.normal(jax.random.fold_in(jax.random.key(0), t), (16, 32))
        x = x if inputs == "noise" else jnp.where(t == 0, x, 0)
        narrow, whole = (decay * s + x for s in traces)
        return (_narrow.widen(_narrow.narrow(narrow, width, t, 0)), whole), None

    times = jnp.arange(tau * (5 if inputs == "noise" else 1), dtype=jnp.uint32)
    zeros = jnp.zeros((16, 32))
    narrow, whole = jax.jit(lambda s: jax.lax.scan(body, s, times)[0])((zeros, zeros))
    return round(float(jnp.linalg.norm(narrow - whole) / jnp.linalg.norm(whole)), 4)


def memory_table() -> list[str]:
    files = [RESULTS / f"memory-{rounding}.json" for rounding in ROUNDINGS]
    found = {}
    for file in files:
        found |= json.loads(file.read_text())["error"] if file.exists() else {}
    lines = [
        "", "Relative error of a trace that forgets with a time constant of tau timesteps, beside "
        "float32: after 5 tau of noise, and tau after a single pulse.", "",
        f"| kept in | {' | '.join(f'tau = {tau:,}' for tau in MEMORIES)} |",
        "|---|" + "---:|" * len(MEMORIES),
    ]  # fmt: skip
    return lines + [
        f"| {name} | {' | '.join(f'{e:.3f}' for e in found[name])} |"
        for name in sorted(found, key=lambda name: (name.split(", ")[2], name))
    ]


def only(rounding: str, until: float) -> None:
    """All runs of a rounding: a process of its own, as compiled programs do not know of it."""
    if rounding == "nearest":
        _narrow.random_words = lambda shape, *_: jnp.full(shape, 0x8000_8000, jnp.uint32)
    if not (RESULTS / f"memory-{rounding}.json").exists():
        memory(rounding)
    for run in runs(rounding):
        if time.time() > until:
            return
        if not file_of(*run, rounding).exists():
            measure(*run, rounding)


def table() -> str:
    lines = [
        "# Which width costs what", "",
        "Mean of three seeds (least to most). Laser: NRMSE of the second half, lower is better; "
        "copying: bit accuracy, 1 is perfect, 0.5 is chance. One layer, 32 modules, width 32, "
        "Adam, chunks of one timestep. -: not run.", "",
        "| task | cell | kept narrow | float32 | bfloat16 | bfloat16, nearest | int8 | "
        "int8, nearest |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for task, cells in TASKS.items():
        for cell in cells:
            for what in ("traces", "moments"):
                columns = [_cell(file_of(task, cell, "nothing", "float32", ROUNDINGS[0]))]
                columns += [_cell(file_of(task, cell, what, width, rounding))
                            for width in WIDTHS for rounding in ROUNDINGS]  # fmt: skip
                lines.append(f"| {task} | {cell} | {what} | {' | '.join(columns)} |")
    return "\n".join([*lines, *memory_table()]) + "\n"


def _cell(file: Path) -> str:
    if not file.exists():
        return "-"
    found = json.loads(file.read_text())["found"]
    return f"{np.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--for", dest="seconds", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--rounding", choices=ROUNDINGS, help="only these runs")
    given = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    until = time.time() + given.seconds
    if given.rounding:
        only(given.rounding, until)
        return
    for rounding in () if given.table else ROUNDINGS:
        left = str(until - time.time())
        command = [sys.executable, __file__, "--rounding", rounding, "--for", left]
        subprocess.run(command, check=True)
    (RESULTS.parent / "narrow.md").write_text(table())


if __name__ == "__main__":
    main()
