"""Proof that modules stay apart."""

from collections.abc import Sequence

from jax.extend.core import JaxprEqn

from rtrl.engine._jaxpr import Analysis

MIXED = -1


class Alignment(Analysis):
    """Along which axis a value keeps modules apart.

    Of an aligned value, entry i along that axis depends on module i of the inputs alone. Its class
    is the number of the axis, ``None`` for a value that no module reaches, `MIXED` where modules
    may meet.

    To keep modules apart in the derivatives too, it is asked about the code of ``jax.jvp``, in
    which custom derivatives are written out.
    """

    free = None

    def anything(self, classes: Sequence[int | None]) -> int | None:
        return self.free if all(c is None for c in classes) else MIXED

    def either(self, a: int | None, b: int | None) -> int | None:
        if a is None or b is None:
            return b if a is None else a
        return a if a == b else MIXED

    def stacked(self, c: int | None) -> int | None:
        return c if c is None or c == MIXED else c + 1

    def slice_of(self, c: int | None) -> int | None:
        return c if c is None or c == MIXED else c - 1  # 0 - 1: the modules are what is looped over

    def apply(self, eqn: JaxprEqn, classes: list[int | None]) -> list[int | None]:
        if eqn.primitive.name == "optimization_barrier":
            return classes
        if MIXED in classes:
            return [MIXED] * len(eqn.outvars)
        return [self._axis(eqn, classes)] * len(eqn.outvars)

    def _axis(self, eqn: JaxprEqn, classes: list[int | None]) -> int | None:
        name, params = eqn.primitive.name, eqn.params
        shapes = [v.aval.shape for v in eqn.invars]  # type: ignore[union-attr]
        after = eqn.outvars[0].aval.shape  # type: ignore[union-attr]
        if name == "dot_general":
            return self._product(params["dimension_numbers"], shapes, classes)
        together = self.free
        for c in classes:
            together = self.either(together, c)
        if together is None or together == MIXED:
            return together
        shape = next(s for s, c in zip(shapes, classes, strict=True) if c is not None)
        if name in ELEMENTWISE:
            return together
        if name == "broadcast_in_dim":
            there = params["broadcast_dimensions"][together]
            return there if after[there] == shape[together] else MIXED
        if name in ("reshape", "squeeze", "expand_dims"):
            return _reshaped(together, shape, after)
        if name == "transpose":
            return params["permutation"].index(together)
        if name in ("slice", "dynamic_slice"):  # all of an axis, so each entry where it was
            return together if after[together] == shape[together] else MIXED
        if name == "pad":
            return together if tuple(params["padding_config"][together]) == (0, 0, 0) else MIXED
        if name in ("concatenate", "cumsum", "rev"):
            along = (params.get("dimension"), params.get("axis"), *params.get("dimensions", ()))
            return together if together not in along else MIXED
        if name == "stack":
            return together + (params["axis"] <= together)
        if name in REDUCTIONS:
            axes = params["axes"]
            return MIXED if together in axes else together - sum(k < together for k in axes)
        return MIXED

    def _product(self, dimensions, shapes, classes) -> int | None:
        (contracted, batched), places = dimensions, []
        for side, c in enumerate(classes):
            if c is None:
                continue
            if c in contracted[side]:
                return MIXED
            if c in batched[side]:
                places.append(tuple(batched[side]).index(c))
                continue
            free = [
                k
                for k in range(len(shapes[side]))
                if k not in contracted[side] and k not in batched[side]
            ]
            left = len(shapes[0]) - len(contracted[0]) - len(batched[0]) if side else 0
            places.append(len(batched[side]) + left + free.index(c))
        return places[0] if len(set(places)) == 1 else MIXED


def _reshaped(axis: int, before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """Where an axis is after a reshape that leaves it whole."""
    count = 1
    for size in before[:axis]:
        count *= size
    total = 1
    for k, size in enumerate(after):
        if total == count and size == before[axis]:
            return k
        total *= size
    return MIXED


#: Entry by entry; operands of one shape, or scalars.
ELEMENTWISE = {
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "cbrt", "ceil", "clamp", "complex", "conj", "convert_element_type", "copy", "copy_p", "cos",
    "cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge",
    "gt", "imag", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt",
    "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pcast", "pow", "pvary", "real",
    "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt",
    "square", "stop_gradient", "sub", "tan", "tanh", "xor",
}  # fmt: skip


REDUCTIONS = {
    "reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "argmax",
    "argmin",
}  # fmt: skip
