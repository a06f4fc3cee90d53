"""Records of arrays, such as states: pytrees that are cheap to make."""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import equinox as eqx
import jax

_T = TypeVar("_T", bound=type)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(eqx.field,))
def record(cls: _T) -> _T:
    """Make a class an immutable dataclass and a pytree, as an Equinox module is.

    Without what only layers need (methods that are pytrees, conversions and checks of fields),
    which takes twenty times as long: a stream has several of them for every item. Two are the same
    only if they are one object.
    """
    made: Any = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
    made.__repr__ = lambda self: eqx.tree_pformat(self)
    return jax.tree_util.register_dataclass(made)
