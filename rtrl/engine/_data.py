"""The data of a chunk, as the engine takes them."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, PyTree


class Chunk(NamedTuple):
    """Data of K timesteps, time first, the batch axis (if any) second.

    Attributes:
        xs: inputs.
        ys: targets, or ``None`` if there are none.
        weights: of the losses, ``(time, [batch])``.
        resets: where a new sequence begins, or ``None`` for nowhere.
        mask: false where a timestep did not happen, or ``None`` if all did.
    """

    xs: Array
    ys: PyTree[Array] | None
    weights: Float[Array, "time *batch"]
    resets: Bool[Array, "time *batch"] | None = None
    mask: Bool[Array, "time *batch"] | None = None


class Past(NamedTuple):
    """The timesteps of an overlap, oldest first: run again before every chunk, without losses.

    There are no resets among them: what came before one has not happened, by the mask.

    Attributes:
        xs: inputs, ``(overlap, [batch,] ...)``.
        mask: false where a timestep did not happen, ``(overlap, [batch])``; ``None`` if all did.
    """

    xs: Array
    mask: Bool[Array, "overlap *batch"] | None
