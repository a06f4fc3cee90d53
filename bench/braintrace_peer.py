"""Per-step online learning inside a compiled loop: this library against braintrace 0.2.6.

    python bench/braintrace_peer.py              72 settings, one JSON each in results/braintrace
    python bench/braintrace_peer.py --only LRU   those whose name has this in it
    python bench/braintrace_peer.py --table      only write the table of those that exist

The same network on both sides: ``depth`` residual layers x + C h + D * x with real or complex h
(LIF: C s + D * x with spikes s), then a linear readout of 8; H features and H modules, float32.
One gradient and one update by SGD or Adam (optax, on both sides) at every timestep, in one compiled
loop with the parameters updated inside. LRU is braintrace's own cell; MinGRU is written with its
linear layers, as its own MiniGRU has a gate that sees the state and is another network; LIF (reset
by subtraction, a time constant for each neuron, the surrogate 1 / (1 + 10 |v|)^2) likewise, as it
has no spiking cell of its own.

braintrace runs as D_RTRL in windows of one timestep of its "multi-step" mode, whose gradient
agrees, on a tiny network of one layer, with BPTT by braintrace's own tools: checked in every run.
Its default, "single-step", gives readouts a gradient of zero, so it does less and is not timed.
Ours runs with what it does by default, and once more with ``on_nonfinite="ignore"``: braintrace
tests nothing for numbers that are not finite, so that is the same work. Both return the losses;
ours predictions, counts and the norm of every gradient as well.

A third program is the floor for all: the gradient of every timestep's loss through that timestep
alone, in plain JAX, and the update. It has no trace, no tests, and is wrong beyond one timestep.

braintrace needs an environment of its own, made on first use in .venv-braintrace (or name a Python
that has it with --peer). Each side runs in a process of its own, all on the same cores, and they
take turns; ratios are medians of those of single rounds, and the processor's time is beside them.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from _braintrace_sides import SIDES, Setting, work
from _timing import digits, provenance, ratios, summary

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "braintrace"
PACKAGES = ("braintrace==0.2.6", "jax==0.10.2", "brainstate==0.5.4", "braintools==0.3.0", "optax")


SETTINGS = [
    Setting(*s)
    for s in itertools.product(
        ("LRU", "MinGRU", "LIF"), (16, 64, 256), (1, 16), (1, 4), ("sgd", "adam")
    )
]


# The clock -------------------------------------------------------------------------------------


class Worker:
    def __init__(self, python: str, side: str, setting: Setting):
        environment = os.environ | {"PYTHONWARNINGS": "ignore", "JAX_PLATFORMS": "cpu"}
        command = [python, __file__, "--worker", side, *map(str, setting)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=ROOT,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def answer(self) -> str:
        assert self.process.stdout
        assert self.process.stderr
        for line in self.process.stdout:
            if line[0] in "{0123456789":
                return line
        raise RuntimeError(f"{self.process.args} ended: {self.process.stderr.read()[-2000:]}")

    def run(self) -> list[float]:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return [float(v) for v in self.answer().split()]

    def end(self) -> None:
        self.process.communicate()


def compare(peer: str, setting: Setting, rounds: int) -> dict[str, Any]:
    """Seconds of every round of all sides, taking turns."""
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    worked: dict[str, list[float]] = {side: [] for side in SIDES}
    workers, about = {}, {}
    for side in SIDES:
        workers[side] = Worker(peer if side == "braintrace" else sys.executable, side, setting)
        about[side] = json.loads(workers[side].answer())  # compiled one after the other
    for _ in range(rounds):
        for side, worker in workers.items():
            seconds, processor = worker.run()
            times[side].append(seconds)
            worked[side].append(processor)
    for worker in workers.values():
        worker.end()
    error = max(about["braintrace"]["errors"].values())
    assert error < 1e-4, about["braintrace"]["errors"]
    assert all(one["finite"] for one in about.values()), about
    per = 1e6 / setting.length
    return {
        **setting._asdict(),
        "rounds": rounds,
        "microseconds per timestep": {side: summary(t, per) for side, t in times.items()},
        "of the processor": {side: digits(per * median(t)) for side, t in worked.items()},
        "braintrace / rtrl": summary(ratios(times, "braintrace", "rtrl")),
        "braintrace / rtrl, nothing tested": summary(
            ratios(times, "braintrace", "rtrl, nothing tested")
        ),
        "rtrl / no trace": summary(ratios(times, "rtrl", "no trace")),
        "first run": {side: digits(one["first run"]) for side, one in about.items()},
        "largest relative error of braintrace's gradient": error,
        "machine": f"{os.cpu_count()} cores",
        **provenance(),
    }


def environment() -> str:
    """The Python of an environment that has braintrace, made if it is not there."""
    folder = ROOT / ".venv-braintrace"
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"Setting up {folder.name} (a minute or two)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "-qq", *PACKAGES]
        subprocess.run(install, check=True)
    return str(python)


def table() -> str:
    """The settings that were run, as Markdown."""
    lines = [
        "An update at every timestep inside a compiled loop, microseconds a timestep (medians of "
        "rounds in which the sides take turns), and ratios of single rounds; above 1 braintrace "
        "takes longer. `no trace` is wrong beyond one timestep and tests nothing: the floor. "
        "Every process has one core; on the machine of 16 seven settings ran side by side.",
        "",
        "| cell | H | batch | layers | optimizer | machine | rtrl | nothing tested | braintrace "
        "| no trace | braintrace / rtrl | / nothing tested | rtrl / no trace |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    ahead, found = 0, 0
    for s in SETTINGS:
        path = RESULTS / f"{s.name}.json"
        if not path.exists():
            continue
        r = json.loads(path.read_text())
        times = [f"{r['microseconds per timestep'][side]['median']:.1f}" for side in SIDES]
        found += 1
        ahead += r["braintrace / rtrl"]["median"] >= 1
        kinds = ("braintrace / rtrl", "braintrace / rtrl, nothing tested", "rtrl / no trace")
        shares = [f"{r[kind]['median']:.2f}" for kind in kinds]
        if r["braintrace / rtrl"]["median"] < 1:
            shares[0] = f"**{shares[0]}**"
        lines.append(f"| {' | '.join(map(str, s))} | {r['machine']} | "
                     f"{' | '.join([*times, *shares])} |")  # fmt: skip
    lines += ["", f"At least as fast as braintrace in {ahead} of {found} settings.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", help="a Python that has braintrace")
    parser.add_argument("--only", default="", help="settings whose name has this in it")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--table", action="store_true", help="compute nothing")
    parser.add_argument("--worker", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        side, cell, size, batch, depth, optimizer = options.worker
        return work(side, Setting(cell, int(size), int(batch), int(depth), optimizer))
    RESULTS.mkdir(parents=True, exist_ok=True)
    todo = [s for s in SETTINGS if options.only in s.name and not options.table]
    for s in todo:
        path = RESULTS / f"{s.name}.json"
        if path.exists():
            continue
        result = compare(options.peer or environment(), s, options.rounds)
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(s.name, result["microseconds per timestep"], flush=True)
    RESULTS.with_suffix(".md").write_text(table())
    print(table())


if __name__ == "__main__":
    main()
