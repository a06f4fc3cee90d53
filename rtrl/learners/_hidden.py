"""The hidden states of a network without its traces: looking ahead."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from rtrl.engine import Carry, Chunk, is_carry, kept_in_place
from rtrl.learners import _inputs
from rtrl.learners._guard import Bounds, bound_inputs
from rtrl.learners._jit import Bound, Jitted, split
from rtrl.learners._restart import renew
from rtrl.learners._state import LearnerState
from rtrl.learners._step import remove_nonfinite
from rtrl.learners._stream_state import lead_of
from rtrl.rules import BPTT


def hidden(carry: PyTree) -> PyTree:
    """Strip the traces off what a network carries: the newest states alone."""
    return jax.tree.map(
        lambda c: Carry(c.state if c.newest is None else c.newest, placement=c.placement),
        carry,
        is_leaf=is_carry,
    )


@Jitted
def predict_one(model, bounds, x, carry):
    prediction, carry = _run(model, carry, x[None], None, bounds)
    return jax.tree.map(lambda a: a[0], prediction), carry


@Jitted
def look_ahead(
    model: PyTree,
    carry: PyTree,
    xs: Array,
    resets: Array | None = None,
    bounds: Bounds = None,
) -> tuple[PyTree[Array], PyTree]:
    """Run a network over timesteps without learning: its last prediction and hidden states."""
    predictions, carry = _run(model, carry, xs, resets, bounds)
    return jax.tree.map(lambda a: a[-1], predictions), carry


class Ahead:
    """`look_ahead` to one input after the other, as a stream does.

    A model is taken apart once, if it holds nothing that can be changed in place.
    """

    def __init__(self):
        self._model: Any = None
        self._of_model: list[Any] = []
        self._bound: Bound | None = None
        self._key: Any = None

    def __call__(self, model: PyTree, carry: PyTree, x: Any, bounds: Bounds) -> tuple[Any, PyTree]:
        """Give the prediction from an input, and the hidden states after it."""
        (arrays, key), (last, last_key) = split((carry, x[None], None)), split(bounds)
        same = model is self._model and self._key == (key, last_key)
        if self._bound is None or not same or not self._bound.holds():
            self._of_model, (structure, _) = split(model)
            self._bound = look_ahead.bind(model, carry, x[None], None, bounds)
            self._key = key, last_key
            self._model = model if _is_frozen(structure) else None
        return self._bound.result_of(self._bound([*self._of_model, *arrays], last))


def _is_frozen(structure: Any) -> bool:
    """Whether a tree consists of what can't be changed: Equinox modules, tuples, records."""
    node = structure.node_data()
    if node is None:  # a leaf
        return True
    kind = node[0]
    records = getattr(getattr(kind, "__dataclass_params__", None), "frozen", False)
    frozen = records or issubclass(kind, eqx.Module | tuple | type(None))
    return frozen and all(map(_is_frozen, structure.children()))


def _run(model, carry, xs, resets, bounds):
    lead = jax.tree.leaves(carry)[0].shape[:-1]
    data, _ = remove_nonfinite(Chunk(xs, None, jnp.ones((len(xs), *lead)), resets))
    xs = bound_inputs(bounds, data.xs)
    # Under BPTT the recurrence is plain code: no trace is needed, and none is made.
    predictions, carry = model(xs, carry, rule=BPTT(), resets=resets, mask=data.mask, key=None)
    return predictions, kept_in_place(renew(model, carry, bool(lead))[0])


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
