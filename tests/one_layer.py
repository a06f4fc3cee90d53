"""One layer on its own: its plain recurrence, and its gradient with and without a trace."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import rtrl


def one_step(cell, h, x, see=lambda phi: phi):
    """One timestep, recurrent projections included; ``see`` is applied to what modules see."""

    def project(weights, vector):
        return jax.tree.map(lambda w: w @ vector, weights)

    u, recurrent = project(cell.project(), x), cell.recurrent()
    v = () if recurrent is None else (project(recurrent, see(cell.output(h))),)
    return cell.update(h, u, *v)


def unrolled(cell, xs):
    """States and outputs of the cell's plain recurrence: no engine, no trace."""

    def step(h, x):
        h = one_step(cell, h, x)
        return h, (h, cell.output(h))

    return jax.lax.scan(step, cell.initial(), xs)[1]


def relative_error(a, b):
    a, b = (jax.tree.map(np.asarray, tree) for tree in (a, b))  # nothing to compile
    errors = jax.tree.map(lambda x, y: np.linalg.norm(x - y) / np.linalg.norm(y), a, b)
    return {
        jax.tree_util.keystr(p): float(e) for p, e in jax.tree_util.tree_leaves_with_path(errors)
    }


def linear_loss(outputs, weights):
    pairs = zip(jax.tree.leaves(outputs), weights, strict=True)
    return sum(jnp.real(jnp.conj(w) * y).sum() for y, w in pairs)


def bptt_gradient(cell, xs, weights):
    loss = eqx.filter_grad(lambda cell: linear_loss(unrolled(cell, xs)[1], weights))
    return eqx.filter_jit(loss)(cell)


def online_gradient(cell, xs, weights, rule, chunk):
    """Summed over chunks at fixed parameters, the carry handed on."""

    def learn(state, data):
        carry, total = state
        xs, weights = data

        def loss(cell):
            outputs, after = rtrl.recur(cell, xs, carry, rule=rule)
            return linear_loss(outputs, weights), (after, outputs)

        grads, (carry, outputs) = eqx.filter_grad(loss, has_aux=True)(cell)
        return (carry, jax.tree.map(jnp.add, total, grads)), outputs

    length = len(xs)

    def cut(a):
        return a.reshape(length // chunk, chunk, *a.shape[1:])

    start = (
        rtrl.init_carry(cell, rule),
        jax.tree.map(jnp.zeros_like, eqx.filter(cell, eqx.is_inexact_array)),
    )
    run = jax.jit(lambda: jax.lax.scan(learn, start, jax.tree.map(cut, (xs, weights))))
    (_, grads), outputs = run()
    return grads, jax.tree.map(lambda a: a.reshape(length, *a.shape[2:]), outputs)


def random_weights(outputs, seed=0):
    """Every output of every timestep counts, with random sign."""
    rng = np.random.default_rng(seed)

    def draw(y):
        w = rng.standard_normal(y.shape)
        return jnp.asarray(w + 1j * rng.standard_normal(y.shape) if jnp.iscomplexobj(y) else w)

    return [draw(y) for y in jax.tree.leaves(outputs)]
