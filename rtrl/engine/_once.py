"""Whether a model runs every cell exactly once per call, proven from its code.

A `Deferred` trace advances as the derivative by it, which is right only if exactly one recurrence
takes it, as it was given, and the carry which that recurrence gave is what the model returns. The
model is traced once more with every recurrence as one named step, and the program that comes out is
followed from the carry that goes in to the one that comes out. It is followed through what runs a
program once, such as `jax.jit` and `jax.checkpoint`; any other operation makes another array.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jax.extend.core import Jaxpr, Literal
from jaxtyping import PyTree

from rtrl.cells import is_cell
from rtrl.engine._carry import Carry, is_carry
from rtrl.engine._deferred import Deferred
from rtrl.engine._jaxpr import called, subprograms

STEP = "rtrl.recur of cell "


class Origin(NamedTuple):
    """Where an array of a carry comes from."""

    place: int  # of the cell, in the order of `cells_of`
    leaf: int  # of its carry
    ran: bool  # whether a recurrence gave it, or it is the one given to the model


def is_observed(carry: Any) -> bool:
    """Whether a carry is one that `check_once` follows."""
    return (
        isinstance(carry, Carry)
        and isinstance(carry.trace, Deferred)
        and carry.trace.place is not None
    )


def as_one_step(run: Callable[..., Any], carry: Carry, arguments: PyTree) -> tuple[Any, Carry]:
    """Give ``run(*arguments, carry)``, a recurrence, as one named step of a traced program."""
    arrays, rest = eqx.partition(arguments, eqx.is_array)
    place = carry.trace.place

    def step(carry, arrays):
        outputs, after = run(*eqx.combine(arrays, rest), carry)
        return jax.lax.optimization_barrier((after, outputs))

    step.__name__ = f"{STEP}{place}"
    given = dataclasses.replace(carry, trace=carry.trace.trace)
    after, outputs = jax.jit(step)(given, arrays)
    return outputs, dataclasses.replace(after, trace=Deferred(after.trace, place=place))


def check_once(
    run: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]], params: PyTree, carry: PyTree
) -> None:
    """Raise a `ValueError` unless ``run`` runs every cell once and hands on what that gave.

    Args:
        run: ``(params, carry) -> (predictions, carry)``.
        params: holds the cells of ``carry``, in its order.
    """
    cells = [
        f"{type(node).__name__} ({jax.tree_util.keystr(path).lstrip('.') or 'the model itself'})"
        for path, node in jax.tree_util.tree_leaves_with_path(params, is_leaf=is_cell)
        if is_cell(node)
    ]
    carries, structure = jax.tree.flatten(carry, is_leaf=is_carry)
    shapes = []

    def observed(params, carries):
        given = [dataclasses.replace(c, trace=Deferred(c.trace, place=i))
                 for i, c in enumerate(carries)]  # fmt: skip
        _, after = run(params, jax.tree.unflatten(structure, given))
        got = jax.tree.structure(after, is_leaf=is_carry)
        if got != structure or not all(map(is_carry, jax.tree.leaves(after, is_leaf=is_carry))):
            _refuse("a carry like the one given, one Carry per cell", f"{got}")
        plain = [Carry(c.state, getattr(c.trace, "trace", c.trace))
                 for c in jax.tree.leaves(after, is_leaf=is_carry)]  # fmt: skip
        shapes[:] = [[a.shape for a in jax.tree.leaves(c)] for c in plain]
        return [jax.tree.leaves(c) for c in plain]

    with jax.disable_jit(False):
        program = jax.make_jaxpr(observed)(params, carries).jaxpr
    sizes = [len(jax.tree.leaves(c)) for c in carries]
    given = [Origin(i, k, False) for i, size in enumerate(sizes) for k in range(size)]
    steps: list[tuple[int, list[Origin | None]]] = []
    hidden: dict[int, str] = {}
    first = [None] * (len(program.invars) - len(given))
    returned = iter(_follow(program, [*first, *given], steps, hidden))

    for i, (cell, before) in enumerate(zip(cells, carries, strict=True)):
        run_as = f"{cell} run once by recur, on its carry as the model was given it"
        if i in hidden:
            _refuse(f"{run_as}", f"a run of it inside a {hidden[i]}, where it may run otherwise")
        mine = [origins for place, origins in steps if place == i]
        if len(mine) != 1:
            _refuse(run_as, f"{len(mine)} runs of it" if mine else "no run of it")
        states = len(jax.tree.leaves(before.state))
        expected = [Origin(i, k, False) for k in range(sizes[i])]
        if mine[0][states : sizes[i]] != expected[states:]:
            _refuse(run_as, "a trace that something was done to on the way (such as a "
                    "jax.lax.stop_gradient)")  # fmt: skip
        after = [next(returned) for _ in shapes[i]]
        if after != [origin._replace(ran=True) for origin in expected] or shapes[i] != [
            a.shape for a in jax.tree.leaves(before)
        ]:
            _refuse(
                f"the carry returned for {cell} to be the one that recur gave",
                _told(after, i, cells),
            )


def _told(after: list[Origin | None], place: int, cells: list[str]) -> str:
    """What a returned carry is instead."""
    if None in after:
        return "one that something was done to on the way (such as a jax.lax.stop_gradient)"
    others = {origin.place for origin in after if origin is not None} - {place}
    if others:
        return f"that of {cells[others.pop()]}"
    if any(origin is not None and not origin.ran for origin in after):
        return "the one from before"
    return "one of other shapes"


def _refuse(expected: str, got: str) -> None:
    raise ValueError(
        "model: recurs_once = True promises exactly one run per cell and call; expected "
        f"{expected}, got {got}. Correct the model, or leave recurs_once out: then traces advance "
        "in a pass of their own, and this is allowed."
    )


def _follow(
    jaxpr: Jaxpr, inputs: list, steps: list[tuple[int, list[Origin | None]]], hidden: dict[int, str]
) -> list[Origin | None]:
    """Where the results of a program come from; notes the recurrences on the way."""
    values: dict[Any, Origin | None] = dict(zip(jaxpr.invars, inputs, strict=True))

    def look_up(atom) -> Origin | None:
        return None if isinstance(atom, Literal) else values.get(atom)

    for eqn in jaxpr.eqns:
        origins: list[Origin | None] = [look_up(atom) for atom in eqn.invars]
        results: list[Origin | None] = [None] * len(eqn.outvars)
        place, inner = _place(eqn), called(eqn)
        if place is not None:
            steps.append((place, origins))
            results = [Origin(place, k, True) for k in range(len(eqn.outvars))]
        elif inner is not None:
            results = _follow(inner, origins, steps, hidden)
        else:
            for part in subprograms(eqn):
                hidden |= dict.fromkeys(_places(part), eqn.primitive.name)
        values |= zip(eqn.outvars, results, strict=True)
    return [look_up(atom) for atom in jaxpr.outvars]


def _place(eqn: Any) -> int | None:
    name = str(eqn.params.get("name", ""))
    return int(name.removeprefix(STEP)) if name.startswith(STEP) else None


def _places(jaxpr: Jaxpr) -> Iterator[int]:
    """The cells that a program runs."""
    for eqn in jaxpr.eqns:
        place = _place(eqn)
        if place is not None:
            yield place
        else:
            for part in subprograms(eqn):
                yield from _places(part)
