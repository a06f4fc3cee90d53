"""A residual block around a recurrent cell."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
from jaxtyping import Array, Bool, PRNGKeyArray, PyTree

from rtrl.cells import Cell
from rtrl.engine import Carry, Rule, recur
from rtrl.networks._dropout import dropout, split
from rtrl.networks._readout import GLU, Glu, Readout
from rtrl.validate import require

Norm = Literal["pre", "post"]


def each(function: Callable, *arrays: PyTree[Array], axes: int) -> PyTree[Array]:
    """Apply a function of one timestep of one sample over the leading axes."""
    for _ in range(axes):
        function = jax.vmap(function)
    return function(*arrays)


class Block(eqx.Module):
    """A residual block around a recurrent cell.

    ::

        z = norm(x)                         norm="pre"
        y = readout(recur(cell, z), z)
        y = dropout(mixer(y, dropout(activation(y))))
        x = x + y;  x = norm(x)             norm="post"

    Every part may be replaced (``eqx.tree_at``) by a callable of the same arguments, which sees
    one timestep of one sample: ``readout(output, x)``, ``mixer(y, g)``, ``norm(x)``.

    Args:
        cell: the recurrent cell, kept as it is.
        size: H, features of ``x`` and ``y``.
        activation: elementwise, after the readout; GELU in its tanh form by default.
        glu: gated linear unit, ``"full"``, ``"half1"``, ``"half2"`` (see `GLU`) or ``None``.
        norm: layer norm before the recurrence (``"pre"``), after the skip (``"post"``), or
            ``None``; the field ``norm_position`` remembers which.
        eps: epsilon of the layer norm.
        dropout: probability of dropping a feature, in ``[0, 1)``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: an argument out of its range.

    Source: Zucchet et al. (2023), appendix B.1.
    """

    cell: Cell
    readout: Callable
    mixer: Callable | None
    norm: Callable | None
    activation: Callable = eqx.field(static=True)
    norm_position: Norm | None = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        cell: Cell,
        size: int,
        *,
        activation: Callable = jax.nn.gelu,
        glu: Glu | None = "full",
        norm: Norm | None = "pre",
        eps: float = 1e-6,
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ):
        require(norm in ("pre", "post", None), "norm", "'pre', 'post' or None", norm)
        require(0 <= dropout < 1, "dropout", "a probability in [0, 1)", dropout)
        readout_key, mixer_key = jax.random.split(key)
        self.cell = cell
        self.readout = Readout(cell, size, key=readout_key)
        self.mixer = None if glu is None else GLU(size, glu, key=mixer_key)
        self.norm = None if norm is None else eqx.nn.LayerNorm(size, eps=eps)
        self.activation = activation
        self.norm_position = norm
        self.dropout = dropout

    def __call__(
        self,
        xs: Array,
        carry: Carry,
        *,
        rule: Rule,
        resets: Bool[Array, "time *batch"] | None = None,
        mask: Bool[Array, "time *batch"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Array, Carry]:
        """Run a chunk of timesteps; under ``jax.grad`` the derivative is the rule's.

        Args:
            xs: inputs, ``(time, [batch,] H)``.
            carry: the cell's, from `init_carry` or the last call.
            rule: the learning rule.
            resets, mask: passed to `recur`.
            key: PRNG key of the dropout, or one for every timestep, ``(time,)``; ``None`` for no
                dropout.

        Returns the features of the next layer, ``(time, [batch,] H)``, and the new carry.
        """
        axes = xs.ndim - 1
        keys = split(key, 2)
        z = self._normalise("pre", xs)
        hs, carry = recur(self.cell, z, carry, rule=rule, resets=resets, mask=mask)
        y = each(self.readout, hs, z, axes=axes)
        g = dropout(self.activation(y), keys[0], self.dropout)
        y = g if self.mixer is None else each(self.mixer, y, g, axes=axes)
        return self._normalise("post", xs + dropout(y, keys[1], self.dropout)), carry

    def _normalise(self, position: Norm, xs: Array) -> Array:
        if self.norm is None or self.norm_position != position:
            return xs
        return each(self.norm, xs, axes=xs.ndim - 1)
