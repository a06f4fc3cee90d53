"""Cells and layers one after the other, with nothing around them."""

from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Bool, PRNGKeyArray, PyTree

from rtrl.cells import is_cell
from rtrl.engine import Carry, Rule, recur
from rtrl.networks._block import each
from rtrl.validate import require


class Sequential(eqx.Module):
    """Recurrent cells and layers of a single timestep, one after the other.

    ::

        x^{l+1}_t = output(h^l_t)        a cell
        x^{l+1}_t = layer(x^l_t)         anything else, such as `equinox.nn.Linear`

    The plain network of neuromorphic hardware, which has no norm, gate or skip, and what
    `rtrl.device.from_nir` gives.

    Args:
        in_size: features of the input; ``None`` if timesteps have no feature axis (tokens).
        layers: cells of real outputs, and callables ``layer(x)`` that see one timestep of one
            sample; at least one cell.

    Raises:
        ValueError: no cell among the layers, or one that can't be called.
    """

    #: See `SequenceModel`.
    recurs_once: ClassVar[bool] = True

    layers: tuple[Any, ...]
    in_size: int | None = eqx.field(static=True)

    def __init__(self, in_size: int | None, layers: Sequence[Any]):
        require(in_size is None or in_size >= 1, "in_size", "at least 1", in_size)
        require(any(map(is_cell, layers)), "layers", "at least one cell", layers)
        for layer in layers:
            require(is_cell(layer) or callable(layer), "layers", "cells and callables", layer)
        self.in_size = in_size
        self.layers = tuple(layers)

    def __call__(
        self,
        xs: Array,
        carry: tuple[Carry, ...],
        *,
        rule: Rule,
        resets: Bool[Array, "time *batch"] | None = None,
        mask: Bool[Array, "time *batch"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[PyTree[Array], tuple[Carry, ...]]:
        """Predict a chunk of timesteps; under ``jax.grad`` the derivative is the rule's.

        Args:
            xs: inputs, ``(time, [batch,] in_size)``.
            carry: from `init_carry` or the last call, one per cell.
            rule: the learning rule.
            resets, mask: passed to `recur`.
            key: not used.

        Returns what the last layer gives, ``(time, [batch,] ...)``, and the new carry.

        Raises:
            ValueError: what `recur` refuses.
        """
        del key
        axes = jax.tree.leaves(carry[0].state)[0].ndim  # time, and batch where there is one
        rest, after = iter(carry), []
        for layer in self.layers:
            if is_cell(layer):
                xs, new = recur(layer, xs, next(rest), rule=rule, resets=resets, mask=mask)  # type: ignore[arg-type]
                after.append(new)
            else:
                xs = each(layer, xs, axes=axes)
        return xs, tuple(after)
