"""The structure of a cell, proven from its code: which leaves do what, and what `update` is like.

`update` is traced on abstract arrays, all of the cell's own among them, so what the trace shows
holds for every state, input and value of the parameters. Nothing is tried out.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rtrl.cells import Cell
from rtrl.engine._dependence import dependences
from rtrl.engine._independence import Independence, Reach
from rtrl.engine._jaxpr import is_pure, read
from rtrl.engine._linearity import Degree, Linearity
from rtrl.engine._modules import Modules, all_weights
from rtrl.engine._signature import Signature, signature, trace_abstractly


class Structure(NamedTuple):
    """What is proven of a cell's code, the same for all values of its arrays.

    Attributes:
        module_leaves: indices of the parameter leaves that ``update`` uses: module parameters.
        projection_leaves: indices of those that ``project`` and ``recurrent`` use.
        affine: whether ``update`` is affine in ``(h, v)``, its derivatives are its slopes and its
            modules are independent. Then ``update(h, u) = D h + update(0, u)``, D sees no state.
        independent: whether module i of the new state, and of its derivatives, depends on nothing
            but module i of the state, the inputs and the parameters, and what all modules share.
        holomorphic: whether derivatives by complex states and inputs are complex numbers.

    Where ``affine``, ``independent`` or ``holomorphic`` is false there is no proof; it may hold.
    """

    module_leaves: tuple[int, ...]
    projection_leaves: tuple[int, ...]
    affine: bool
    independent: bool
    holomorphic: bool


def structure(modules: Modules) -> Structure:
    """Read off a cell's code what the engine may rely on."""
    return _structure(signature(modules.cell))


@functools.lru_cache(maxsize=256)
def _structure(signature: Signature) -> Structure:
    kinds, learned = signature.arrays(), signature.learned()

    def places(arguments: set[int]) -> tuple[int, ...]:
        """The parameter leaves among the arguments of a program."""
        return tuple(place for place, i in enumerate(learned) if i in arguments)

    def used(program) -> set[int]:
        return set().union(*dependences(program.jaxpr))

    example = jax.eval_shape(lambda arrays: _example(signature.cell(arrays)), kinds)
    h, u, v = example
    update = trace_abstractly(signature, _update, h, u, v)
    module_leaves = places(used(update))
    project = trace_abstractly(signature, all_weights)
    independent, holomorphic = _derivatives(signature, module_leaves, example)
    affine = False
    if independent and not update.effects:  # the affine path would print another state
        known = [*[Degree.NONE] * len(kinds), *[Degree.AFFINE] * len(h)]
        known += [*[Degree.NONE] * len(u), *[Degree.AFFINE] * len(v)]
        degrees = read(Linearity(h[0].dtype), update.jaxpr, known)
        affine = max(degrees) != Degree.OTHER
    return Structure(module_leaves, places(used(project)), affine, independent, holomorphic)


def _example(cell: Cell) -> tuple[list[Array], list[Array], list[Array]]:
    """State, projected and recurrent inputs of a timestep, for their shapes."""
    m = Modules(cell)
    h, w = m.example()
    count = len(m.weights())
    return list(h), list(w[:count]), list(w[count:])


def _update(cell: Cell, h: list[Array], u: list[Array], v: list[Array]) -> list[Array]:
    m = Modules(cell)
    return jax.tree.leaves(m.advance(jax.tree.unflatten(m.state_def, h), (*u, *v)))


def _derivatives(
    signature: Signature, module_leaves: tuple[int, ...], example
) -> tuple[bool, bool]:
    """Whether modules are independent, and whether `update` is holomorphic.

    Both are read off the program that gives the new state and its derivative along a direction, as
    custom derivatives are part of it. There the modules of arguments and directions must stay
    apart; and the derivative must be complex-linear in the directions of complex arguments, which
    is what holomorphic means.
    """
    h, u, v = example
    count = h[0].shape[0]
    kinds, learned = signature.arrays(), signature.learned()
    positions = [learned[place] for place in module_leaves]

    def program(cell, h, u, v, *directions):
        m = Modules(cell)

        def timestep(h, u, v, values):
            leaves = list(m.leaves)
            for i, value in zip(module_leaves, values, strict=True):
                leaves[i] = value
            cell = m.with_leaves(leaves)
            seen = [m.cell.output(jax.tree.unflatten(m.state_def, h))] if v else []
            return _update(cell, h, u, v), seen

        return jax.jvp(timestep, (h, u, v, [m.leaves[i] for i in module_leaves]), directions)

    directions = (h, u, v, [kinds[i] for i in positions])
    closed = trace_abstractly(signature, program, *example, *directions)
    if not is_pure(closed.jaxpr):
        return False, False

    def layouts(arrays):
        return [0 if array.shape == (count,) else Reach.SHARED for array in jax.tree.leaves(arrays)]

    of_cell = [
        Reach.SHARED if i not in positions else layouts(kind)[0] for i, kind in enumerate(kinds)
    ]
    known = [*of_cell, *layouts(example), *layouts(directions)]
    reached = read(Independence(count), closed.jaxpr, known)
    independent = count == 1 or all(layout in (0, Reach.SHARED) for layout in reached)

    dtype = h[0].dtype
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return independent, True
    moving = [
        Degree.AFFINE if jnp.issubdtype(d.dtype, jnp.complexfloating) else Degree.NONE
        for d in jax.tree.leaves(directions)
    ]
    fixed = [Degree.NONE] * (len(known) - len(moving))
    degrees = read(Linearity(dtype), closed.jaxpr, [*fixed, *moving])
    return independent, max(degrees) != Degree.OTHER
