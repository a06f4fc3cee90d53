"""The sides of `braintrace_peer.py`: one network and one learning step, written for each.

Each runs in a process of its own, braintrace's in an environment of its own as well, so what only
one of them has is imported where it is used.
"""

import importlib
import json
import sys
import time
from typing import Any, NamedTuple

import numpy as np

OUT, RATE, SHARPNESS = 8, 1e-7, 10.0


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


def optimizer_of(name: str) -> Any:
    import optax

    return {"sgd": optax.sgd, "adam": optax.adam}[name](RATE)


def noise_of(s: Setting, length: int, size: int) -> Any:
    """Inputs and targets, on the device, as braintrace's program holds them."""
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    lead = (length,) if s.batch == 1 else (length, s.batch)
    return tuple(jnp.asarray(rng.normal(size=(*lead, n)), jnp.float32) for n in (size, OUT))


def our_network(s: Setting) -> Any:
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

    learner = rtrl.OnlineLearner(squared_error, optimizer_of(s.optimizer), **chosen)
    data = noise_of(s, s.length, s.size)
    held = [learner.init(our_network(s), None if s.batch == 1 else s.batch)]

    def run():
        held[0], out = learner.scan(held[0], *data, chunk=1)
        return out.loss

    return run


def squared_error(prediction, target):
    return ((prediction - target) ** 2).sum()


def no_trace(s: Setting) -> Any:
    """A function that goes down the gradient through one timestep, for a whole sequence."""
    import equinox as eqx
    import jax
    import optax

    import rtrl

    network, optimizer = our_network(s), optimizer_of(s.optimizer)
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
                return squared_error(predictions[0], y) / s.batch, after

            (value, carry), grads = jax.value_and_grad(loss, has_aux=True)(params)
            updates, moments = optimizer.update(grads, moments, params)
            return (carry, optax.apply_updates(params, updates), moments), value

        return jax.lax.scan(step, start, (xs, ys))

    data = noise_of(s, s.length, s.size)
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
    # Or some of its networks of four layers begin so far out that they are not finite by the end.
    brainstate.random.seed(0)

    def build(depth: int, size: int):
        network = _peer_network(s, depth, size)
        example = jnp.ones(size if batch is None else (batch, size))
        learner = braintrace.compile(
            network, braintrace.D_RTRL, example, batch_size=batch, vjp_method="multi-step"
        )
        params = network.states(brainstate.ParamState)

        def loss(x, y):
            made = learner(braintrace.MultiStepData(x[None]))
            return squared_error(made.reshape(y.shape), y) / s.batch

        return (
            network,
            params,
            lambda x, y: tools.grad(lambda: loss(x, y), params, return_value=True)(),
        )

    network, params, gradient = build(1, 4)
    xs, ys = noise_of(s, 7, 4)
    online = jax.tree.map(lambda g: g.sum(0), tools.for_loop(gradient, xs, ys)[0])

    def whole():
        brainstate.nn.init_all_states(network, batch_size=batch)
        return squared_error(tools.for_loop(network, xs), ys) / s.batch

    exact = tools.grad(whole, params)()
    errors = {
        ".".join(map(str, path)): max(
            float(abs(a - b).max() / max(float(abs(b).max()), 1e-6))
            for a, b in zip(*map(jax.tree.leaves, (online[path], exact[path])), strict=True)
        )
        for path in params
    }

    network, params, gradient = build(s.depth, s.size)
    xs, ys = noise_of(s, s.length, s.size)
    optimizer = optimizer_of(s.optimizer)
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
    "no trace": no_trace,
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
