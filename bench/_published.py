"""RTRL of LRU networks as the paper's released code does it: traces of all timesteps at once.

States and the three traces of every layer are computed for all T timesteps by an associative scan,
and the errors of the same timestep are contracted with them in one einsum. Time must be known in
advance, and memory is T times that of one trace. Written here for the network of
`rtrl.SequenceModel` with LRUs; it gives the gradient of ``rtrl.RTRL(errors="timestep")``.

Source: Zucchet et al. (2023), equations B.5-B.10, and the code released with it (Flax).
"""

import equinox as eqx
import jax
import jax.numpy as jnp

stop = jax.lax.stop_gradient


def published_gradient(network, loss, xs, ys, weights):
    """Objective and gradient over a batch of sequences: xs (T, B, in_size), weights (T, B)."""
    depth = len(network.layers)

    def run(network, perturbations):
        states, inputs = [], []
        z = _each(network.encoder, xs)
        for layer, perturbation in zip(network.layers, perturbations, strict=True):
            x = _each(layer.norm, z)
            h = _recurrence(layer.cell, x) + perturbation
            states.append(h)
            inputs.append(x)
            y = layer.activation(_each(layer.readout, h, x))
            z = z + _each(layer.mixer, y, y)
        losses = jax.vmap(jax.vmap(loss))(_each(network.decoder, z), ys)
        return (weights * losses).sum() / xs.shape[1], (states, inputs)

    modules = network.layers[0].cell.nu_log.shape[0]
    zeros = [jnp.zeros((*xs.shape[:2], modules), jnp.complex64)] * depth
    objective, pull, (states, inputs) = jax.vjp(run, network, zeros, has_aux=True)
    grads, deltas = pull(jnp.ones(()))
    for i in range(depth):
        cell = _cell_gradient(network.layers[i].cell, states[i], inputs[i], deltas[i])
        grads = eqx.tree_at(lambda g, i=i: g.layers[i].cell, grads, cell)
    return objective, grads


def _each(function, *arrays):
    return jax.vmap(jax.vmap(function))(*arrays)


def _eigenvalue(cell):
    return jnp.exp(jax.lax.complex(-jnp.exp(cell.nu_log), jnp.exp(cell.theta_log)))


def _scan(eigenvalue, drive):
    """h_t = lambda h_{t-1} + drive_t for all t; powers of lambda have no batch or input axis."""
    decay = jnp.broadcast_to(eigenvalue, (len(drive), 1, len(eigenvalue)))
    decay = decay[..., None] if drive.ndim == 4 else decay

    def join(left, right):
        return right[0] * left[0], right[0] * left[1] + right[1]

    return jax.lax.associative_scan(join, (decay, drive))[1]


def _recurrence(cell, x):
    """States of all timesteps; errors reach x through the same timestep only."""
    cell = jax.tree.map(stop, cell)
    gamma = jnp.exp(cell.gamma_log)

    def drive(x):
        return jax.lax.complex(gamma * (x @ cell.B_re.T), gamma * (x @ cell.B_im.T))

    return stop(_scan(_eigenvalue(cell), drive(x))) + drive(x) - stop(drive(x))


def _cell_gradient(cell, h, x, delta):
    """Traces of all timesteps, then their product with the errors (B.5-B.10)."""
    eigenvalue, gamma = _eigenvalue(cell), jnp.exp(cell.gamma_log)
    before = jnp.concatenate([jnp.zeros_like(h[:1]), h[:-1]])
    projected = jax.lax.complex(x @ cell.B_re.T, x @ cell.B_im.T)
    to_eigenvalue = _scan(eigenvalue, before)
    to_gamma = _scan(eigenvalue, projected)
    to_B = _scan(eigenvalue, (gamma[:, None] * x[:, :, None, :]).astype(jnp.complex64))
    for_eigenvalue = (delta * to_eigenvalue).sum((0, 1))
    for_B = jnp.einsum("tbn,tbnh->nh", delta, to_B)
    return eqx.tree_at(
        lambda c: (c.nu_log, c.theta_log, c.gamma_log, c.B_re, c.B_im),
        cell,
        (
            jnp.real(for_eigenvalue * eigenvalue * -jnp.exp(cell.nu_log)),
            jnp.real(for_eigenvalue * eigenvalue * 1j * jnp.exp(cell.theta_log)),
            jnp.real((delta * to_gamma).sum((0, 1))) * gamma,
            jnp.real(for_B),
            -jnp.imag(for_B),
        ),
    )
