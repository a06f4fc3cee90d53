"""The hidden states of a network without its traces: looking ahead, beginning anew."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from rtrl.cells import cells_of
from rtrl.engine import Carry, Chunk, is_carry
from rtrl.learners import _inputs
from rtrl.learners._jit import Jitted
from rtrl.learners._state import LearnerState
from rtrl.learners._step import remove_nonfinite
from rtrl.learners._stream_state import lead_of
from rtrl.rules import BPTT


def hidden(carry: PyTree) -> PyTree:
    """Strip the traces off what a network carries."""
    return jax.tree.map(lambda c: Carry(c.state, None), carry, is_leaf=is_carry)


@Jitted
def predict_one(model, x, carry):
    lead = jax.tree.leaves(carry)[0].shape[:-1]
    data = Chunk(x[None], None, jnp.ones((1, *lead)))
    # Under BPTT the recurrence is plain code: no trace is needed, and none is made.
    data, _ = remove_nonfinite(data)
    predictions, carry = model(data.xs, carry, rule=BPTT(), resets=None, mask=data.mask, key=None)
    return jax.tree.map(lambda a: a[0], predictions), carry


@Jitted
def restart(model, carry, mask):
    def restart(cell, carry):
        fresh = Carry(
            # The initial state of one sample, for all of them.
            jax.tree.map(lambda h0, h: jnp.broadcast_to(h0, h.shape), cell.initial(), carry.state),
            # What is not a sensitivity, such as the key of a random rule, goes on.
            jax.tree.map(
                lambda a: jnp.zeros_like(a) if eqx.is_inexact_array(a) else a, carry.trace
            ),
        )
        if mask is None:
            return fresh
        return jax.tree.map(
            lambda new, old: jnp.where(jnp.expand_dims(mask, range(1, old.ndim)), new, old),
            fresh,
            carry,
        )

    # A single cell has a carry by itself, a network a tuple of them: as `init_carry` gave it.
    if is_carry(carry):
        return restart(model, carry)
    return tuple(restart(cell, c) for cell, c in zip(cells_of(model), carry, strict=True))


@Jitted
def look_ahead(
    model: PyTree, carry: PyTree, xs: Array, resets: Array | None = None
) -> tuple[PyTree[Array], PyTree]:
    """Run a network over timesteps without learning: its last prediction and hidden states."""
    lead = jax.tree.leaves(carry)[0].shape[:-1]
    data, _ = remove_nonfinite(Chunk(xs, None, jnp.ones((len(xs), *lead)), resets))
    predictions, carry = model(data.xs, carry, rule=BPTT(), resets=resets, mask=data.mask, key=None)
    return jax.tree.map(lambda a: a[-1], predictions), carry


def example_input(state: LearnerState) -> np.ndarray:
    """What the model's in_size says; without one tokens, which the first item may correct."""
    size, lead = getattr(state.model, "in_size", None), lead_of(state)
    if size is None:
        # Without in_size there is no feature axis: a timestep is a token.
        return np.zeros(lead, np.int32)
    return np.zeros((*lead, size), _inputs.float_dtype(state.model))


def prediction_like(state: LearnerState, x: np.ndarray | None = None) -> PyTree:
    """Shape and dtype of a prediction."""
    example = example_input(state) if x is None else x

    def predict(model, carry):
        return model(example[None], carry, rule=BPTT(), resets=None, mask=None, key=None)[0]

    # Shapes alone: nothing runs, and nothing is compiled.
    predictions = eqx.filter_eval_shape(predict, state.model, hidden(state.carry))
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), predictions)
