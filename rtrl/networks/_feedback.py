"""Errors that travel back through fixed random weights instead of the transposed ones."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, PRNGKeyArray, PyTree, UInt

from rtrl.cells import Cell, as_tuple, is_cell
from rtrl.networks._readout import Readout

stop = jax.lax.stop_gradient


class Fixed(eqx.Module):
    """A real array that is no parameter: kept as its bits, so that gradients, optimizers and weight
    decay pass it by."""

    bits: UInt[Array, "*s"]
    double: bool = eqx.field(static=True)

    def __init__(self, value: Array):
        self.double = value.dtype == jnp.float64
        self.bits = jax.lax.bitcast_convert_type(value, jnp.uint64 if self.double else jnp.uint32)

    def __call__(self) -> Array:
        return jax.lax.bitcast_convert_type(self.bits, jnp.float64 if self.double else jnp.float32)


class FeedbackCell(Cell):
    """A cell that sends errors to the layer below through fixed random weights.

    Everything but that is the inner cell's: states, outputs, and the gradient of its parameters.
    """

    cell: Cell
    random: tuple[tuple[Fixed, Fixed | None] | None, ...]

    def project(self):
        return self.cell.project()

    def recurrent(self):
        return self.cell.recurrent()

    def feedback(self) -> tuple[Array | None, ...]:
        def join(parts):
            re, im = parts
            return re() if im is None else jax.lax.complex(re(), im())

        return tuple(None if parts is None else join(parts) for parts in self.random)

    def update(self, h, u, *v):
        return self.cell.update(h, u, *v)

    def initial(self):
        return self.cell.initial()

    def output(self, h):
        return self.cell.output(h)


class FeedbackAffine(eqx.Module):
    """An affine map whose input gets its error through another one of the same form.

    ::

        y = f(stop x) + g(x) - stop g(x)      forward f, backward g for x and f for its parameters
    """

    inner: Callable
    random: PyTree
    rest: PyTree

    def __call__(self, *xs: Array) -> Array:
        fixed = jax.tree.map(lambda f: f(), self.random, is_leaf=lambda f: isinstance(f, Fixed))
        other = eqx.combine(fixed, self.rest)(*xs)
        return self.inner(*stop(xs)) + (other - stop(other))


def random_feedback(tree: PyTree, key: PRNGKeyArray) -> PyTree:
    """Let errors travel from layer to layer through fixed random weights: feedback alignment.

    ::

        y = W x   has the error of x  <-  B (error of y)   with a random B instead of W^T

    in every ``eqx.nn.Linear``, every `Readout` and every cell's input projections. What they
    compute is unchanged, and so are the gradients of the last of them; those of all below use
    errors that know nothing of the weights above. Errors through skips, norms and activations are
    as ever, and so is each layer's own trace. With `EProp` this is e-prop with random feedback.

    Each B is normal, of the root mean square of the W that it stands for. It is kept as plain
    bits, which no optimizer touches.

    Args:
        tree: a network, or any pytree of its parts.
        key: PRNG key of the random weights.

    Returns:
        The same with these parts wrapped: ``inner`` of a linear map or a readout and ``cell`` of a
        cell are the parts as they were.

    Raises:
        ValueError: there is no such part in the tree.

    Source: Lillicrap et al., "Random synaptic feedback weights support error backpropagation for
    deep learning" (2016), equation 3; Bellec et al. (2020), "random e-prop".
    """

    def is_part(node):
        return is_cell(node) or isinstance(node, (eqx.nn.Linear, Readout))

    parts, structure = jax.tree.flatten(tree, is_leaf=is_part)
    if not any(map(is_part, parts)):
        raise ValueError(
            f"tree: expected a network with cells, readouts or eqx.nn.Linear, got {type(tree)}."
        )
    keys = jax.random.split(key, len(parts))
    wrapped = [
        _wrap(part, k) if is_part(part) else part for part, k in zip(parts, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, wrapped)


def _wrap(part, key: PRNGKeyArray):
    if is_cell(part):
        weights = as_tuple(part.project())
        keys = jax.random.split(key, len(weights))
        return FeedbackCell(
            part,
            tuple(None if w is None else _parts(w, k) for w, k in zip(weights, keys, strict=True)),
        )
    weights, rest = eqx.partition(part, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(weights)
    keys = jax.random.split(key, len(leaves))
    random = jax.tree.unflatten(structure, [_draw(w, k) for w, k in zip(leaves, keys, strict=True)])
    return FeedbackAffine(part, random, rest)


def _parts(w: Inexact[Array, "N H"], key: PRNGKeyArray) -> tuple[Fixed, Fixed | None]:
    re_key, im_key = jax.random.split(key)
    if jnp.iscomplexobj(w):
        return _draw(w.real, re_key), _draw(w.imag, im_key)
    return _draw(w, re_key), None


def _draw(w: Array, key: PRNGKeyArray) -> Fixed:
    size = jnp.sqrt(jnp.mean(w**2))
    return Fixed(size * jax.random.normal(key, w.shape, w.dtype))
