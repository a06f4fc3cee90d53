"""Ten thousand streams, one model: throughput, time of a call, memory; and four streams to a slot.

    python bench/many_streams.py [--quick]

Writes bench/results/many_streams.json. Every stream is a noisy sine of its own period whose next
value is predicted; one item in twenty does not come (the stream is then a timestep behind), one
target in fifty is missing. First 10,000 streams with a slot each until they have sent 2,000
timesteps on average. Then as many streams with 2,500 slots, in sessions of about 20 timesteps: who
begins one comes back from disk. The first is run twice, each in a process of its own, and must end
in the same parameters.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import optax

import rtrl
from rtrl.streams import ManyStreams

RESULT = Path(__file__).parent / "results" / "many_streams.json"
WIDTH = MODULES = 8


def squared_error(prediction, target):
    return 0.5 * ((prediction - target) ** 2).sum()


def resident() -> float:
    """Megabytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def learner_and_state(slots: int):
    key = jax.random.key(0)
    model = rtrl.SequenceModel(
        1, 1, WIDTH, 1, lambda size, key: rtrl.cells.LRU(size, MODULES, key=key), glu=None, key=key
    )
    learner = rtrl.OnlineLearner(squared_error, optax.adam(1e-3))
    return learner, learner.init(model, slots)


class Senders:
    """The streams themselves: each at its own place in its own sine."""

    def __init__(self, count: int, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.rate = 2 * np.pi / self.rng.uniform(8, 40, count)
        self.at = self.rng.uniform(0, 100, count)

    def send(self, who: np.ndarray):
        self.at[who] += 1
        noise = 0.1 * self.rng.normal(size=(2, len(who)))
        x, y = (np.sin(self.rate[who] * (self.at[who] + k)) + noise[k] for k in (0, 1))
        y[self.rng.uniform(size=len(who)) < 0.02] = np.nan
        return x[:, None].astype(np.float32), y[:, None].astype(np.float32)


def a_slot_each(streams: int, timesteps: int) -> dict:
    learner, state = learner_and_state(streams)
    many, senders = ManyStreams(learner, state), Senders(streams)
    items, calls, losses, memory, times = 0, 0, [], {}, []
    while items < streams * timesteps:
        who = np.flatnonzero(senders.rng.uniform(size=streams) >= 0.05)
        data = senders.send(who)
        start = time.perf_counter()
        out = many.step(who, *data)
        times.append(time.perf_counter() - start)
        losses.append(float(out.loss[0]))
        items, calls = items + len(who), calls + 1
        if calls % max(timesteps // 10, 1) == 0:
            memory[calls] = round(resident(), 1)
    parameters = jax.tree.leaves(jax.tree.map(np.asarray, many.state.model.layers[0].cell))
    digest = hashlib.sha256(b"".join(a.tobytes() for a in parameters)).hexdigest()[:16]
    return {
        "streams": streams, "calls": calls, "items": items,
        "items a second": round(items / sum(times)),
        "call, ms": {p: round(1e3 * float(np.percentile(times[1:], p)), 1) for p in (50, 99, 100)},
        "resident memory by calls, MB": memory,
        "loss, first and last tenth of the calls": [
            round(float(np.mean(part)), 4)
            for part in (losses[: calls // 10], losses[-(calls // 10) :])
        ],
        "parameters": digest,
    }  # fmt: skip


def four_to_a_slot(streams: int, calls: int) -> dict:
    slots, length = streams // 4, 20
    learner, state = learner_and_state(slots)
    senders = Senders(streams, 1)
    begun = parked = returned = items = 0
    times, memory = [], {}
    with tempfile.TemporaryDirectory() as folder:
        many = ManyStreams(learner, state, folder)
        active = senders.rng.uniform(size=streams) < 0.1
        for call in range(calls):
            # Sessions of `length` calls on average, one stream in ten in one.
            ends = senders.rng.uniform(size=streams) < 1 / length
            starts = senders.rng.uniform(size=streams) < 0.1 / 0.9 / length
            active = np.where(active, ~ends, starts)
            who = np.flatnonzero(active)
            data = senders.send(who)
            start = time.perf_counter()
            out = many.step(who, *data)
            times.append(time.perf_counter() - start)
            begun, parked = begun + out.begun, parked + out.parked
            returned, items = returned + out.returned, items + len(who)
            if call % max(calls // 5, 1) == 0:
                memory[call] = round(resident(), 1)
        start = time.perf_counter()
        many.save()
        saving = time.perf_counter() - start
        size = sum(f.stat().st_size for f in Path(folder).iterdir()) / 2**20
    return {
        "streams": streams, "slots": slots, "calls": calls, "items": items, "begun": begun,
        "to disk": parked, "back from disk": returned,
        "items a second": round(items / sum(times)),
        "call, ms": {p: round(1e3 * float(np.percentile(times, p)), 1) for p in (50, 99)},
        "resident memory by calls, MB": memory, "save, s": round(saving, 2),
        "folder, MB": round(size, 1),
    }  # fmt: skip


PARTS = {"a slot each": a_slot_each, "again": a_slot_each, "four to a slot": four_to_a_slot}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 streams, 100 timesteps")
    parser.add_argument(
        "--part", choices=PARTS, help="measure this alone; others stay as they were"
    )
    options = parser.parse_args()
    if options.part is None:  # each in a process of its own
        more = ["--quick"] if options.quick else []
        for part in PARTS:
            subprocess.run([sys.executable, __file__, "--part", part, *more], check=True)
        return
    streams, timesteps, calls = (500, 100, 60) if options.quick else (10_000, 2_000, 400)
    measure = PARTS[options.part]
    found = measure(streams, calls if measure is four_to_a_slot else timesteps)
    found["load"] = os.getloadavg()[0]
    print(json.dumps({options.part: found}, indent=1), flush=True)
    if options.quick:
        return
    whole = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    whole[options.part] = found
    digests = {whole[part]["parameters"] for part in ("a slot each", "again") if part in whole}
    whole["the same parameters"] = len(digests) == 1
    RESULT.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
