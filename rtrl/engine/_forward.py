"""The forward phase: states of a chunk of timesteps, and the one-step derivatives around them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rtrl.engine._matrices import apply, identity, outer_sum
from rtrl.engine._modules import Modules
from rtrl.engine._partials import Partials
from rtrl.engine._rule import LocalRule
from rtrl.engine._structure import structure
from rtrl.engine._xla import branch


def project(weights: tuple[Array | None, ...], xs: Float[Array, "K B H"]) -> tuple[Array, ...]:
    """``u = W x`` for every input projection, batch and time in one GEMM."""
    return tuple(xs if w is None else outer_sum("nh,kbh->kbn", w, xs) for w in weights)


def states(m: Modules, h0, u, resets, mask) -> tuple[Array, Array]:
    """The states before and after every timestep, ``(K, B, d, N)`` each."""

    def restart(h, reset):
        # By `where` and not by a product: the state before a reset may hold anything, also NaN.
        return h if reset is None else jnp.where(reset[..., None, None], m.initial, h)

    def keep(after, before, present):
        return after if present is None else jnp.where(present[..., None, None], after, before)

    # What needs no state is done for all timesteps at once.
    if structure(m).affine and not m.recurrent():
        # By update(h, u) = D h + update(0, u), the constant part is the update at rest.
        drive = jax.vmap(jax.vmap(lambda u: m.update(jnp.zeros_like(m.initial), u)))(u)
        # D sees no state, so any state will do to ask for it.
        decay = m.per_timestep(m.decay, jnp.zeros_like(drive), u)
        steady = decay.shape[0] == 1

        def advance_affine(h, inputs):
            drive, decay_k = inputs
            return apply(decay[0] if steady else decay_k, h) + drive

        advance, inputs = advance_affine, (drive, None if steady else decay)
    else:

        def advance_any(h, u):
            return jax.vmap(m.update)(h, (*u, *m.recurrent_inputs(h)))

        advance, inputs = advance_any, u

    def step(h, step_inputs):
        inputs, reset, present = step_inputs
        before = restart(h, reset)
        after = keep(advance(before, inputs), before, present)
        return after, after

    if u[0].shape[0] == 1:
        only = jax.tree.map(lambda a: a[0], (inputs, resets, mask))
        if mask is None:
            _, h1 = step(h0, only)
        else:  # nothing happened, nothing to do; and h1 is written once for all that use it
            h1 = branch(
                mask.any(),
                lambda h0, only: step(h0, only)[1],
                lambda h0, only: restart(h0, only[1]),
                h0,
                only,
            )
        hs = h1[None]
    else:
        _, hs = jax.lax.scan(step, h0, (inputs, resets, mask))
    # What a timestep saw: the state before it, or the initial one where a sequence began there.
    before = restart(jnp.concatenate([h0[None], hs[:-1]]), resets)
    return before, hs


def one_step_derivatives(m: Modules, rule: LocalRule, before, xs, u, resets, mask) -> Partials:
    """The one-step derivatives that the rule's trace is made of."""
    # `Spatial` takes J and E at rest, which splits off the recurrent term only where the cell is
    # affine; elsewhere there is none to split off.
    around = before if rule.sees_state or not structure(m).affine else jnp.zeros_like(before)
    w = (*u, *m.recurrent_inputs(around))
    D = m.per_timestep(m.decay, before, w)
    J = [m.per_timestep(lambda h, w, p=p: m.gain(h, w, p), around, w) for p in range(len(w))]
    E = {
        m.names[i]: m.per_timestep(lambda h, w, i=i: m.immediate(h, w, i), around, w)
        for i in structure(m).module_leaves
    }
    # One slope for all recurrent projections: they multiply the same output.
    slope = m.per_timestep(m.slope, before) if m.recurrent() else None
    if resets is not None:
        # The state that a reset puts in place depends on nothing, so nothing passes it.
        D = jnp.where(resets[..., None, None, None], 0, D)
        slope = slope if slope is None else jnp.where(resets[..., None, None], 0, slope)
    if mask is not None:  # a timestep that did not happen: the state is handed on
        stay = identity(D.shape[2], D.dtype)
        if resets is not None:
            stay = jnp.where(resets[..., None, None, None], 0, stay)
        D = jnp.where(mask[..., None, None, None], D, stay)
        # `where` again: the derivatives at an input that was taken out may be NaN.
        J = [jnp.where(mask[..., None, None], j, 0) for j in J]
        E = {name: jnp.where(mask[..., None, None], e, 0) for name, e in E.items()}
    inputs = [None if weight is None else xs for weight in m.weights()]
    if m.recurrent():
        # A recurrent weight multiplies what the modules saw of each other, as W multiplies x.
        inputs += [m.gathered(jax.vmap(jax.vmap(m.visible))(around))] * len(m.recurrent())
    return Partials(D, tuple(J), E, tuple(inputs), m.recurrent_here(), slope, resets)
