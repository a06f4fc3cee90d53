"""How large the factors of a product or quotient may become, grouped in another way.

XLA computes a / (b / c) as (a c) / b, (a / b) / c as a / (b c), and (a x) y as a (x y) where x and
y are constants. The value is the same, but what is computed on the way may be infinite or zero.
"""

import math
from typing import NamedTuple


class Sizes(NamedTuple):
    """Between which powers of two any product of some factors lies, in absolute value."""

    least: float
    most: float


class Factors(NamedTuple):
    """Those above the line, and those below."""

    above: Sizes
    below: Sizes

    def fit(self, most: float) -> bool:
        """Whether no product overflows, and none that something is divided by is lost."""
        return max(self.above.most, self.below.most, -self.below.least) < math.log2(most)


def single(low: float, high: float) -> Factors:
    """A value that is no product."""
    least = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    most = max(-low, high)
    sizes = Sizes(
        min(0.0, math.log2(least)) if least else -math.inf, max(0.0, math.log2(most)) if most else 0
    )
    return Factors(sizes, Sizes(0.0, 0.0))


def times(a: Factors, b: Factors) -> Factors:
    return Factors(_together(a.above, b.above), _together(a.below, b.below))


def over(a: Factors, b: Factors) -> Factors:
    return Factors(_together(a.above, b.below), _together(a.below, b.above))


def _together(a: Sizes, b: Sizes) -> Sizes:
    return Sizes(a.least + b.least, a.most + b.most)
