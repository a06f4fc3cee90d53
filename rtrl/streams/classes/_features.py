"""What experts of a classifier see."""

from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int

LAGS = 3  # classes of late


class ClassFeatures(eqx.Module):
    """What is known at a row.

    Attributes:
        last: the newest classes, newest first, ``(LAGS,)``; ``classes`` where there is none.
        inputs: standardised levels of the columns, ``(columns,)``.
        moves: standardised changes of these, ``(columns,)``.
        reset: whether a sequence begins with this row.
    """

    last: Int[Array, " lags"]
    inputs: Float[Array, " columns"]
    moves: Float[Array, " columns"]
    reset: Bool[Array, ""]


class ClassSizes(NamedTuple):
    """What an expert is built for.

    Attributes:
        columns: inputs that are not indicators of the class itself.
        classes: how many there are.
    """

    columns: int
    classes: int
