"""Whether modules are independent of each other, proven from the code that computes them."""

import enum
import math
from typing import Any


class Reach(enum.Enum):
    """What of the modules a value depends on, where it is not laid out module by module."""

    SHARED = "on none of them"
    MIXED = "on several, or it is not understood on which"


#: Of an array laid out module by module: the axis whose index i depends on module i alone.
Layout = Reach | int

#: Operations on numbers that have the same place in all arguments.
ELEMENTWISE = frozenset(
    """neg sign floor ceil round is_finite exp exp2 expm1 log log1p sin cos tan sinh cosh tanh asin
    acos atan asinh acosh atanh sqrt rsqrt cbrt logistic erf erfc erf_inv lgamma digamma bessel_i0e
    bessel_i1e igamma igammac polygamma regularized_incomplete_beta abs real imag conj complex
    integer_pow square not and or xor add add_any sub mul div rem pow max min atan2 nextafter eq ne
    lt le gt ge shift_left shift_right_logical shift_right_arithmetic population_count clz select_n
    clamp convert_element_type bitcast_convert_type reduce_precision stop_gradient copy
    copy_p""".split()
)
#: Operations along the axes that a parameter names, independent along all others.
ALONG = {
    "reduce_sum": "axes", "reduce_prod": "axes", "reduce_max": "axes", "reduce_min": "axes",
    "reduce_and": "axes", "reduce_or": "axes", "argmax": "axes", "argmin": "axes",
    "squeeze": "dimensions", "rev": "dimensions", "concatenate": "dimension", "split": "axis",
    "cumsum": "axis", "cumprod": "axis", "cummax": "axis", "cummin": "axis",
    "cumlogsumexp": "axis",
}  # fmt: skip
#: Those of them whose results lack these axes.
DROP = {name for name in ALONG if name.startswith(("reduce", "arg"))} | {"squeeze"}


class Independence:
    """The `Layout` of a value in arguments of ``count`` modules.

    An argument ``(N,)`` is laid out along its axis, one of another shape is shared by all modules.
    A result of operations that work number by number, or along other axes, on values laid out
    alike is laid out like them; a value is mixed as soon as one such step can't be shown.
    """

    of_values = True

    def constant(self, value: Any) -> Layout:
        return Reach.SHARED

    def __init__(self, count: int):
        self.count = count

    def either(self, a: Layout, b: Layout) -> Layout:
        if a == b or b == Reach.SHARED:
            return a
        return b if a == Reach.SHARED else Reach.MIXED

    def chosen(self, by: Layout, value: Layout) -> Layout:
        return value if by == Reach.SHARED else Reach.MIXED

    def item(self, stacked: Layout) -> Layout:
        if isinstance(stacked, Reach):
            return stacked
        return stacked - 1 if stacked > 0 else Reach.MIXED

    def stack(self, item: Layout) -> Layout:
        return item if isinstance(item, Reach) else item + 1

    def apply(self, eqn: Any, inputs: list[Layout]) -> list[Layout]:
        name = eqn.primitive.name
        if name == "optimization_barrier":
            return inputs
        layouts = {layout for layout in inputs if layout != Reach.SHARED}
        if not layouts or not eqn.outvars:  # printing has no result
            result = Reach.SHARED
        elif Reach.MIXED in layouts:
            result = Reach.MIXED
        elif name == "dot_general":
            result = _multiplied(eqn, inputs)
        elif len(layouts) > 1:
            result = Reach.MIXED
        else:
            (axis,) = layouts
            moved = self._moved(eqn, inputs, axis)
            result = Reach.MIXED if moved is None else moved
        return [result] * len(eqn.outvars)

    def _moved(self, eqn: Any, inputs: list[Layout], axis: Any) -> int | None:
        """Where an operation on values laid out along ``axis`` puts it, ``None`` if it mixes."""
        name, params = eqn.primitive.name, eqn.params
        shapes = [
            atom.aval.shape
            for atom, layout in zip(eqn.invars, inputs, strict=True)
            if layout == axis
        ]
        shape, out = shapes[0], eqn.outvars[0].aval.shape
        if name in ELEMENTWISE:
            return axis if all(shape == out for shape in shapes) else None
        if name in ALONG:
            named = params[ALONG[name]]
            named = named if isinstance(named, (tuple, list)) else (named,)
            if axis in named:
                return None
            return axis - sum(a < axis for a in named) if name in DROP else axis
        first = inputs[0] == axis and all(layout == Reach.SHARED for layout in inputs[1:])
        match name:
            case "broadcast_in_dim":
                return params["broadcast_dimensions"][axis] if first else None
            case "transpose":
                return params["permutation"].index(axis)
            case "expand_dims":
                kept = [a for a in range(len(out)) if a not in params["dimensions"]]
                return kept[axis]
            case "stack":
                return axis + (axis >= params["axis"])
            case "unstack":
                along = params["axis"]
                return None if axis == along else axis - (axis > along)
            case "reshape":
                return self._reshaped(shape, out, axis)
            case "slice":
                whole = params["start_indices"][axis] == 0 and out[axis] == shape[axis]
                return axis if whole else None
            case "dynamic_slice":
                return axis if first and out[axis] == shape[axis] else None
        return None

    def _reshaped(self, shape: tuple[int, ...], out: tuple[int, ...], axis: int) -> int | None:
        """A reshape keeps an axis if as many numbers come before one step along it as before."""
        for k, size in enumerate(out):
            if size == self.count and math.prod(out[:k]) == math.prod(shape[:axis]):
                return k
        return None


def _multiplied(eqn: Any, inputs: list[Layout]) -> Layout:
    """A matrix product keeps a batch axis, and an axis of one factor that it does not sum."""
    contracted, batch = eqn.params["dimension_numbers"]
    axes = {side: axis for side, axis in enumerate(inputs) if not isinstance(axis, Reach)}
    if all(axis in batch[side] for side, axis in axes.items()):
        places = {batch[side].index(axis) for side, axis in axes.items()}
        return places.pop() if len(places) == 1 else Reach.MIXED
    (side, axis), *other = axes.items()
    if other or axis in contracted[side]:
        return Reach.MIXED
    free = [
        [a for a in range(atom.aval.ndim) if a not in (*summed, *along)]
        for atom, summed, along in zip(eqn.invars, contracted, batch, strict=True)
    ]
    return len(batch[0]) + side * len(free[0]) + free[side].index(axis)
