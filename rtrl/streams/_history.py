"""What a target was: its values so far, newest first."""

from typing import Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rtrl.streams._pair import Pairs, minus


class History(eqx.Module):
    """The newest values of one target; the last known one stands for one that is missing.

    Before the first value all is what that will be: lags that reach back before it equal it.

    Attributes:
        values: newest first, as pairs, ``(length, 2)``.
        age: rows since the first known value, itself included; 0 while nothing is known.
    """

    values: Pairs
    age: Int[Array, ""]

    @classmethod
    def empty(cls, length: int) -> Self:
        return cls(jnp.zeros((length, 2), jnp.float32), jnp.int32(0))

    def push(self, value: Pairs, reset: Bool[Array, ""]) -> Self:
        """Take in the value of the next row, after forgetting all before it if ``reset``."""
        age = jnp.where(reset, 0, self.age)
        known = jnp.isfinite(value).all()
        value = jnp.where(known, value, self.values[0])
        moved = jnp.concatenate([value[None], self.values[:-1]])
        values = jnp.where(age > 0, moved, value)
        return type(self)(values, age + ((age > 0) | known))

    def since(self, first: int, last: int, rows: int) -> Float[Array, " lags"]:
        """How much the values at lags ``first`` .. ``last - 1`` had risen over ``rows`` rows."""
        return minus(self.values[first:last], self.values[first + rows : last + rows])

    def against_last(self, first: int, last: int) -> Float[Array, " lags"]:
        """The values at lags ``first`` .. ``last - 1``, less the newest."""
        return minus(self.values[first:last], self.values[0])

    def at(self, lags: Int[Array, " some"]) -> Float[Array, " some"]:
        """The values at some lags, less the newest; NaN before there were any."""
        inside = (lags < len(self.values)) & (lags < self.age)
        values = minus(self.values[jnp.minimum(lags, len(self.values) - 1)], self.values[0])
        return jnp.where(inside, values, jnp.nan)
