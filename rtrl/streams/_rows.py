"""Rows, one or many, through one compiled loop; the state that goes from call to call."""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from rtrl.engine import one_kernel
from rtrl.learners import QUICK, Bound, Jitted
from rtrl.streams._pair import split
from rtrl.validate import require

S = TypeVar("S", bound="RowState")
T = TypeVar("T")

BLOCK = 256  # rows that go in at once, at most
NUMBERS = 1 << 16  # and numbers, of a table with many columns


class Given(NamedTuple):
    """A row as a learner takes it: ``(columns, 2)`` and ``(targets, 2)`` as pairs, or a class."""

    x: Array
    y: Array
    weight: Array
    reset: Array


class Rows(NamedTuple):
    """Rows to come, in a buffer of a fixed size of which the first ``count`` are meant.

    Attributes:
        numbers: a row a line: weight, reset, y and x as pairs, in one piece, as every piece takes
            its time to get to the device.
        count: how many.
    """

    numbers: Any
    count: Any


def packed(
    xs: np.ndarray, ys: np.ndarray, weights: np.ndarray, resets: np.ndarray, size: int
) -> Rows:
    """Rows in a buffer; one program takes one row or many."""
    count = len(xs)
    numbers = np.zeros((size, 2 + ys[0].size + 2 * xs.shape[1]), np.float32)
    numbers[:count, 0], numbers[:count, 1] = weights, resets
    numbers[:count, 2:] = np.concatenate([ys, split(xs)], 1).reshape(count, -1)
    return Rows(numbers, np.int32(count))


def advance(learner: Any, rows: Rows, inside: PyTree) -> tuple[PyTree, PyTree]:
    """Take ``rows.count`` rows, one after the other, by ``learner``.

    One row that comes live and a thousand from a file run through the same body of the same
    program, so that how rows were cut into blocks changes no bit.
    """
    arrays, static = eqx.partition(inside, eqx.is_array)
    size, columns = len(rows.numbers), 2 * learner.in_size

    def take(arrays, line):
        y, x = line[2 : len(line) - columns], line[len(line) - columns :]
        given = Given(x.reshape(-1, 2), y.reshape(-1, 2), line[0], line[1] > 0)
        inside, out = learner._row(eqx.combine(arrays, static), given)
        return eqx.filter(inside, eqx.is_array), out

    def loop(arrays, rows):
        def body(t, carry):
            arrays, outs = carry
            arrays, out = one_kernel(take, arrays, rows.numbers[t])
            outs = jax.tree.map(lambda all, one: all.at[t].set(one), outs, out)
            return arrays, outs

        outs = type(learner._told)(*(jnp.zeros((size, *shape)) for shape in learner._told))
        return jax.lax.fori_loop(0, rows.count, body, (arrays, outs))

    arrays, outs = one_kernel(loop, arrays, pieces=(rows,))
    return eqx.combine(arrays, static), outs


run = Jitted(advance, donate_last=True, options=QUICK)


class RowState:
    """All that a learner of rows knows: an immutable pytree, saved and loaded whole.

    Attributes:
        inside: all that lives on the device.
        items: rows taken so far.
        begins: whether a new sequence begins with the next row.
    """

    items: np.int64
    begins: np.bool_
    _fields: ClassVar = ("inside", "items", "begins")

    def __init__(self, inside: Any, items: Any, begins: Any):
        self._inside, self.items, self.begins = inside, items, begins
        self._loose: Loose | None = None

    def __init_subclass__(cls) -> None:
        jax.tree_util.register_pytree_with_keys(cls, cls._flatten, cls._unflatten)

    @property
    def inside(self) -> Any:
        """Put together when it is looked at: from row to row its arrays go by themselves."""
        if self._loose is not None and self._inside is None:
            self._inside = self._loose.bound.last_of(self._loose.arrays)
        return self._inside

    def _flatten(self) -> tuple[Any, None]:
        return [(jax.tree_util.GetAttrKey(f), getattr(self, f)) for f in self._fields], None

    def __reduce__(self) -> tuple[Any, ...]:
        """What `pickle` and `copy` take: the arrays, and no program."""
        require_there(self)
        return type(self), (self.inside, self.items, self.begins)

    @classmethod
    def _unflatten(cls, _: None, children: Any) -> Self:
        return cls(*children)


class Loose(NamedTuple):
    """A state on its way from row to row: whose, under which program, in which arrays."""

    learner: Any
    bound: Bound
    told: Any
    fixed: list[Any]
    arrays: list[Any]


def require_there(state: RowState) -> None:
    """Raise a `ValueError` if a call has used it up."""
    arrays = jax.tree.leaves(state._inside) if state._loose is None else state._loose.arrays
    gone = any(isinstance(a, jax.Array) and a.is_deleted() for a in arrays[:1])
    require(
        not gone,
        "state",
        "one that is still there (with donate=True a call uses it up)",
        "one that an earlier call has used up",
    )


def copied(state: S) -> S:
    """The same, with arrays of its own."""
    inside = jax.tree.map(lambda a: jnp.copy(a) if eqx.is_array(a) else a, state.inside)
    return type(state)(inside, state.items, state.begins)


def after(learner: Any, state: S, rows: Rows) -> tuple[S, PyTree]:
    """The state after rows, and what comes out of the loop."""
    loose = state._loose
    if loose is None or loose.learner is not learner or not loose.bound.holds():
        bound = run.bind(learner, rows, state.inside)
        arrays = bound.arrays_of(learner), bound.arrays_of(state.inside)
        loose = Loose(learner, bound, type(learner._told), *arrays)
    found = loose.bound([*loose.fixed, *rows], loose.arrays)
    count = len(loose.arrays)
    new = type(state)(None, state.items + rows.count, np.bool_(False))
    new._loose = loose._replace(arrays=found[:count])
    return new, loose.told(*found[count:])


class Begun(Generic[T]):
    """What is told of rows, on its way.

    Attributes:
        parts: of every block what comes out of it, and what its rows lacked.
        tell: makes of a part what the user gets.
    """

    def __init__(self, parts: list[tuple], tell: Callable[..., T]):
        self.parts, self.tell = parts, tell

    def forecast(self) -> T:
        """Wait for it; time first."""
        each = [self.tell(slice(len(part[1])), *part) for part in self.parts]
        if len(each) == 1:
            return each[0]
        return jax.tree.map(lambda *parts: np.concatenate(parts), *each)
