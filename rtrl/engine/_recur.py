"""The recurrence: a chunk of timesteps of one cell, whose derivative is the rule's."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from rtrl.cells import Cell
from rtrl.engine._carry import Carry
from rtrl.engine._deferred import Deferred
from rtrl.engine._forward import one_step_derivatives, project, states
from rtrl.engine._modules import Modules
from rtrl.engine._once import as_one_step, is_observed
from rtrl.engine._placement import on_every_device
from rtrl.engine._rule import LocalRule, Rule, check_fit, check_rule
from rtrl.engine._structure import structure
from rtrl.engine._varying import axes_of, vary
from rtrl.validate import require


def recur(
    cell: Cell,
    xs: Float[Array, "time *batch H"],
    carry: Carry,
    *,
    rule: Rule,
    resets: Bool[Array, "time *batch"] | None = None,
    mask: Bool[Array, "time *batch"] | None = None,
) -> tuple[PyTree[Array], Carry]:
    """Advance a cell over a chunk of timesteps; under ``jax.grad`` its derivative is the rule's.

    ::

        h_t = update(h_{t-1}, W x_t),   output(h_t) for every timestep

    Under an online rule (`RTRL` and every other but those named next) the gradient of the cell's
    parameters holds all credit that the rule's trace carries into this chunk, and no derivative
    passes through the carry. Under `BPTT` and `ExactRTRL` the recurrence is ordinary
    differentiable code.

    Inside `jax.shard_map` the gradient of parameters that are the same on all devices is summed
    over the devices, as that of any other function is.

    Args:
        cell: the cell.
        xs: inputs, ``(time, [batch,] H)``, real.
        carry: from `init_carry` or the last call.
        rule: the learning rule, the one that ``carry`` was made for.
        resets: true where a new sequence begins: the state before that timestep is ``initial()``.
        mask: false where the timestep did not happen: the state stays as it was, nothing is
            learned. Default: all happen.

    Returns:
        The outputs, leaves ``(time, [batch,] N)``, and the new carry.

    Raises:
        ValueError: an argument's shape does not fit the cell or the carry.
    """
    check_rule(rule)
    check_fit(rule, cell)
    batched = _check_shapes(Modules(cell), xs, carry, rule, resets, mask)

    def run(cell, xs, resets, mask, carry):
        if carry.placement is None:
            return _run(cell, xs, carry, rule, resets, mask, batched=batched)

        def here(cell, data, carry):
            xs, resets, mask = data
            return _run(cell, xs, carry, rule, resets, mask, batched=batched)

        return on_every_device(here, cell, (xs, resets, mask), carry)

    if is_observed(carry):
        return as_one_step(run, carry, (cell, xs, resets, mask))
    return run(cell, xs, resets, mask, carry)


def _run(cell: Cell, xs, carry: Carry, rule: Rule, resets, mask, *, batched: bool):
    modules = Modules(cell, carry.placement and carry.placement.modules)
    if not batched:  # the engine always has a batch axis
        carry = jax.tree.map(lambda a: a[None], carry)
        xs, resets, mask = jax.tree.map(lambda a: a[:, None], (xs, resets, mask))
    if isinstance(rule, LocalRule):
        hs, carry = _run_local(modules, rule, xs, carry, resets, mask)
    else:
        hs, carry = _run_differentiable(modules, xs, carry, resets, mask)
    outputs = jax.vmap(jax.vmap(cell.output))(modules.unstack(hs))
    if not batched:
        outputs = jax.tree.map(lambda a: a[:, 0], outputs)
        carry = jax.tree.map(lambda a: a[0], carry)
    return outputs, carry


def _check_shapes(modules, xs, carry, rule, resets, mask) -> bool:
    weights = [w for w in modules.weights() if w is not None]
    size = weights[0].shape[1] if weights else modules.initial.shape[1]
    name = type(modules.cell).__name__
    require(isinstance(carry, Carry), "carry", "a Carry from init_carry(cell, rule)", carry)
    batch = jax.tree.leaves(carry.state)[0].shape[:-1]
    expected = ", ".join(("time", *map(str, batch), str(size)))
    require(
        jnp.ndim(xs) == 2 + len(batch) and xs.shape[1:] == (*batch, size),
        "xs",
        f"({expected}) for this {name} and carry",
        jnp.shape(xs),
    )
    require(jnp.isrealobj(xs), "xs", "real inputs", xs.dtype)
    require(xs.shape[0] >= 1, "xs", "at least one timestep", xs.shape)
    if isinstance(rule, LocalRule):
        trace = _plain(carry.trace)
        require(
            isinstance(trace, rule.trace_type),
            "carry",
            f"one made by init_carry for the rule {type(rule).__name__}",
            "a carry without a trace"
            if trace is None
            else f"a carry with a {type(trace).__name__}",
        )
    for argument, flags in (("resets", resets), ("mask", mask)):
        if flags is not None:
            expected = f"{xs.shape[:-1]} like xs without its last axis"
            require(jnp.shape(flags) == xs.shape[:-1], argument, expected, jnp.shape(flags))
    return bool(batch)


def _run_differentiable(m: Modules, xs, carry, resets, mask):
    """The recurrence as ordinary differentiable code."""
    if type(m.cell).feedback is Cell.feedback:
        u = project(m.weights(), xs)
    else:  # forward by one set of weights, back to the inputs by another
        through = project(m.feedback(), xs)
        forward = project(m.weights(), jax.lax.stop_gradient(xs))
        u = tuple(a + b - jax.lax.stop_gradient(b) for a, b in zip(forward, through, strict=True))
    # A rule of this kind keeps its trace, if any, outside of the recurrence: handed on as it is.
    _, hs = states(m, m.stack(carry.state), u, resets, mask)
    return hs, _carry_on(m, carry, hs, carry.trace)


def _carry_on(m: Modules, carry: Carry, hs, trace) -> Carry:
    """The carry after a chunk, or inside a window: what comes before the next."""
    if carry.advance is None:
        return Carry(m.unstack(hs[-1]), trace, placement=carry.placement)
    return Carry(
        m.unstack(hs[carry.advance - 1]), trace, m.unstack(hs[-1]), carry.advance, carry.placement
    )


def _run_local(modules: Modules, rule: LocalRule, xs, carry, resets, mask):
    """The recurrence with the rule's own derivative.

    Forward: states and one-step derivatives. Backward: the rule's local phase. The trace advances
    with the forward pass, or, if it is `Deferred`, with the backward pass: as the derivative by
    it, so that one pass over it gives the gradient too.
    """

    # What JAX may be tracing is an argument, not closed over: jit and scan inside grad need that.
    arrays, static = eqx.partition(modules.rest, eqx.is_array)
    advance, placement = carry.advance, carry.placement
    local, consume = rule.local, rule.consume
    if advance is not None:
        local = partial(rule.over_window, advance=advance)
        consume = partial(local, consume=True)

    def at(leaves, arrays):
        params = jax.tree.unflatten(modules.treedef, leaves)
        return Modules(eqx.combine(params, arrays, static), modules.axis)

    def forward(leaves, xs, carry, arrays, resets, mask):
        m = at(leaves, arrays)
        # Forward uses the weights, backward (`_to_inputs`) the feedback's: that is all that random
        # feedback is.
        u = project(m.weights(), xs)
        before, hs = states(m, m.stack(carry.state), u, resets, mask)
        partials = one_step_derivatives(m, rule, before, xs, u, resets, mask)
        # The trace after a chunk does not depend on the errors, so zeros do. What is computed of
        # the gradients, or of a trace that is deferred, is dropped as nothing uses it.
        _, after, _ = local(_plain(carry.trace), partials, jnp.zeros_like(hs))
        if isinstance(carry.trace, Deferred):
            after = carry.trace.to_come(after)
        return (hs, _carry_on(m, carry, hs, after)), (leaves, arrays, carry.trace, partials)

    def backward(residuals, cotangents):
        leaves, arrays, trace, partials = residuals
        # The cell is built anew: it holds arrays of this trace, not of the forward pass's.
        m = at(leaves, arrays)
        deltas, _ = cotangents  # no error comes back through the carry
        if isinstance(trace, Deferred):
            gradients, after, errors = consume(trace.trace, partials, deltas)
            # A cotangent need only have the argument's structure: this one is the trace after the
            # chunk.
            after = Deferred(eqx.filter(after, eqx.is_inexact_array))
            to_carry = Carry(None, after, None, advance, placement)
        else:
            gradients, _, errors = local(trace, partials, deltas)
            to_carry = None
        to_inputs = _to_inputs(m, partials.J, errors)
        axes = axes_of(deltas)
        return (
            *vary((_to_leaves(m, *gradients), to_inputs, to_carry), axes),
            None,
            None,
            None,
        )

    run = jax.custom_vjp(lambda *arguments: forward(*arguments)[0])
    run.defvjp(forward, backward)
    arguments = (modules.leaves, xs, carry, arrays, resets, mask)
    axes = axes_of(arguments)
    if isinstance(carry.trace, Deferred):  # its derivative must not be summed over devices
        fixed = any(axes - axes_of(a) for a in jax.tree.leaves(carry.trace))
        require(not fixed, "xs", "inputs that vary over no axis of the mesh but the data's and "
                "the state's", f"inputs that vary over {sorted(axes)}")  # fmt: skip
    return run(*vary(arguments, axes))


def _plain(trace):
    return trace.trace if isinstance(trace, Deferred) else trace


def _to_leaves(m: Modules, to_weights, to_modules) -> list[Array]:
    """Gradients of the cell's leaves from those of its weights and module parameters."""

    def fit(g, like):  # a parameter that modules share gets the sum of their gradients
        g = g if g.shape == like.shape else g.sum(0, keepdims=like.ndim == 2).reshape(like.shape)
        return g if jnp.iscomplexobj(like) else jnp.real(g)

    weights = (*m.weights(), *m.recurrent())
    to_weights = tuple(
        None if w is None else fit(g, w) for g, w in zip(to_weights, weights, strict=True)
    )
    gradients = m.pull_back_weights(to_weights)
    for i in structure(m).module_leaves:
        gradients[i] = gradients[i] + fit(to_modules[m.names[i]], m.leaves[i])
    return gradients


def _to_inputs(m: Modules, J, errors) -> Float[Array, "K B H"]:
    """The error of the inputs: through the projections, ``x <- W^T J^T delta``, or through the
    weights that stand for them there."""
    total = jnp.zeros((), m.initial.real.dtype)
    for w, j in zip(m.feedback(), J):  # noqa: B905  (recurrent projections come after)
        to_u = (j * errors).sum(2)
        if w is None:
            total = total + jnp.real(to_u)
            continue
        if w.shape[0] == 1:
            to_u = to_u.sum(-1, keepdims=True)
        # Re(W^T e) for a real x, without the half of the product that would be thrown away.
        if jnp.iscomplexobj(w):
            total = total + jnp.einsum("kbn,nh->kbh", to_u.real, w.real)
            total = total - jnp.einsum("kbn,nh->kbh", to_u.imag, w.imag)
        else:
            total = total + jnp.einsum("kbn,nh->kbh", jnp.real(to_u), w)
    return total
