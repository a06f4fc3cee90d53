"""Overlapping chunks without traces, written independently of the library's engine.

A learner of one sample, window by window. What it keeps ``overlap`` timesteps behind is the states
h and their dense Jacobian S by all parameters, flat and real::

    dL/dp = dL/dp (the window alone, h held fixed) + dL/dh S,    S <- dh'/dh S + dh'/dp

by ordinary autodiff, h' the states after as many timesteps as the window moves on by. ``credit``
says which part of the past S knows: ``"own"``, of every layer's own parameters, its inputs held
fixed, as RTRL; ``"all"``, as exact RTRL; ``"none"``, as truncated BPTT.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree


def _layer(block, h, x, reset, present, stop):
    """A layer once: its state and what the next one sees."""
    cell = block.cell
    h = jax.tree.map(lambda h0, h: jnp.where(reset, h0, h), cell.initial(), h)
    z = stop(block.norm(x))
    seen = cell.output(h)
    u = jax.tree.map(lambda w: w @ z, cell.project())
    recurrent = cell.recurrent()
    v = () if recurrent is None else (jax.tree.map(lambda w: w @ seen, recurrent),)
    after = cell.update(h, u, *v)
    h = jax.tree.map(lambda a, b: jnp.where(present, a, b), after, h)
    y = block.readout(cell.output(h), z)
    return h, x + block.mixer(y, block.activation(y))


def _run(model, states, xs, resets, stop=lambda z: z):
    """Through some timesteps; one whose input is not finite does not happen."""

    def step(states, timestep):
        x, reset = timestep
        present = jnp.isfinite(x).all()
        x, after = model.encoder(jnp.where(present, x, 0)), []
        for block, h in zip(model.layers, states, strict=True):
            h, x = _layer(block, h, x, reset, present, stop)
            after.append(h)
        return after, model.decoder(x)

    return jax.lax.scan(step, states, (xs, resets))


def _real(states):
    """Flat and real."""
    parts = [(h.real, h.imag) if jnp.iscomplexobj(h) else (h,) for h in jax.tree.leaves(states)]
    return ravel_pytree(parts)


def _restore(model, flat):
    """The states of a network from flat, real ones."""
    initial = [block.cell.initial() for block in model.layers]
    parts = _real(initial)[1](flat)
    leaves = [p[0] if len(p) == 1 else jax.lax.complex(*p) for p in parts]
    return jax.tree.unflatten(jax.tree.structure(initial), leaves)


def _network(model, flat):
    params, static = eqx.partition(model, eqx.is_inexact_array)
    return eqx.combine(ravel_pytree(params)[1](flat), static)


@eqx.filter_jit
def _objective(model, flat, kept, loss, xs, resets, ys, weights):
    """Derivatives of a window's objective by parameters and states, and its predictions."""

    def objective(flat, kept):
        network = _network(model, flat)
        _, predictions = _run(network, _restore(network, kept), xs, resets)
        new = predictions[len(xs) - len(ys) :]
        there = jnp.isfinite(ys).all(1) & jnp.isfinite(xs[len(xs) - len(ys) :]).all(1)
        losses = jax.vmap(loss)(new, jnp.nan_to_num(ys))
        return (jnp.where(there, weights, 0) * losses).sum(), new

    return jax.grad(objective, (0, 1), has_aux=True)(flat, kept)


@eqx.filter_jit
def _advance(model, flat, kept, xs, resets, credit):
    """The states after some timesteps, and their derivatives by parameters and states before."""
    stop: Any = jax.lax.stop_gradient if credit == "own" else lambda z: z

    def advance(flat, kept):
        network = _network(model, flat)
        return _real(_run(network, _restore(network, kept), xs, resets, stop)[0])[0]

    return advance(flat, kept), *jax.jacfwd(advance, (0, 1))(flat, kept)


def learn(model, loss, xs, ys, weights, resets, *, chunk, overlap, rate, credit):
    """Plain gradient descent in overlapping chunks: the final model, and the predictions."""
    flat, _ = ravel_pytree(eqx.filter(model, eqx.is_inexact_array))
    kept, _ = _real([block.cell.initial() for block in model.layers])
    S = jnp.zeros((kept.size, flat.size))
    predictions, begin = [], 0
    for t in range(0, len(xs), chunk):
        new, window = slice(t, t + chunk), slice(begin, t + chunk)
        (by_params, by_kept), made = _objective(
            model, flat, kept, loss, xs[window], resets[window], ys[new], weights[new]
        )
        predictions.append(made)
        gradient = by_params + by_kept @ S
        upto = max(min(t + chunk, len(xs)) - overlap, 0)  # where the next window begins
        if upto > begin:
            part = slice(begin, upto)
            kept, of_params, of_kept = _advance(model, flat, kept, xs[part], resets[part], credit)
            S = jnp.zeros_like(S) if credit == "none" else of_kept @ S + of_params
        begin, flat = upto, flat - rate * gradient
    return _network(model, flat), jnp.concatenate(predictions)
