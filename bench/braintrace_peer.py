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
import importlib
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from _timing import digits, provenance, ratios, summary

OUT, RATE, SHARPNESS = 8, 1e-7, 10.0
ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "braintrace"
PACKAGES = ("braintrace==0.2.6", "jax==0.10.2", "brainstate==0.5.4", "braintools==0.3.0", "optax")


class Setting(NamedTuple):
    cell: str
    size: int  # features and modules, H
    batch: int
    depth: int
    optimizer: str

    @property
    def name(self) -> str:
        return f"{self.cell}-H{self.size}-batch{self.batch}-{self.depth}layers-{self.optimizer}"

    @property
    def length(self) -> int:
        """Timesteps of a run, fewer where one takes long."""
        return 1024 if self.size * self.batch <= 256 else 128


SETTINGS = [
    Setting(*s)
    for s in itertools.product(
        ("LRU", "MinGRU", "LIF"), (16, 64, 256), (1, 16), (1, 4), ("sgd", "adam")
    )
]


# The sides, each in a process of its own -------------------------------------------------------


def _optimizer(name: str) -> Any:
    import optax

    return {"sgd": optax.sgd, "adam": optax.adam}[name](RATE)


def _data(s: Setting, length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    lead = (length,) if s.batch == 1 else (length, s.batch)
    return tuple(rng.normal(size=(*lead, n)).astype(np.float32) for n in (size, OUT))  # type: ignore


def _our_network(s: Setting) -> Any:
    import equinox as eqx
    import jax

    import rtrl
    from rtrl import cells

    given = {"surrogate": lambda v: 1 / (1 + SHARPNESS * abs(v)) ** 2} if s.cell == "LIF" else {}
    return rtrl.SequenceModel(
        s.size, OUT, s.size, s.depth,
        lambda size, key: getattr(cells, s.cell)(size, s.size, **given, key=key),
        activation=lambda y: y, glu=None, norm=None, encoder=eqx.nn.Identity(),
        key=jax.random.key(0),
    )  # fmt: skip


def _ours(s: Setting, **chosen: Any) -> Any:
    """A function that learns from a whole sequence, an update at every timestep."""
    import rtrl

    learner = rtrl.OnlineLearner(_squared_error, _optimizer(s.optimizer), **chosen)
    data = _data(s, s.length, s.size)
    held = [learner.init(_our_network(s), None if s.batch == 1 else s.batch)]

    def run():
        held[0], out = learner.scan(held[0], *data, chunk=1)
        return out.loss

    return run


def _squared_error(prediction, target):
    return ((prediction - target) ** 2).sum()


def _no_trace(s: Setting) -> Any:
    """A function that goes down the gradient through one timestep, for a whole sequence."""
    import equinox as eqx
    import jax
    import optax

    import rtrl

    network, optimizer = _our_network(s), _optimizer(s.optimizer)
    params, static = eqx.partition(network, eqx.is_array)
    carry = rtrl.init_carry(network, rtrl.BPTT(), None if s.batch == 1 else s.batch)
    start = (carry, params, optimizer.init(params))

    @jax.jit
    def run(start, xs, ys):
        def step(state, xy):
            (x, y), (carry, params, moments) = xy, state

            def loss(params):
                model = eqx.combine(params, static)
                predictions, after = model(x[None], carry, rule=rtrl.BPTT())
                return _squared_error(predictions[0], y) / s.batch, after

            (value, carry), grads = jax.value_and_grad(loss, has_aux=True)(params)
            updates, moments = optimizer.update(grads, moments, params)
            return (carry, optax.apply_updates(params, updates), moments), value

        return jax.lax.scan(step, start, (xs, ys))

    data = _data(s, s.length, s.size)
    return lambda: run(start, *data)[1]


def _peer_network(s: Setting, depth: int, size: int) -> Any:
    import jax
    import jax.numpy as jnp

    brainstate, braintrace, braintools = map(
        importlib.import_module, ("brainstate", "braintrace", "braintools")
    )

    @jax.custom_jvp
    def spike(v):
        return (v > 0).astype(v.dtype)

    spike.defjvp(lambda v, dv: (spike(*v), dv[0] / (1 + SHARPNESS * jnp.abs(v[0])) ** 2))

    class Cell(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.C = braintrace.nn.Linear(size, size, b_init=None)
            self.D = brainstate.ParamState(brainstate.random.randn(size))
            self.build()

        def init_state(self, batch_size=None, **_):
            zero = braintools.init.ZeroInit()
            self.h = brainstate.HiddenState(braintools.init.param(zero, size, batch_size))

        def update(self, x):
            return self.C(self.advance(x)) + x * braintrace.element_wise(self.D.value)

    class MinGRU(Cell):
        def build(self):
            self.W_z = braintrace.nn.Linear(size, size)
            self.W_h = braintrace.nn.Linear(size, size)

        def advance(self, x):
            z = jax.nn.sigmoid(self.W_z(x))
            self.h.value = (1 - z) * self.h.value + z * self.W_h(x)
            return self.h.value

    class LIF(Cell):
        def build(self):
            self.W = braintrace.nn.Linear(size, size)
            self.tau_log = brainstate.ParamState(jnp.log(jnp.linspace(1.0, 100.0, size)))

        def advance(self, x):
            v = self.h.value
            leak = jnp.exp(-jnp.exp(-braintrace.element_wise(self.tau_log.value)))
            self.h.value = leak * (v - spike(v - 1.0)) + self.W(x)
            return spike(self.h.value - 1.0)

    class Network(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            makers = {"MinGRU": MinGRU, "LIF": LIF}
            make = makers.get(s.cell, lambda: braintrace.nn.LRUCell(size, size))
            self.cells = [make() for _ in range(depth)]
            self.decoder = braintrace.nn.Linear(size, OUT)

        def update(self, x):
            for one in self.cells:
                x = x + one(x)
            return self.decoder(x)

    return Network()


def _theirs(s: Setting) -> tuple[Any, dict[str, float]]:
    """A function that learns from a whole sequence, and the errors of a tiny network's gradient."""
    import jax
    import jax.numpy as jnp
    import optax

    brainstate, braintrace = map(importlib.import_module, ("brainstate", "braintrace"))
    tools = brainstate.transform
    batch = None if s.batch == 1 else s.batch

    def build(depth: int, size: int):
        network = _peer_network(s, depth, size)
        example = jnp.ones(size if batch is None else (batch, size))
        learner = braintrace.compile(
            network, braintrace.D_RTRL, example, batch_size=batch, vjp_method="multi-step"
        )
        params = network.states(brainstate.ParamState)

        def loss(x, y):
            made = learner(braintrace.MultiStepData(x[None]))
            return _squared_error(made.reshape(y.shape), y) / s.batch

        return (
            network,
            params,
            lambda x, y: tools.grad(lambda: loss(x, y), params, return_value=True)(),
        )

    network, params, gradient = build(1, 4)
    xs, ys = _data(s, 7, 4)
    online = jax.tree.map(lambda g: g.sum(0), tools.for_loop(gradient, xs, ys)[0])

    def whole():
        brainstate.nn.init_all_states(network, batch_size=batch)
        return _squared_error(tools.for_loop(network, xs), ys) / s.batch

    exact = tools.grad(whole, params)()
    errors = {
        ".".join(map(str, path)): max(
            float(abs(a - b).max() / max(float(abs(b).max()), 1e-6))
            for a, b in zip(*map(jax.tree.leaves, (online[path], exact[path])), strict=True)
        )
        for path in params
    }

    network, params, gradient = build(s.depth, s.size)
    xs, ys = _data(s, s.length, s.size)
    optimizer = _optimizer(s.optimizer)
    moments = brainstate.ShortTermState(
        optimizer.init({path: state.value for path, state in params.items()})
    )

    def step(x, y):
        grads, value = gradient(x, y)
        values = {path: state.value for path, state in params.items()}
        updates, moments.value = optimizer.update(dict(grads), moments.value, values)
        for path, state in params.items():
            state.value = optax.apply_updates(values[path], updates[path])
        return value

    return tools.jit(lambda: tools.for_loop(step, xs, ys)), errors


SIDES: dict[str, Any] = {
    "rtrl": _ours,
    "rtrl, nothing tested": lambda s: _ours(s, on_nonfinite="ignore"),
    "braintrace": _theirs,
    "no trace": _no_trace,
}


def work(side: str, setting: Setting) -> None:
    """Answer every line on stdin with the seconds, and those of the processor, that a run took."""
    import jax

    errors = None
    run = SIDES[side](setting)
    if side == "braintrace":
        run, errors = run
    start = time.perf_counter()
    losses = jax.block_until_ready(run())
    first = time.perf_counter() - start
    losses = jax.block_until_ready(run())  # types have settled: nothing is compiled after this
    finite = bool(jax.numpy.isfinite(losses).all())
    print(json.dumps({"first run": first, "errors": errors, "finite": finite}), flush=True)
    for _ in sys.stdin:
        start, worked = time.perf_counter(), time.process_time()
        jax.block_until_ready(run())
        print(time.perf_counter() - start, time.process_time() - worked, flush=True)


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
        "takes longer. `no trace` is wrong beyond one timestep and tests nothing: the floor.",
        "",
        "| cell | H | batch | layers | optimizer | rtrl | nothing tested | braintrace | no trace "
        "| braintrace / rtrl | / nothing tested | rtrl / no trace |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
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
        lines.append(f"| {' | '.join(map(str, s))} | {' | '.join([*times, *shares])} |")
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
