"""The inputs of a stream without units: levels and moves, each on a running scale."""

from typing import Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from rtrl.streams._pair import Pairs, as_pair, minus
from rtrl.streams._scale import Scale


class Columns(eqx.Module):
    """Scales of every column of the inputs.

    Attributes:
        last: the last known values, as pairs; they stand for values that are missing.
        level, move: scales of the values, and of their changes from row to row.
    """

    last: Pairs
    level: Scale
    move: Scale

    @classmethod
    def empty(cls, columns: int) -> Self:
        nothing = jnp.full((columns, 2), jnp.nan, jnp.float32)
        return cls(nothing, Scale.empty(columns), Scale.empty(columns))

    def take(
        self, x: Pairs, reset: Array, memory: float
    ) -> tuple[Self, Float[Array, " columns"], Float[Array, " columns"]]:
        """Take in a row; give its levels and moves, standardised."""
        move = jnp.where(reset, jnp.nan, minus(x, self.last))
        level = self.level.update(x, memory)
        moves = self.move.update(as_pair(move), memory)
        last = jnp.where(jnp.isfinite(x).all(-1, keepdims=True), x, self.last)
        new = type(self)(last, level, moves)
        # A move is about zero, whatever the mean of moves.
        size = jnp.sqrt(moves.variance + moves.mean[:, 0] ** 2)
        scaled = move / jnp.where(size > 0, size, 1)
        scaled = jnp.clip(jnp.where(jnp.isfinite(scaled), scaled, 0), -10, 10)
        return new, level.standardise(last), scaled
