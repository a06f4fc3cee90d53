"""A state as few arrays: every one takes its time in each call of a compiled program."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from rtrl.learners._jit import Jitted, Static, joined, split

#: Numbers of an array that is copied in less time than it takes to be an argument.
SMALL = 1 << 10


class Unsettled(Exception):
    """A step gives a state of another kind than it takes, as a first one may."""


class Packed(NamedTuple):
    """The arrays of a state between two steps.

    Attributes:
        alone: those that stay what they are.
        together: the others, in one vector for every dtype.
        proven: of how many updates to come it is known that they are finite.
    """

    alone: list[Array]
    together: dict[str, Array]
    proven: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Packing:
    """Where in a `Packed` state the arrays are, and what it is beside them: hashable.

    Attributes:
        key: of the state, as of `split`.
        places: shape and dtype of every array; for one that stays alone ``None``.
    """

    key: tuple[Any, Static]
    places: tuple[tuple[tuple[int, ...], str] | None, ...]

    def pack(self, state: PyTree, proven: Int[Array, ""]) -> Packed:
        """Inside a program; `Unsettled` if the state is of another kind."""
        arrays, key = split(state)
        settled = key == self.key and all(
            place is None or place == _place(a)
            for a, place in zip(arrays, self.places, strict=True)
        )
        if not settled:
            raise Unsettled
        return Packed(self._alone(arrays), self._together(self._of_small(arrays)), proven)

    def unpack(self, packed: Packed) -> Any:
        """Inside a program."""
        return self._whole(packed.alone, self._small(packed.together))

    def begin(self, state: PyTree) -> Packed:
        """Outside of one: the larger arrays are those of the state."""
        arrays = split(state)[0]
        nothing_proven = jax.device_put(np.int32(0))
        return Packed(self._alone(arrays), _together(self, self._of_small(arrays)), nothing_proven)

    def end(self, packed: Packed) -> Any:
        """Outside of one: the larger arrays are those of the packed state."""
        return self._whole(packed.alone, _apart(self, packed.together))

    def _of_small(self, arrays: Sequence[Array]) -> list[Array]:
        return [a for a, place in zip(arrays, self.places, strict=True) if place is not None]

    def _together(self, small: list[Array]) -> dict[str, Array]:
        kinds: dict[str, list[Array]] = {}
        for a, (_, dtype) in zip(small, filter(None, self.places), strict=True):
            kinds.setdefault(dtype, []).append(a.ravel())
        return {dtype: jnp.concatenate(arrays) for dtype, arrays in kinds.items()}

    def _alone(self, arrays: Sequence[Array]) -> list[Array]:
        return [a for a, place in zip(arrays, self.places, strict=True) if place is None]

    def _small(self, together: dict[str, Array]) -> list[Array]:
        begins, small = dict.fromkeys(together, 0), []
        for place in self.places:
            if place is not None:
                shape, dtype = place
                begin = begins[dtype]
                begins[dtype] = end = begin + math.prod(shape)
                small.append(together[dtype][begin:end].reshape(shape))
        return small

    def _whole(self, alone: Sequence[Array], small: Sequence[Array]) -> Any:
        each = iter(alone), iter(small)
        return joined([next(each[place is not None]) for place in self.places], self.key)


def packing_of(state: PyTree, small: int = SMALL) -> Packing:
    """How to pack a state; ``small``: the numbers up to which an array goes with others."""
    arrays, key = split(state)

    def place(a):
        # Keys are no numbers, and one of a weak type would come back with a strong one.
        alone = a.size > small or jnp.issubdtype(a.dtype, jax.dtypes.extended)
        return None if alone or getattr(a, "weak_type", False) else _place(a)

    return Packing(key, tuple(map(place, arrays)))


def _place(a: Array) -> tuple[tuple[int, ...], str]:
    return a.shape, str(a.dtype)


@Jitted
def _together(packing: Packing, small: list[Array]) -> dict[str, Array]:
    return packing._together(small)


@Jitted
def _apart(packing: Packing, together: dict[str, Array]) -> list[Array]:
    return packing._small(together)
