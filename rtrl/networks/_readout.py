"""The memoryless parts between recurrences: readout, gated linear unit, dense layer."""

import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rtrl.cells import Cell
from rtrl.validate import require

Glu = Literal["full", "half1", "half2"]


class Readout(eqx.Module):
    """Complex readout with a skip.

    ::

        y = Re(C h) + D * x,   C = C_re + i C_im

    For a cell whose output is real, C is real and ``C_im`` is ``None``; an output of several
    arrays is concatenated. C normal with variance ``1 / N`` per part, D standard normal.

    Args:
        cell: the cell whose output is read.
        size: H, features of ``x`` and ``y``.
        key: PRNG key of the initialisation.

    Source: Zucchet et al. (2023), equation B.2; D a vector as in the released code.
    """

    C_re: Float[Array, "H N"]
    C_im: Float[Array, "H N"] | None
    D: Float[Array, " H"]

    def __init__(self, cell: Cell, size: int, *, key: PRNGKeyArray):
        outputs = jax.tree.leaves(jax.eval_shape(lambda: cell.output(cell.initial())))
        features = sum(leaf.shape[0] for leaf in outputs)
        is_complex = any(jnp.iscomplexobj(leaf) for leaf in outputs)
        re_key, im_key, skip_key = jax.random.split(key, 3)

        def draw(key):
            return jax.random.normal(key, (size, features)) / math.sqrt(features)

        self.C_re = draw(re_key)
        self.C_im = draw(im_key) if is_complex else None
        self.D = jax.random.normal(skip_key, (size,))

    def __call__(self, output: PyTree[Array], x: Float[Array, " H"]) -> Float[Array, " H"]:
        """Read one timestep of one sample.

        Args:
            output: the cell's, leaves ``(N,)``.
            x: what the cell saw, ``(H,)``.
        """
        h = jnp.concatenate(jax.tree.leaves(output))
        y = self.C_re @ jnp.real(h) + self.D * x
        return y if self.C_im is None else y - self.C_im @ jnp.imag(h)


class GLU(eqx.Module):
    """Gated linear unit after an activation.

    ::

        full    (W1 g(y) + b1) * sigmoid(W2 g(y) + b2)
        half1   g(y) * sigmoid(W2 g(y) + b2)
        half2   y * sigmoid(W2 g(y) + b2)          with g = dropout(gelu(.))

    W1 and b1 are the field ``value`` (``None`` for the halves), W2 and b2 the field ``gate``.

    Args:
        size: H, features.
        kind: ``"full"``, ``"half1"`` or ``"half2"``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: another kind.

    Source: Zucchet et al. (2023), appendix B.1 (full); the variants of its released code.
    """

    value: eqx.nn.Linear | None
    gate: eqx.nn.Linear
    kind: Glu = eqx.field(static=True)

    def __init__(self, size: int, kind: Glu = "full", *, key: PRNGKeyArray):
        require(kind in ("full", "half1", "half2"), "glu", "'full', 'half1' or 'half2'", kind)
        value_key, gate_key = jax.random.split(key)
        self.kind = kind
        self.value = dense(size, size, key=value_key) if kind == "full" else None
        self.gate = dense(size, size, key=gate_key)

    def __call__(self, y: Float[Array, " H"], g: Float[Array, " H"]) -> Float[Array, " H"]:
        """Gate one timestep of one sample.

        Args:
            y: the readout, ``(H,)``.
            g: its activation after dropout, ``(H,)``.

        Returns what passes, ``(H,)``.
        """
        gate = jax.nn.sigmoid(self.gate(g))
        if self.value is not None:
            return self.value(g) * gate
        return (g if self.kind == "half1" else y) * gate


def dense(in_size: int, out_size: int, *, key: PRNGKeyArray) -> eqx.nn.Linear:
    """An affine map, weights truncated normal of variance ``1 / in_size``, biases zero."""
    linear = eqx.nn.Linear(in_size, out_size, key=key)
    # 0.88 is the standard deviation of a unit normal cut at two: dividing restores the variance.
    weight = jax.random.truncated_normal(key, -2.0, 2.0, (out_size, in_size))
    weight = weight / (0.87962566 * math.sqrt(in_size))
    return eqx.tree_at(
        lambda layer: (layer.weight, layer.bias), linear, (weight, jnp.zeros(out_size))
    )
