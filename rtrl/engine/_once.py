"""Holding a model to its word that it runs every cell once, so that traces may be `Deferred`.

A deferred trace advances in the backward pass: what comes back as its derivative is the trace
after the chunk. That is so only if the trace goes into one recurrence, and goes there untouched:
what runs twice would add two traces up, what is stopped or scaled on the way would come back so.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
from jax.extend.core import JaxprEqn
from jaxtyping import PyTree

from rtrl.cells import cells_of
from rtrl.engine._carry import Carry, is_carry
from rtrl.engine._deferred import defer
from rtrl.engine._jaxpr import Analysis, classify, trace

CHANGED = -1
# An axis of length 1 or none, or a note of which devices differ.
RESHAPES = {"reshape", "squeeze", "expand_dims", "broadcast_in_dim", "pvary", "pcast"}


def check_once(
    model: PyTree, run: Callable[..., tuple[PyTree, PyTree]], params: PyTree, carry: PyTree[Carry]
) -> None:
    """Refuse a model that says ``recurs_once`` and does not, by what its code does with traces.

    Args:
        model: the network, for the names of its cells.
        run: ``(params, carry) -> (predictions, carry)``.
        params: the network's parameters.
        carry: before the chunk.

    Raises:
        ValueError: a cell is run more than once, or its trace is not what reaches it, or another
            cell's carry comes back in its place.
    """
    traces, rest = defer(carry)
    places: list[Any] = []

    def forward(traces, params):
        predictions, after = run(params, eqx.combine(traces, rest))
        places[:] = [c.trace.place for c in jax.tree.leaves(after, is_leaf=is_carry)]
        return predictions, after

    code = trace(forward, traces, params)
    count = len(jax.tree.leaves(traces))
    owners = [
        k
        for k, c in enumerate(jax.tree.leaves(traces, is_leaf=is_carry))
        for _ in jax.tree.leaves(c)
    ]
    passing = Passing()
    inputs = range(len(code.jaxpr.invars))
    classify(code, [i if i < count else None for i in inputs], passing)

    cells = cells_of(model)
    advice = "Do so, or leave recurs_once out: then it may do as it likes"

    def refuse(cell: int, what: str) -> None:
        raise ValueError(
            f"model: {type(model).__name__} says recurs_once, so it is expected to hand the carry "
            f"of every cell to recur once and as it came, but {type(cells[cell]).__name__} "
            f"(cell {cell}) {what}. {advice}."
        )

    for i, runs in sorted(passing.runs.items()):
        if runs > 1:
            refuse(owners[i], "is run more than once from one carry")
    for i in sorted(passing.changed):
        refuse(owners[i], "gets a trace that was changed or stopped on the way")
    for k, place in enumerate(places):
        if place != k:
            refuse(k, f"has the carry of cell {place} in its place afterwards")


class Passing(Analysis):
    """Follows traces from where they come in to the recurrences that take them.

    The class of a value is the number of the input that it is, untouched; `CHANGED` if it was made
    of one.
    """

    free = None
    derivatives_matter = True

    def __init__(self):
        self.runs: dict[int, int] = {}
        self.changed: set[int] = set()

    def anything(self, classes: Sequence[int | None]) -> int | None:
        return self.free if all(c is None for c in classes) else CHANGED

    def either(self, a: int | None, b: int | None) -> int | None:
        return a if a == b else self.anything([a, b])

    def apply(self, eqn: JaxprEqn, classes: list[int | None]) -> list[int | None]:
        sizes = [v.aval.size for v in (eqn.invars[0], eqn.outvars[0])]  # type: ignore[union-attr]
        if eqn.primitive.name in RESHAPES and sizes[0] == sizes[1]:
            return classes[:1]
        self.changed.update(c for c in classes if c not in (None, CHANGED))
        return [self.anything(classes)] * len(eqn.outvars)

    def custom(self, eqn: JaxprEqn, classes: list[int | None]) -> list[int | None]:
        """A function with a derivative of its own: a recurrence takes the traces that enter it."""
        for c in set(classes) - {None, CHANGED}:
            self.runs[c] = self.runs.get(c, 0) + 1 + self.looping
        return [self.free] * len(eqn.outvars)
