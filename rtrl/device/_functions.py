"""What a number can go through: the scalar functions of the exported C, one row each."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# How tightly an operator binds in C; what binds less is put in parentheses.
ATOM, UNARY, PRODUCT, SUM, SHIFT, ORDER, EQUALITY, BITS, AND, OR, CHOICE = range(11, 0, -1)


class Function(NamedTuple):
    """A scalar function.

    Attributes:
        c: the expression in C, ``{0}``, ``{1}`` its operands.
        binds: how tightly it binds.
        cost: in additions, about.
        fold: the same in numpy, for operands known when the program is written.
        helper: a C function that ``c`` needs, if any.
    """

    c: str
    binds: int
    cost: int
    fold: Callable[..., object] | None
    helper: str | None = None


def _call(name: str, cost: int, fold: Callable[..., object] | None) -> Function:
    return Function(f"{name}({{0}})", ATOM, cost, fold)


def _helper(name: str, body: str, cost: int, fold: Callable[..., object] | None) -> Function:
    operands = ("a", "b", "c")[: 1 + ("b" in body.replace("fabsf", ""))]
    arguments = ", ".join(f"float {a}" for a in operands)
    places = ", ".join(f"{{{i}}}" for i in range(len(operands)))
    text = f"static float {name}({arguments})\n{{\n    return {body};\n}}\n"
    return Function(f"{name}({places})", ATOM, cost, fold, text)


def _logistic(a):
    return 1 / (1 + np.exp(-a))


#: Of real numbers. Maximum and minimum give NaN where an operand is NaN, as in JAX.
FUNCTIONS: dict[str, Function] = {
    "add": Function("{0} + {1}", SUM, 1, np.add),
    "sub": Function("{0} - {1}", SUM, 1, np.subtract),
    "mul": Function("{0} * {1}", PRODUCT, 1, np.multiply),
    "div": Function("{0} / {1}", PRODUCT, 4, np.divide),
    "rem": Function("fmodf({0}, {1})", ATOM, 8, np.fmod),
    "neg": Function("-{0}", UNARY, 1, np.negative),
    "square": _helper("square", "a * a", 1, np.square),
    "one_minus_square": _helper("one_minus_square", "1.0f - a * a", 1, lambda a: 1 - a * a),
    "abs": _call("fabsf", 1, np.abs),
    "sign": _helper("sign_of", "a != a ? a : (float)((a > 0.0f) - (a < 0.0f))", 3, np.sign),
    "floor": _call("floorf", 3, np.floor),
    "ceil": _call("ceilf", 3, np.ceil),
    "round": _call("rintf", 3, np.rint),
    "sqrt": _call("sqrtf", 5, np.sqrt),
    "rsqrt": Function("1.0f / sqrtf({0})", PRODUCT, 9, lambda a: 1 / np.sqrt(a)),
    "cbrt": _call("cbrtf", 20, np.cbrt),
    "exp": _call("expf", 15, np.exp),
    "exp2": _call("exp2f", 15, np.exp2),
    "expm1": _call("expm1f", 20, np.expm1),
    "log": _call("logf", 15, np.log),
    "log1p": _call("log1pf", 20, np.log1p),
    "sin": _call("sinf", 15, np.sin),
    "cos": _call("cosf", 15, np.cos),
    "tan": _call("tanf", 20, np.tan),
    "asin": _call("asinf", 20, np.arcsin),
    "acos": _call("acosf", 20, np.arccos),
    "atan": _call("atanf", 20, np.arctan),
    "sinh": _call("sinhf", 20, np.sinh),
    "cosh": _call("coshf", 20, np.cosh),
    "tanh": _call("tanhf", 20, np.tanh),
    "erf": _call("erff", 20, None),
    "erfc": _call("erfcf", 20, None),
    "logistic": _helper("logistic", "1.0f / (1.0f + expf(-a))", 20, _logistic),
    "pow": Function("powf({0}, {1})", ATOM, 30, np.power),
    "atan2": Function("atan2f({0}, {1})", ATOM, 20, np.arctan2),
    "hypot": Function("hypotf({0}, {1})", ATOM, 15, np.hypot),
    "max": _helper("maximum", "a > b || a != a ? a : b", 2, np.maximum),
    "min": _helper("minimum", "a < b || a != a ? a : b", 2, np.minimum),
    "nextafter": Function("nextafterf({0}, {1})", ATOM, 5, np.nextafter),
    "eq": Function("{0} == {1}", EQUALITY, 1, np.equal),
    "ne": Function("{0} != {1}", EQUALITY, 1, np.not_equal),
    "lt": Function("{0} < {1}", ORDER, 1, np.less),
    "le": Function("{0} <= {1}", ORDER, 1, np.less_equal),
    "gt": Function("{0} > {1}", ORDER, 1, np.greater),
    "ge": Function("{0} >= {1}", ORDER, 1, np.greater_equal),
    "and": Function("{0} && {1}", AND, 1, np.logical_and),
    "or": Function("{0} || {1}", OR, 1, np.logical_or),
    "xor": Function("{0} != {1}", EQUALITY, 1, np.logical_xor),
    "not": Function("!{0}", UNARY, 1, np.logical_not),
    "is_finite": Function("fabsf({0}) < INFINITY", ORDER, 1, np.isfinite),
    "both": Function("{0} & {1}", BITS, 1, np.logical_and),  # "and" without a branch
    "select": Function("{0} ? {1} : {2}", CHOICE, 1, lambda p, a, b: np.where(p, a, b)),
    "as_float": Function(
        "as_float({0})",
        ATOM,
        1,
        None,
        "static float as_float(unsigned bits)\n{\n    float number;\n"
        "    memcpy(&number, &bits, sizeof number);\n    return number;\n}\n",
    ),
    "as_uint": Function(
        "as_uint({0})",
        ATOM,
        1,
        None,
        "static unsigned as_uint(float number)\n{\n    unsigned bits;\n"
        "    memcpy(&bits, &number, sizeof bits);\n    return bits;\n}\n",
    ),
    "shift_left": Function("{0} << {1}", SHIFT, 1, np.left_shift),
    "shift_right_logical": Function("{0} >> {1}", SHIFT, 1, np.right_shift),
    "to_float": Function("(float){0}", UNARY, 1, np.float32),
    "to_int": Function("(int){0}", UNARY, 1, np.int32),
    "to_uint": Function("(unsigned){0}", UNARY, 1, np.uint32),
    "to_ushort": Function("(unsigned short){0}", UNARY, 1, np.uint16),
    "to_schar": Function("(signed char){0}", UNARY, 1, np.int8),
    "to_bool": Function("{0} != 0", EQUALITY, 1, np.bool_),
}

#: Of whole numbers, where C spells them otherwise.
WHOLE: dict[str, Function] = {
    "max": Function("({0} > {1} ? {0} : {1})", ATOM, 1, np.maximum),
    "min": Function("({0} < {1} ? {0} : {1})", ATOM, 1, np.minimum),
    "abs": Function("({0} < 0 ? -{0} : {0})", ATOM, 1, np.abs),
    "sign": Function("(({0} > 0) - ({0} < 0))", ATOM, 2, np.sign),
    "square": Function("({0} * {0})", ATOM, 1, np.square),
    "one_minus_square": Function("(1.0f - {0} * {0})", ATOM, 1, lambda a: 1 - a * a),
    "rem": Function("{0} % {1}", PRODUCT, 4, np.fmod),
    "and": Function("{0} & {1}", BITS, 1, np.bitwise_and),
    "or": Function("{0} | {1}", BITS, 1, np.bitwise_or),
    "xor": Function("{0} ^ {1}", BITS, 1, np.bitwise_xor),
    "not": Function("~{0}", UNARY, 1, np.bitwise_not),
}

#: Functions of truth values or numbers whose result is a truth value.
PREDICATES = {"both", "eq", "ne", "lt", "le", "gt", "ge", "is_finite", "to_bool"}
COMMUTATIVE = {"add", "both", "mul", "max", "min", "and", "or", "eq", "ne"}


def function(name: str, dtype: str) -> Function:
    """The row of a function, of operands of a kind."""
    whole = dtype in ("int", "uint") and name in WHOLE
    return WHOLE[name] if whole else FUNCTIONS[name]
