"""The networks that the benchmarks of speed time, and the programs that train them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import rtrl

CELLS: dict[str, Any] = {
    "LRU": rtrl.cells.LRU,
    "LeakyIntegrator": rtrl.cells.LeakyIntegrator,
    "MinGRU": rtrl.cells.MinGRU,
}
FEATURES = 8  # of inputs and targets


def squared_error(prediction, target):
    return ((prediction - target) ** 2).sum()


def stack(cell: str, depth: int = 4, modules: int = 64, width: int = 128) -> rtrl.SequenceModel:
    return rtrl.SequenceModel(
        in_size=FEATURES,
        out_size=FEATURES,
        width=width,
        depth=depth,
        cell=lambda size, key: CELLS[cell](size, modules, key=key),
        key=jax.random.key(0),
    )


def noise(length: int, batch: int | None):
    """Inputs and targets."""
    shape = (length, FEATURES) if batch is None else (length, batch, FEATURES)
    return jax.random.normal(jax.random.key(1), shape), jax.random.normal(jax.random.key(2), shape)


class Gradient:
    """A compiled gradient over a whole sequence, parameters held fixed."""

    def __init__(self, model, xs, ys, rule=None, chunk=None, *, loss=squared_error, function=None):
        self.params, static = eqx.partition(model, eqx.is_inexact_array)
        self.data = (xs, ys)

        def program(params, xs, ys):
            network = eqx.combine(params, static)
            if function is not None:
                return function(network, xs, ys)
            assert rule is not None
            return rtrl.sequence_gradient(network, loss, xs, ys, rule=rule, chunk=chunk)

        self.compiled = jax.jit(program).lower(self.params, xs, ys).compile()

    def __call__(self):
        return self.compiled(self.params, *self.data)

    def temporaries(self) -> int:
        """Bytes that the program needs beside its arguments and results."""
        analysis = self.compiled.memory_analysis()
        assert analysis is not None
        return int(analysis.temp_size_in_bytes)


class Online:
    """Learning a sequence with one update of the parameters a chunk, in one compiled scan."""

    def __init__(self, model, xs, ys, optimizer, *, rule=None, chunk=1, batch=None):
        rule = rtrl.RTRL() if rule is None else rule
        self.learner = rtrl.OnlineLearner(squared_error, optimizer, rule=rule)
        self.state = self.learner.init(model, batch)
        self.data, self.chunk = (xs, ys), chunk

    def __call__(self):
        self.state, out = self.learner.scan(self.state, *self.data, chunk=self.chunk)
        return out.loss


class UpdateAlone:
    """The optimizer by itself, once a timestep, in one compiled scan with donated state."""

    def __init__(self, model, optimizer: optax.GradientTransformation, length: int):
        params = eqx.filter(model, eqx.is_inexact_array)
        self.grads = jax.tree.map(lambda a: 0.1 * a, params)
        self.state = jax.tree.map(jnp.copy, (params, optimizer.init(params)))

        @partial(jax.jit, donate_argnums=0)
        def run(state, grads):
            def body(state, _):
                updates, opt_state = optimizer.update(grads, state[1], state[0])
                return (optax.apply_updates(state[0], updates), opt_state), None

            return jax.lax.scan(body, state, None, length=length)[0]

        self.run = run

    def __call__(self):
        self.state = self.run(self.state, self.grads)
        return self.state


def plain_bptt(network: rtrl.SequenceModel, xs, ys):
    """Backpropagation through time as one writes it by hand in JAX, without this library's engine.

    Layer by layer, everything without memory done for all timesteps at once.
    """

    def objective(network, xs, ys):
        over = jax.vmap if xs.ndim == 2 else lambda f: jax.vmap(jax.vmap(f))
        z = over(network.encoder)(xs)
        for layer in network.layers:
            x = over(layer.norm)(z)
            h = RECURRENCES[type(layer.cell)](layer.cell, x)
            y = layer.activation(over(layer.readout)(h, x))
            z = z + over(lambda y, mixer=layer.mixer: mixer(y, y))(y)
        losses = over(squared_error)(over(network.decoder)(z), ys)
        return losses.sum() / losses[0].size

    return jax.value_and_grad(objective)(network, xs, ys)


def _linear(decay, drive):
    """h_t = decay_t h_{t-1} + drive_t, ``decay`` one for all timesteps or one for each."""

    def step(h, inputs):
        d, u = (decay, inputs) if decay.ndim == 1 else inputs
        h = d * h + u
        return h, h

    inputs = drive if decay.ndim == 1 else (decay, drive)
    return jax.lax.scan(step, jnp.zeros_like(drive[0]), inputs)[1]


def _lru(cell, x):
    eigenvalue = jnp.exp(jax.lax.complex(-jnp.exp(cell.nu_log), jnp.exp(cell.theta_log)))
    gamma = jnp.exp(cell.gamma_log)
    drive = jax.lax.complex(gamma * (x @ cell.B_re.T), gamma * (x @ cell.B_im.T))
    return _linear(eigenvalue, drive)


def _min_gru(cell, x):
    z = jax.nn.sigmoid(x @ cell.W_z.T + cell.b_z)
    return _linear(1 - z, z * (x @ cell.W_h.T + cell.b_h))


def _leaky(cell, x):
    step = jax.vmap(cell.update) if x.ndim == 3 else cell.update
    u = x @ cell.project().T

    def advance(h, u):
        h = step(h, u)
        return h, h

    return jax.lax.scan(advance, jnp.zeros_like(u[0]), u)[1]


RECURRENCES: dict[type, Callable] = {
    rtrl.cells.LRU: _lru,
    rtrl.cells.MinGRU: _min_gru,
    rtrl.cells.LeakyIntegrator: _leaky,
}
