"""Proofs about code: what a value depends on, whether it is affine, whether modules stay apart.

Each holds for all values of all arrays, as it is read off the code and not off samples. Where the
code does not allow a proof the answer is no, and the engine takes the path that needs none.
"""

from collections.abc import Callable, Sequence

from jax.extend.core import JaxprEqn
from jaxtyping import PyTree

from rtrl.engine._jaxpr import Analysis, classify, trace


def depends(function: Callable[..., PyTree], *arguments: PyTree) -> bool:
    """Whether ``function(*arguments)`` may depend on any of its arguments."""
    code = trace(function, *arguments)
    inputs = range(len(code.jaxpr.invars))
    return any(classify(code, [frozenset([i]) for i in inputs], Dependence()))


class Dependence(Analysis):
    """Which of the numbered inputs a value is made of. Derivatives depend on no others."""

    free = frozenset()

    def anything(self, classes: Sequence[frozenset]) -> frozenset:
        return frozenset().union(*classes)

    def either(self, a: frozenset, b: frozenset) -> frozenset:
        return a | b

    def apply(self, eqn: JaxprEqn, classes: list[frozenset]) -> list[frozenset]:
        return [self.anything(classes)] * len(eqn.outvars)
