"""What an expert sees of a row."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float

LAGS = 30  # changes of the target from row to row


class Features(NamedTuple):
    """One row, as one target sees it; without units, so that all numbers are of size one.

    A *change* is what the target is to gain from its last known value until the value that is
    forecast, over the running deviation of such changes: what experts predict, and learn from.

    Attributes:
        level: the last value, in deviations from the running mean.
        mean: the change to the running mean.
        steps: changes from row to row, newest first, in the same unit as changes, ``(lags,)``.
        seasonal: changes that seasons tell, 0 before there is one, ``(6,)``: to the value one
            period before, of the period best at that; and, of the period whose changes repeat
            best, to the value one period before, to the mean of those of up to eight periods, the
            same change one period before, the mean of those of up to eight, and the newest step
            one period before.
        inputs: standardised levels of the columns that are not the target itself, ``(columns,)``.
        moves: standardised changes of these columns, ``(columns,)``.
        step: the newest change of the target, standardised.
        known: whether anything of the target is known yet.
        reset: whether a sequence begins with this row.
    """

    level: Float[Array, ""]
    mean: Float[Array, ""]
    steps: Float[Array, " lags"]
    seasonal: Float[Array, " 6"]
    inputs: Float[Array, " columns"]
    moves: Float[Array, " columns"]
    step: Float[Array, ""]
    known: Bool[Array, ""]
    reset: Bool[Array, ""]


class Sizes(NamedTuple):
    """What an expert is built for.

    Attributes:
        columns: inputs that are not the target itself.
        ahead: rows from the last value to the one that is forecast.
    """

    columns: int
    ahead: int
