"""Ten million timesteps in one process: what a learner carries stays right, and costs the same.

    python bench/soak.py                     every part; goes on where it stopped
    python bench/soak.py --part trace        one: learner, kalman, trace or still
    python bench/soak.py --timesteps 200000  a rough look, in a folder of its own
    python bench/soak.py --table             measure nothing, write results/soak.md

learner: Adam and a guard on a noisy sine, an update at every timestep; memory, time and loss.
kalman: the same by a Kalman filter; are its covariances positive, and nothing left out?
trace: an LRU whose parameters stay, moduli 1 - 1e-1 .. 1 - 1e-6; states and traces in float32
against the same recursion in float64, from the decay and the gain that float32 has: relative error.
still: the same, a single impulse and then zeros for ever: time of a block, as traces fade into
numbers that a processor may be slow with (denormal ones).
count: the learner's counters start 1,000 timesteps before 2^32 and 2^31.

Every block of 100,000 timesteps ends with a saved state (in build/) and a row in
results/soak/PART.json; a part
goes on after its last row, and `sessions` counts the processes that it took.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _timing import RESULTS, digits, provenance, say
from memory import resident_bytes
from scipy.signal import lfilter

import rtrl

BLOCK = 100_000
TIMESTEPS = 10_000_000
STATES = Path("build")
MODULI = 1 - 10.0 ** -np.arange(1, 7)


class OneLayer(eqx.Module):
    """A cell that sees the data as they are, and a readout of its states."""

    cell: rtrl.cells.LRU
    readout: jax.Array
    in_size: int = eqx.field(static=True)

    def __call__(self, xs, carry, *, rule, resets=None, mask=None, key=None):
        hs, after = rtrl.recur(self.cell, xs, carry[0], rule=rule, resets=resets, mask=mask)
        return (jnp.real(hs) @ self.readout)[..., None], (after,)


def half_square(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


def network(guard):
    def cell(size, key):
        return rtrl.cells.LRU(size, 8, key=key)

    return rtrl.SequenceModel(1, 1, 4, 1, cell, norm=None, key=jax.random.key(0)), guard


def slow_layer():
    """Modules of given moduli; phases that none of the others is a multiple of."""
    cell = rtrl.cells.LRU(1, len(MODULI), key=jax.random.key(0))
    nu = -np.log(MODULI)
    phase = 0.1 + np.sqrt(2) * np.arange(len(MODULI))
    numbers = np.log(nu), np.log(phase), 0.5 * np.log(-np.expm1(-2 * nu))
    where = lambda c: (c.nu_log, c.theta_log, c.gamma_log)  # noqa: E731
    cell = eqx.tree_at(where, cell, tuple(jnp.asarray(a, jnp.float32) for a in numbers))
    return OneLayer(cell, jnp.ones(len(MODULI), jnp.float32), 1)


def make(part):
    """A learner and its first state."""
    if part in ("trace", "still"):
        learner = rtrl.OnlineLearner(half_square, optax.sgd(0.0))
        return learner, learner.init(slow_layer())
    optimizer = rtrl.kalman() if part == "kalman" else optax.adam(1e-3)
    learner = rtrl.OnlineLearner(half_square, optimizer, guard=rtrl.Guard(divergence=100.0))
    model, _ = network(None)
    return learner, learner.init(model)


def block_of(part, number):
    """Data that depend on the number of the block alone."""
    rng = np.random.default_rng([number, len(part)])
    if part == "still":
        xs = np.zeros((BLOCK, 1), np.float32)
        xs[0] = number == 0
        return xs, xs
    if part == "trace":
        xs = rng.standard_normal((BLOCK, 1), np.float32)
        return xs, xs
    t = number * BLOCK + np.arange(BLOCK + 1)
    wave = np.sin(0.3 * t) + 0.1 * rng.standard_normal(BLOCK + 1)
    wave = wave.astype(np.float32)[:, None]
    return wave[:-1], wave[1:]


class Exact:
    """The recursion of state and traces in float64, from decay and gain as float32 has them."""

    def __init__(self, cell):
        # By the cell itself: h = 1 without an input gives the decay, u = 1 without a state gain.
        one, zero = jnp.ones(len(MODULI), jnp.complex64), jnp.zeros(len(MODULI), jnp.complex64)
        self.decay = np.asarray(cell.update(one, zero), np.complex128)
        self.gain = np.asarray(cell.update(zero, one), np.complex128)
        self.weight = np.asarray(cell.project(), np.complex128)[:, 0]
        with_nu = lambda nu: eqx.tree_at(lambda c: c.nu_log, cell, nu).update(one, zero)  # noqa: E731
        slope = jax.jvp(with_nu, (cell.nu_log,), (jnp.ones_like(cell.nu_log),))[1]
        self.slope = np.asarray(slope, np.complex128)
        # h, and the traces of B and nu_log
        self.state = np.zeros((3, len(MODULI)), np.complex128)

    def advance(self, x):
        x = np.asarray(x[:, 0], np.float64)
        for i, decay in enumerate(self.decay):
            before, gain = self.state[:, i].copy(), self.gain[i]

            def run(given, start, decay=decay):
                return lfilter([1.0], [1.0, -decay], given, zi=np.array([decay * start]))[0]

            h = run(gain * self.weight[i] * x, before[0])
            earlier = np.concatenate([before[:1], h[:-1]])
            last = h, run(gain * x, before[1]), run(self.slope[i] * earlier, before[2])
            self.state[:, i] = [series[-1] for series in last]


def errors(state, exact):
    """Relative errors of state and trace, module by module."""
    carry = state.carry[0]
    traces = carry.trace.projections[0][0, :, 0], carry.trace.modules["nu_log"][0]
    found = np.stack([np.asarray(a) for a in (carry.state, *traces)])
    return np.abs(found - exact.state) / np.abs(exact.state)


def measure(part, state, out, exact):
    row: dict[str, Any] = {"MiB": digits(resident_bytes() / 2**20, 6)}
    numbers = jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))
    row["finite"] = bool(all(np.isfinite(np.asarray(a)).all() for a in numbers))
    if part in ("learner", "kalman"):
        row["loss"] = digits(float(np.nanmean(out.loss)))
        names = ("skipped", "restarted", "bounded", "reverted")
        row |= {name: int(getattr(out, name).sum()) for name in names}
    if part == "kalman":
        least, most, apart = np.inf, 0.0, 0.0
        for root in jax.tree.leaves(state.opt_state.roots):
            root = np.asarray(root, np.float64)
            covariance = root @ root.swapaxes(1, 2)
            apart = max(apart, np.abs(covariance - covariance.swapaxes(1, 2)).max())
            # Of the root: its singular values are the roots of the covariance's eigenvalues.
            values = np.linalg.svd(root, compute_uv=False) ** 2
            least, most = min(least, values.min()), max(most, values.max())
        row |= {"least variance": digits(least), "largest": digits(most), "asymmetry": apart}
    if part == "trace":
        found = errors(state, exact)
        row["state"], row["trace of B"], row["trace of nu_log"] = (
            [digits(float(e)) for e in one] for one in found
        )
    return row


def run(part, timesteps, folder):
    file, saved = folder / f"{part}.json", STATES / folder.name / f"{part}.state"
    saved.parent.mkdir(parents=True, exist_ok=True)
    truth = saved.with_name("exact.npy")
    result = json.loads(file.read_text()) if file.exists() else {"rows": [], "sessions": 0}
    blocks = timesteps // BLOCK
    if len(result["rows"]) >= blocks:
        return
    learner, state = make(part)
    exact = Exact(state.model.cell) if part == "trace" else None
    if result["rows"]:
        state = rtrl.load(saved, state)
        if exact:
            exact.state = np.load(truth)
    result["sessions"] += 1
    for number in range(len(result["rows"]), blocks):
        xs, ys = block_of(part, number)
        start, worked = time.perf_counter(), time.process_time()
        state, out = learner.scan(state, xs, ys, chunk=1)
        jax.block_until_ready(state)
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
        if exact:
            exact.advance(xs)
            np.save(truth, exact.state)
        rtrl.save(saved, state)
        row = {"timestep": (number + 1) * BLOCK, "seconds": digits(seconds)}
        row["processor"] = digits(worked)
        result["rows"].append(row | measure(part, state, out, exact))
        result |= {"part": part} | provenance()
        new = file.with_suffix(".new")
        new.write_text(json.dumps(result, indent=1) + "\n")
        os.replace(new, file)
        if (number + 1) % 10 == 0:
            say(f"{part} {json.dumps(result['rows'][-1])}")


def count(folder):
    """Over the ends of its counters a learner goes on as if nothing were."""
    rows = {}
    for name, optimizer in (("adam", optax.adam(1e-3)), ("kalman", rtrl.kalman())):
        learner = rtrl.OnlineLearner(half_square, optimizer, guard=rtrl.Guard(divergence=100.0))
        xs, ys = block_of("learner", 0)
        state, _ = learner.scan(learner.init(network(None)[0]), xs[:20000], ys[:20000], chunk=1)

        def near(a):
            if not eqx.is_array(a) or a.shape or not jnp.issubdtype(a.dtype, jnp.integer):
                return a
            return a.dtype.type(jnp.iinfo(a.dtype).max - 1000)

        state = eqx.tree_at(
            lambda s: (s.step, s.opt_state), state,
            (near(state.step), jax.tree.map(near, state.opt_state)),
        )  # fmt: skip
        state, out = learner.scan(state, xs[20000:30000], ys[20000:30000], chunk=1)
        loss = np.asarray(out.loss)
        rows[name] = {
            "loss before": digits(float(loss[:1000].mean())),
            "after": digits(float(loss[-1000:].mean())),
            "step": int(state.step),
            "finite": bool(np.isfinite(loss).all()),
        }
    (folder / "count.json").write_text(
        json.dumps({"part": "count", "rows": rows} | provenance(), indent=1) + "\n"
    )


def table(folder):
    lines = ["# Ten million timesteps", ""]
    names = "timesteps", "MiB after a tenth", "at the end", "seconds a block, first tenth"
    lines += ["| part | " + " | ".join((*names, "last tenth", "slowest / median")) + " |"]
    lines += ["|---|" + "---:|" * 6]
    more = []
    for part in ("learner", "kalman", "trace", "still"):
        file = folder / f"{part}.json"
        if not file.exists():
            continue
        result = json.loads(file.read_text())
        rows = result["rows"]
        tenth = max(1, len(rows) // 10)
        seconds = [r["processor"] for r in rows]
        first, last = (float(np.median(s)) for s in (seconds[1 : tenth + 1], seconds[-tenth:]))
        slow = max(seconds[1:]) / float(np.median(seconds))
        lines.append(
            f"| {part} | {rows[-1]['timestep']:,} | {rows[tenth - 1]['MiB']} | {rows[-1]['MiB']} | "
            f"{first:.3g} | {last:.3g} | {slow:.2f} |"
        )
        finite = all(r["finite"] for r in rows)
        more.append(f"- {part}: {result['sessions']} process(es), load {result['load']}; "
                    f"all that is carried finite after every block: {finite}.")  # fmt: skip
        if part in ("learner", "kalman"):
            losses = [r["loss"] for r in rows]
            counted = {n: sum(r[n] for r in rows)
                       for n in ("skipped", "restarted", "bounded", "reverted")}  # fmt: skip
            more.append(f"  Mean loss of the second block {losses[1]}, of the last {losses[-1]}, "
                        f"largest after the second {max(losses[1:])}; {counted}.")  # fmt: skip
        if part == "kalman":
            more.append(f"  Least variance {min(r['least variance'] for r in rows):.3g}, largest "
                        f"{max(r['largest'] for r in rows):.3g}, P less its transpose at most "
                        f"{max(r['asymmetry'] for r in rows):.3g}.")  # fmt: skip
        if part == "trace":
            for what in ("state", "trace of B", "trace of nu_log"):
                worst = np.max([r[what] for r in rows], 0)
                names = ", ".join(f"1 - 1e-{i + 1}: {e:.1e}" for i, e in enumerate(worst))
                more.append(f"  Largest relative error of the {what} by modulus: {names}.")
    lines += ["", "Seconds are the processor's, all cores together, for 100,000 timesteps.", ""]
    file = folder / "count.json"
    if file.exists():
        rows = json.loads(file.read_text())["rows"]
        for name, row in rows.items():
            more.append(f"- count, {name}: loss {row['loss before']} before the counters' ends, "
                        f"{row['after']} after; `step` stays at {row['step']:,}.")  # fmt: skip
    return "\n".join([*lines, *more, ""])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("count", "trace", "still", "kalman", "learner")
    parser.add_argument("--part", choices=parts)
    parser.add_argument("--timesteps", type=int, default=TIMESTEPS)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    rough = options.timesteps != TIMESTEPS
    folder = Path("soak-rough") if rough else RESULTS / "soak"
    folder.mkdir(parents=True, exist_ok=True)
    for part in () if options.table else parts:
        if options.part in (None, part):
            if part == "count":
                count(folder)
            else:
                run(part, options.timesteps, folder)
    (folder.parent / f"{folder.name}.md").write_text(table(folder))


if __name__ == "__main__":
    main()
