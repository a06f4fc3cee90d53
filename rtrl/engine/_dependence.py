"""What a value depends on, proven from the code that computes it."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Jaxpr
from jaxtyping import Array, PyTree

from rtrl.engine._jaxpr import acts, read

Names = frozenset[int]


class Dependence:
    """The arguments that a value is made of.

    Every operation is taken to use all it is given, so a value depends on no argument that is not
    listed, whatever the values; one that is listed may still not matter (``0 * x``). Derivatives
    of a value depend on nothing that the value does not. What an operation does on the side may
    reach every other that does such things.
    """

    of_values = True

    def constant(self, value: Any) -> Names:
        return frozenset()

    def __init__(self):
        self.side: Names = frozenset()

    def either(self, a: Names, b: Names) -> Names:
        return a | b

    chosen = either

    def item(self, stacked: Names) -> Names:
        return stacked

    stack = item

    def apply(self, eqn: Any, inputs: list[Names]) -> list[Names]:
        names = frozenset[int]().union(*inputs)
        if acts(eqn):
            self.side |= names
            names = self.side
        return [names] * len(eqn.outvars)


def dependences(jaxpr: Jaxpr) -> list[Names]:
    """Which of its arguments, by number, each result of a program may depend on."""
    known = Dependence()
    inputs = [frozenset({i}) for i in range(len(jaxpr.invars))]
    while True:
        before = known.side
        results = read(known, jaxpr, inputs)
        if known.side == before:
            return results


def depends(function: Callable[[Any], PyTree[Array]], argument: PyTree[Array]) -> bool:
    """Whether ``function(argument)`` may depend on the value of ``argument``: no is a proof."""
    return any(dependences(jax.make_jaxpr(function)(argument).jaxpr))
