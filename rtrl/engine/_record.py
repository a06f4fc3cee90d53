"""Records of arrays, such as states: pytrees that are cheap to make."""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import equinox as eqx
import jax

_T = TypeVar("_T", bound=type)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(eqx.field,))
def record(cls: _T) -> _T:
    """Make a class an immutable dataclass and a pytree, as an Equinox module is.

    Printed and compared as one, but without what only layers need (methods that are pytrees,
    conversions and checks of fields), which takes much longer: a stream makes several records for
    every item.
    """
    made: Any = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
    made.__repr__ = lambda self: eqx.tree_pformat(self)
    made.__eq__ = lambda self, other: eqx.tree_equal(self, other)
    made.__hash__ = lambda self: hash(tuple(jax.tree.leaves(self)))
    return jax.tree_util.register_dataclass(made)
