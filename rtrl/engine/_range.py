"""Between which numbers a value lies, proven from the code that computes it."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rtrl.engine._factors import Factors, over, single, times


class Range(NamedTuple):
    """What lies between two finite numbers, and is one; or, of infinite ones, nothing is known."""

    low: float
    high: float
    product: Factors | None = None  # whose it is, if it is one

    @property
    def known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


UNKNOWN = Range(-math.inf, math.inf)
TRUTH, NEVER, SURELY = Range(0, 1), Range(0, 0), Range(1, 1)

#: Below this a processor may take a number for zero.
TINY = float(np.finfo("f4").tiny)
#: Integers up to which a float of Python has them all.
EXACT = 2.0**53 - 1

#: What only moves numbers about, or leaves some out.
MOVES = frozenset(
    """
    broadcast_in_dim copy copy_p dynamic_slice expand_dims reduce_max reduce_min reshape rev slice
    split squeeze stop_gradient transpose unstack
    """.split()
)
#: What integers may be given to: of the rest, theirs is another.
OF_INTEGERS = MOVES | set(
    """
    abs add add_any clamp concatenate convert_element_type max min mul neg reduce_sum select_n sign
    sub
    """.split()
)
#: Comparisons, by what makes them certainly true and certainly false.
COMPARISONS: dict[str, tuple[Callable[[Range, Range], bool], Callable[[Range, Range], bool]]] = {
    "lt": (lambda a, b: a.high < b.low, lambda a, b: a.low >= b.high),
    "le": (lambda a, b: a.high <= b.low, lambda a, b: a.low > b.high),
    "gt": (lambda a, b: a.low > b.high, lambda a, b: a.high <= b.low),
    "ge": (lambda a, b: a.low >= b.high, lambda a, b: a.high < b.low),
}
#: Functions that grow with their argument, and above what they are defined.
RISING: dict[str, tuple[Callable[[float], float], float]] = {
    "sqrt": (math.sqrt, 0.0), "exp": (math.exp, -math.inf), "floor": (math.floor, -math.inf),
    "ceil": (math.ceil, -math.inf), "tanh": (math.tanh, -math.inf),
    "log": (math.log, TINY),
}  # fmt: skip
LOGICAL = frozenset("and or xor not eq ne reduce_and reduce_or is_finite".split())


class Ranges:
    """The `Range` of a value as it is computed, rounding and all.

    Values are real numbers, integers (which must not wrap around) and truths. Between two numbers
    means: no intermediate result of what was read can be infinite or NaN either, as a
    sixteenth of the largest number is not exceeded.
    """

    of_values = True

    def constant(self, value: Any) -> Range:
        if value is None or isinstance(value, Tracer):
            return UNKNOWN
        elsewhere = not getattr(value, "is_fully_addressable", True)
        if elsewhere or not _is_real(getattr(value, "dtype", type(value))) or not np.size(value):
            return UNKNOWN
        a = np.asarray(value)
        low, high = float(a.min()), float(a.max())
        if jnp.issubdtype(a.dtype, jnp.integer) and max(-low, high) > EXACT:
            return UNKNOWN
        return _checked(0.0 if 0 < low < TINY else low, 0.0 if -TINY < high < 0 else high)

    def either(self, a: Range, b: Range) -> Range:
        if a.low <= b.low and b.high <= a.high:
            return a
        if b.low <= a.low and a.high <= b.high:
            return b
        # To powers of two, of which there are finitely many: a loop is read until nothing grows.
        low, high = min(a.low, b.low), max(a.high, b.high)
        return _checked(-_power(-low) if low < 0 else 0.0, _power(high) if high > 0 else 0.0)

    def chosen(self, by: Range, value: Range) -> Range:
        return value

    def item(self, stacked: Range) -> Range:
        return stacked

    stack = item

    def apply(self, eqn: Any, inputs: list[Range]) -> list[Range]:
        name, outs = eqn.primitive.name, [v.aval for v in eqn.outvars]
        if name == "optimization_barrier":
            return inputs
        if all(map(_is_truth, outs)) and (name in LOGICAL or name in COMPARISONS):
            return [_compared(name, inputs)] * len(outs)
        if name == "select_n" and inputs[0] in (NEVER, SURELY):
            return [inputs[1 + int(inputs[0].low)]]  # of the other nothing need be known
        whole = any(jnp.issubdtype(out.dtype, jnp.integer) for out in outs)
        if not all(a.known for a in inputs) or (whole and name not in OF_INTEGERS):
            return [UNKNOWN] * len(outs)
        try:
            found, terms = _result(eqn, name, inputs)
        except (OverflowError, ValueError, ZeroDivisionError):
            found, terms = UNKNOWN, 1
        return [_rounded(found, out.dtype, terms) for out in outs]


def _is_real(dtype: Any) -> bool:
    return any(jnp.issubdtype(dtype, of) for of in (jnp.floating, jnp.integer, jnp.bool_))


def _is_truth(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.bool_)


def _compared(name: str, inputs: list[Range]) -> Range:
    if name in COMPARISONS and all(a.known for a in inputs):
        surely, never = COMPARISONS[name]
        if surely(*inputs):
            return SURELY
        if never(*inputs):
            return NEVER
    return TRUTH


def _result(eqn: Any, name: str, inputs: list[Range]) -> tuple[Range, int]:
    """The range in exact arithmetic, and how many numbers are added up for one."""
    a = inputs[0] if inputs else UNKNOWN
    b = inputs[1] if len(inputs) > 1 else UNKNOWN
    same = len(eqn.invars) > 1 and eqn.invars[0] is eqn.invars[1]
    if name in MOVES:
        return (a if eqn.invars[0].aval.size else UNKNOWN), 1  # the largest of none
    if name == "convert_element_type":
        whole = jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.integer)
        return (Range(math.trunc(a.low), math.trunc(a.high)) if whole else a), 1
    if name in ("add", "add_any"):
        return Range(a.low + b.low, a.high + b.high), 1
    if name == "sub":
        return Range(a.low - b.high, a.high - b.low), 1
    if name == "neg":
        return Range(-a.high, -a.low, a.product), 1
    if name == "square" or (name == "mul" and same):
        return _power_of(a, 2), 1
    if name == "integer_pow":
        return _power_of(a, eqn.params["y"]), 1
    if name == "abs":
        return Range(max(0.0, a.low, -a.high), max(-a.low, a.high), a.product), 1
    if name == "mul":
        found = _corners(lambda x, y: x * y, a, b)
        return found._replace(product=times(_factors(a), _factors(b))), 1
    if name == "div" and not b.low <= 0 <= b.high:
        found = _corners(lambda x, y: x / y, a, b)
        return found._replace(product=over(_factors(a), _factors(b))), 1
    if name == "pow" and b.low == b.high == round(b.low):
        return _power_of(a, round(b.low)), 1
    if name == "pow" and a.low > 0:
        return _corners(math.pow, a, b), 1
    if name == "rsqrt" and a.low > 0:
        return Range(1 / math.sqrt(a.high), 1 / math.sqrt(a.low)), 1
    if name in RISING and a.low >= RISING[name][1]:
        return Range(RISING[name][0](a.low), RISING[name][0](a.high)), 1
    if name == "round":
        return Range(math.floor(a.low), math.ceil(a.high)), 1
    if name in ("sin", "cos", "erf", "sign"):
        return Range(-1, 1), 1
    if name == "logistic":
        return TRUTH, 1
    if name in ("max", "min"):
        choose = max if name == "max" else min
        return Range(choose(a.low, b.low), choose(a.high, b.high)), 1
    if name == "clamp":
        least, a, most = inputs
        return Range(
            min(max(least.low, a.low), most.low), min(max(least.high, a.high), most.high)
        ), 1
    if name == "select_n":
        _, *cases = inputs
        return Range(min(c.low for c in cases), max(c.high for c in cases)), 1
    if name in ("concatenate", "stack"):
        return Range(min(c.low for c in inputs), max(c.high for c in inputs)), 1
    if name == "reduce_sum":
        terms = math.prod(eqn.invars[0].aval.shape[i] for i in eqn.params["axes"])
        return Range(terms * a.low, terms * a.high), terms
    return UNKNOWN, 1


def _power_of(a: Range, exponent: int) -> Range:
    if exponent < 0:
        # By way of the positive power, which must not be zero, nor so small as to be taken for it.
        low, high = _power_of(a, -exponent)[:2]
        far = min(abs(low), abs(high)) > 2 * TINY and (low > 0 or high < 0)
        return Range(1 / high, 1 / low) if far else UNKNOWN
    low, high = sorted((float(a.low) ** exponent, float(a.high) ** exponent))
    return Range(0.0 if exponent % 2 == 0 and a.low < 0 < a.high else low, high)


def _corners(function: Callable[[float, float], float], a: Range, b: Range) -> Range:
    """Of a function that rises or falls in each of its arguments."""
    values = [function(float(x), float(y)) for x, y in itertools.product(a[:2], b[:2])]
    return Range(min(values), max(values))


def _factors(a: Range) -> Factors:
    return a.product or single(a.low, a.high)


def _rounded(found: Range, dtype: Any, terms: int) -> Range:
    """A range as numbers of this kind have it; unknown where there might be no such number."""
    low, high, product = found
    if not found.known or not jnp.issubdtype(dtype, jnp.floating):
        if jnp.issubdtype(dtype, jnp.bool_):
            return TRUTH
        fits = jnp.issubdtype(dtype, jnp.integer) and (
            max(jnp.iinfo(dtype).min, -EXACT) <= low and high <= min(jnp.iinfo(dtype).max, EXACT)
        )
        return found if fits else UNKNOWN
    kind = jnp.finfo(dtype)
    least, most = float(kind.tiny), max(abs(low), abs(high))

    def slack(end: float) -> float:  # a few roundings; of a sum, those of all its terms
        return 16 * float(kind.eps) * (abs(end) if terms == 1 else terms * most) + least

    # What is computed of a number that is not negative is not negative.
    low, high = (max(0.0, low - slack(low)) if low >= 0 else low - slack(low)), high + slack(high)
    if found.high <= 0:
        high = min(0.0, high)
    most = float(kind.max) / 16  # the inverse of which is no number that is taken for zero
    fits = max(-low, high) < most and (product is None or product.fit(most))
    return Range(low, high, product) if fits else UNKNOWN


def _power(x: float) -> float:
    """The power of two that is not smaller."""
    part, exponent = math.frexp(x)
    return math.ldexp(1.0, exponent - (part == 0.5)) if x < 2.0**1000 else math.inf


def _checked(low: float, high: float) -> Range:
    return Range(low, high) if math.isfinite(low) and math.isfinite(high) else UNKNOWN
