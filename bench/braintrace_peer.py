"""Per-step online learning inside a compiled loop: this library against braintrace 0.2.6.

    python bench/braintrace_peer.py              all networks, about four minutes
    python bench/braintrace_peer.py --quick      one layer, few rounds

The same network on both sides: `depth` residual layers x + C h + D * x with real or complex h, then
a linear readout; 64 features, 64 modules, batch 1, float32. One gradient and one update by SGD at
every timestep, T = 1024 timesteps in one compiled loop with the parameters updated inside. LRU is
braintrace's own cell; MinGRU is written with its linear layers, as its own MiniGRU has a gate that
sees the state and is another network.

braintrace runs as D_RTRL in windows of one timestep of its "multi-step" mode. Its default,
"single-step", gives readouts a gradient of zero, so it does less; both are timed, and we compare
with the faster one of those whose gradient is right. Right is what agrees, on a tiny network of one
layer, with BPTT by braintrace's own tools. This side also does what it always does: it tests
inputs, losses and gradients for numbers that are not finite.

A third program is the floor for both: the gradient of every timestep's loss through that timestep
alone, in plain JAX, and the update. It has no trace, no tests, and is wrong beyond one timestep.

braintrace needs an environment of its own, made on first use in .venv-braintrace (or name a Python
that has it with --peer). Each side runs in a process of its own, and they take turns.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

SIZE, OUT, LENGTH, RATE = 64, 8, 1024, 1e-7
ROOT = Path(__file__).parent.parent
PACKAGES = ("braintrace==0.2.6", "jax==0.10.2", "brainstate==0.5.4", "braintools==0.3.0")


# The two sides, each in a process of its own ---------------------------------------------------


def _our_network(cell: str, depth: int):
    import equinox as eqx
    import jax
    from _networks import CELLS

    import rtrl

    return rtrl.SequenceModel(
        SIZE, OUT, SIZE, depth, lambda size, key: CELLS[cell](size, SIZE, key=key),
        activation=lambda y: y, glu=None, norm=None, encoder=eqx.nn.Identity(),
        key=jax.random.key(0),
    )  # fmt: skip


def ours(cell: str, depth: int):
    """A function that learns from LENGTH timesteps."""
    import optax
    from _networks import Online

    return Online(_our_network(cell, depth), *_data(LENGTH, SIZE), optax.sgd(RATE))


def no_trace(cell: str, depth: int):
    """A function that takes LENGTH steps down the gradient through one timestep."""
    import equinox as eqx
    import jax
    from _networks import squared_error

    import rtrl

    network = _our_network(cell, depth)
    params, static = eqx.partition(network, eqx.is_array)
    start = (rtrl.init_carry(network, rtrl.BPTT()), params)

    @jax.jit
    def run(start, xs, ys):
        def step(state, xy):
            (x, y), (carry, params) = xy, state

            def loss(params):
                model = eqx.combine(params, static)
                predictions, after = model(x[None], carry, rule=rtrl.BPTT())
                return squared_error(predictions[0], y), after

            (value, carry), grads = jax.value_and_grad(loss, has_aux=True)(params)
            return (carry, jax.tree.map(lambda p, g: p - RATE * g, params, grads)), value

        return jax.lax.scan(step, start, (xs, ys))

    data = _data(LENGTH, SIZE)
    return lambda: run(start, *data)[1]


def _data(length: int, size: int):
    import jax

    keys = jax.random.split(jax.random.key(0))
    return jax.random.normal(keys[0], (length, size)), jax.random.normal(keys[1], (length, OUT))


def _peer_network(cell: str, depth: int, size: int) -> Any:
    import jax
    import jax.numpy as jnp

    brainstate, braintrace, braintools = map(
        importlib.import_module, ("brainstate", "braintrace", "braintools")
    )

    class MinGRU(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.W_z = braintrace.nn.Linear(size, size)
            self.W_h = braintrace.nn.Linear(size, size)
            self.C = braintrace.nn.Linear(size, size, b_init=None)
            self.D = brainstate.ParamState(brainstate.random.randn(size))

        def init_state(self, batch_size=None, **_):
            zero = braintools.init.ZeroInit()
            self.h = brainstate.HiddenState(braintools.init.param(zero, size, batch_size))

        def update(self, x):
            z = jax.nn.sigmoid(self.W_z(x))
            self.h.value = (1 - z) * self.h.value + z * self.W_h(x)
            return self.C(self.h.value) + x * braintrace.element_wise(self.D.value)

    class Network(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            make = MinGRU if cell == "MinGRU" else lambda: braintrace.nn.LRUCell(size, size)
            self.cells = [make() for _ in range(depth)]
            self.decoder = braintrace.nn.Linear(size, OUT)

        def update(self, x):
            for one in self.cells:
                x = x + one(x)
            return self.decoder(x)

    return Network(), jnp.ones(size)


def theirs(cell: str, depth: int, mode: str):
    """A function that learns from LENGTH timesteps, and the error of a tiny network's gradient."""
    import jax

    brainstate, braintrace = map(importlib.import_module, ("brainstate", "braintrace"))
    tools = brainstate.transform

    def build(depth, size):
        network, example = _peer_network(cell, depth, size)
        learner = braintrace.compile(network, braintrace.D_RTRL, example, vjp_method=mode)
        params = network.states(brainstate.ParamState)

        def loss(x, y):
            x = braintrace.MultiStepData(x[None]) if mode == "multi-step" else x
            return ((learner(x).reshape(y.shape) - y) ** 2).sum()

        def gradient(x, y):
            return tools.grad(lambda: loss(x, y), params, return_value=True)()

        return network, params, gradient

    network, params, gradient = build(1, 4)
    xs, ys = _data(7, 4)
    online = jax.tree.map(lambda g: g.sum(0), tools.for_loop(gradient, xs, ys)[0])

    def whole():
        brainstate.nn.init_all_states(network)
        return ((tools.for_loop(network, xs) - ys) ** 2).sum()

    exact = tools.grad(whole, params)()
    errors = {
        ".".join(map(str, path)): max(
            float(abs(a - b).max() / abs(b).max())
            for a, b in zip(*map(jax.tree.leaves, (online[path], exact[path])), strict=True)
        )
        for path in params
    }

    network, params, gradient = build(depth, SIZE)
    xs, ys = _data(LENGTH, SIZE)

    def step(x, y):
        grads, value = gradient(x, y)
        for path, state in params.items():
            state.value = jax.tree.map(lambda p, g: p - RATE * g, state.value, grads[path])
        return value

    run = tools.jit(lambda: tools.for_loop(step, xs, ys))
    return run, errors


