"""Gradients without traces, written independently of the library's engine.

Each runs a `SequenceModel` timestep by timestep, sample by sample, and differentiates the whole
loss with ordinary autodiff. `bptt` is the plain unrolled network. The others replace each
recurrence by one whose derivative is that of the rule (DESIGN section 4):

    same-timestep RTRL   h_t = f(h_{t-1}, W sg(x)),  seen as h_t + (q_t - sg q_t),
                         q_t = f(sg h_{t-1}, sg(W) x) with all parameters of f under sg
    truncated            h_t = f(sg h_{t-1}, W x)
    spatial              h_t = f(0, W x) + sg(f(h_{t-1}, W x) - f(0, W x))      D free of h

where sg is stop_gradient.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

stop = jax.lax.stop_gradient


def _project(weights, x):
    single = not isinstance(weights, tuple)
    u = tuple(x if w is None else w @ x for w in ((weights,) if single else weights))
    return u[0] if single else u


def _step(cell, h, x):
    recurrent = cell.recurrent()
    v = () if recurrent is None else (_project(recurrent, cell.output(h)),)
    return cell.update(h, _project(cell.project(), x), *v)


def _update(kind, cell, h, x):
    """The state to carry, and the same state as the rest of the network is to see it."""
    if kind == "bptt":
        after = _step(cell, h, x)
    elif kind == "truncated":
        after = _step(cell, stop(h), x)
    elif kind == "spatial":
        zero = _step(cell, jax.tree.map(jnp.zeros_like, h), x)
        full = _step(cell, h, x)
        after = jax.tree.map(lambda z, f: z + stop(f - z), zero, full)
    else:
        assert kind == "rtrl"
        after = _step(cell, h, stop(x))
        frozen = jax.tree.map(lambda a: stop(a) if eqx.is_inexact_array(a) else a, cell)
        spatial = _step(frozen, stop(h), x)
        # The error through x is of this timestep only, so it must not be carried on.
        return after, jax.tree.map(lambda m, q: m + q - stop(q), after, spatial)
    return after, after


def _block(kind, block, h, x):
    z = block.norm(x) if block.norm_position == "pre" else x
    h, seen = _update(kind, block.cell, h, z)
    y = block.readout(block.cell.output(seen), z)
    g = block.activation(y)
    x = x + (g if block.mixer is None else block.mixer(y, g))
    return h, (block.norm(x) if block.norm_position == "post" else x)


def _sample_loss(kind, model, loss, xs, ys, weights, resets):
    """The weighted loss of one sample, timestep by timestep."""
    initial = [block.cell.initial() for block in model.layers]

    def step(states, data):
        x, y, w, reset = data
        states = jax.tree.map(lambda h0, h: jnp.where(reset, h0, h), initial, states)
        x = model.encoder(x)
        after = []
        for block, h in zip(model.layers, states, strict=True):
            h, x = _block(kind, block, h, x)
            after.append(h)
        return after, w * loss(model.decoder(x), y)

    _, losses = jax.lax.scan(step, initial, (xs, ys, weights, resets))
    return losses.sum()


@partial(eqx.filter_jit)
def oracle_gradient(kind, model, loss, xs, ys, weights, resets):
    """Objective and gradient of a rule, ``kind`` one of bptt, rtrl, truncated, spatial."""

    def objective(model):
        one = partial(_sample_loss, kind, model, loss)
        if weights.ndim == 1:
            return one(xs, ys, weights, resets)
        return jax.vmap(one, 1)(xs, ys, weights, resets).mean()

    return eqx.filter_value_and_grad(objective)(model)


def relative_errors(a, b):
    """Per-leaf ||a - b|| / ||b|| by name; a leaf without gradient in b must have none in a."""
    errors = {}
    leaves_b = jax.tree.leaves(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), leaves_b, strict=True):
        x, y = np.asarray(x), np.asarray(y)  # nothing to compile
        scale, distance = np.linalg.norm(y), np.linalg.norm(x - y)
        errors[jax.tree_util.keystr(path)] = float(distance / scale if scale > 0 else distance)
    return errors