OURS = {"rtrl": ours, "no trace": no_trace}


def work(side: str, cell: str, depth: int) -> None:
    """Answer every line on stdin with the seconds that a run took."""
    import jax

    errors = None
    if side in OURS:
        run = OURS[side](cell, depth)
    else:
        run, errors = theirs(cell, depth, side)
    start = time.perf_counter()
    losses = jax.block_until_ready(run())
    first = time.perf_counter() - start
    losses = jax.block_until_ready(run())  # types have settled: nothing is compiled after this
    finite = bool(jax.numpy.isfinite(losses).all())
    print(json.dumps({"first run": first, "errors": errors, "finite": finite}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        jax.block_until_ready(run())
        print(time.perf_counter() - start, flush=True)


# The clock -------------------------------------------------------------------------------------


class Worker:
    def __init__(self, python: str, side: str, cell: str, depth: int):
        environment = os.environ | {"PYTHONWARNINGS": "ignore", "JAX_PLATFORMS": "cpu"}
        command = [python, __file__, "--worker", side, cell, str(depth)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def answer(self) -> Any:
        assert self.process.stdout
        for line in self.process.stdout:
            if line[0] in "{0123456789":
                return json.loads(line)
        raise RuntimeError(f"{self.process.args} ended")

    def run(self) -> float:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        self.process.communicate()


def compare(peer: str, cell: str, depth: int, rounds: int) -> dict[str, Any]:
    """Seconds of every round of both sides, taking turns."""
    sides = dict.fromkeys(OURS, sys.executable) | {"single-step": peer, "multi-step": peer}
    times: dict[str, list[float]] = {side: [] for side in sides}
    workers, about = {}, {}
    for side, python in sides.items():
        workers[side] = Worker(python, side, cell, depth)
        about[side] = workers[side].answer()  # compiled one after the other
    for _ in range(rounds):
        for side, worker in workers.items():
            times[side].append(worker.run())
    for worker in workers.values():
        worker.end()
    return {"times": times, "about": about, "length": LENGTH}


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", help="a Python that has braintrace")
    parser.add_argument("--quick", action="store_true", help="one layer, few rounds")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker[0], options.worker[1], int(options.worker[2]))
    peer = options.peer or environment()
    for cell in ("LRU", "MinGRU"):
        for depth in (1,) if options.quick else (1, 4):
            result = compare(peer, cell, depth, 3 if options.quick else 15)
            for side, seconds in result["times"].items():
                each = f"{1e6 * median(seconds) / LENGTH:.1f} microseconds a timestep"
                print(f"{cell}, {depth} layers, {side}: {each}", flush=True)


if __name__ == "__main__":
    main()
