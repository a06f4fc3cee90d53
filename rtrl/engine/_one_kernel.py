"""A chain of small operations as one kernel of a CPU.

XLA runs every operation of a program, or a few fused ones, as a kernel of its own, handed from
thread to thread where several are ready. A timestep of a small network is some hundred kernels that
take less time than it takes to begin one. XLA also knows how to compile a called function as one
kernel, and does so by itself for small loops; here it is asked to. What it can't compile so is left
as it is, and so is every program of which that is not known: XLA does not check what it is asked.

All of it leans on what XLA happens to do, so it is asked for with the versions of `TESTED` alone.

The environment variable ``RTRL_SEPARATE_KERNELS=1`` leaves programs that are then compiled as they
are.
"""

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jaxtyping import Array, Float

from rtrl.engine._jaxpr import subprograms

#: Versions of jaxlib that the tests have run with: all with the first, the essential ones with the
#: others (`make test-core`).
TESTED = ("0.10.2", "0.11.2", "0.12.0.1")
JAXLIB = version("jaxlib")
#: How XLA on a CPU is asked: for the second, and not to dissolve the call before that.
MARKS = {"inlineable": "false", "xla_cpu_small_call": "true"}
#: And what is in the call, which JAX would mark as well where it makes calls of a loop's parts.
UNMARKED = {"inlineable": "true", "xla_cpu_small_call": "false"}
#: Bytes of all arguments up to which it pays: larger arrays keep several cores busy. What a loop
#: takes a piece of at a time does not count.
LARGEST = 1 << 23
#: Operations up to which compiling one kernel does not take much longer than compiling many.
LONGEST = 20_000
#: Multiplications of a product of matrices up to which it pays: a kernel has no library for them.
PRODUCT = 1 << 12
#: Numbers of an argument that may as well be copied.
SMALL = 256

#: Operations that XLA makes of arithmetic and of loops alone. Sorting, scattering, transforms,
#: convolutions, decompositions, callbacks and whatever travels between devices call something else,
#: which needs more than a kernel is given.
ARITHMETIC = frozenset(
    """
    abs acos acosh add add_any and argmax argmin asin asinh atan atan2 atanh
    bitcast_convert_type broadcast_in_dim cbrt ceil clamp clz complex concatenate conj
    convert_element_type copy copy_p cos cosh cummax cummin cumprod cumsum div dot_general
    dynamic_slice dynamic_update_slice empty eq erf erf_inv erfc exp exp2 expand_dims expm1
    floor gather ge gt imag integer_pow iota is_finite le log log1p log2 logistic lt max min mul
    mulhi ne neg nextafter not one_minus_square optimization_barrier or pad population_count pow
    random_unwrap random_wrap real reduce_and reduce_max reduce_min reduce_or reduce_precision
    reduce_prod reduce_sum reduce_xor rem reshape rev round rsqrt select_n shift_left
    shift_right_arithmetic shift_right_logical sign sin sinh slice split sqrt square squeeze
    stack stop_gradient sub tan tanh threefry2x32 tile transpose unstack xor
    """.split()
)
#: Operations that run programs, which are looked into.
CONTROL = frozenset(
    """
    checkpoint closed_call cond core_call custom_jvp_call custom_vjp_call jit pjit platform_index
    remat remat2 scan while
    """.split()
)
#: Random numbers: arithmetic where they come from this generator.
RANDOM = frozenset("random_bits random_fold_in random_seed random_split".split())
THREEFRY = "fry"  # as JAX names its keys

_asked: ContextVar[list[bool] | None] = ContextVar("_asked", default=None)


@contextlib.contextmanager
def joining_kernels() -> Iterator[list[bool]]:
    """Let `one_kernel` do what it is called for; what it gives is not empty if it did.

    For whoever compiles a program by itself, for a CPU, and can do so once more without.
    """
    done: list[bool] = []
    token = _asked.set(done if JAXLIB in TESTED else None)
    try:
        yield done
    finally:
        _asked.reset(token)


def one_kernel(
    function: Callable[..., Any], *operands: Any, when: bool = True, pieces: Any = ()
) -> Any:
    """Give ``function(*operands, *pieces)``, as one kernel where `joining_kernels` allows for it.

    A loop is best made one as a whole: beginning every part of every round anew takes as long as
    the arithmetic of a small network.

    Only what is known to be arithmetic, on small arrays and without products of large matrices, is
    made a kernel; the result is that of the function in any case.

    Args:
        function: of pytrees; of what it is given and gives, arrays alone differ from call to call.
        operands: what it is called with.
        when: false where it would not pay, which saves looking.
        pieces: operands, too, of any size: a loop inside takes a piece of them at a time.
    """
    done, arguments = _asked.get(), (*operands, *pieces)
    if done is None or not when or os.environ.get("RTRL_SEPARATE_KERNELS", "0") not in ("", "0"):
        return function(*arguments)
    whole = jax.tree.leaves(eqx.filter(operands, eqx.is_array))
    if sum(a.size * a.dtype.itemsize for a in whole) > LARGEST:
        return function(*arguments)
    dynamic, static = eqx.partition(arguments, eqx.is_array)
    leaves, structure = jax.tree.flatten(dynamic)
    rest: list[Any] = []

    def of_arrays(*leaves):
        token = _asked.set(None)  # a kernel holds no other
        try:
            result = function(*eqx.combine(jax.tree.unflatten(structure, leaves), static))
        finally:
            _asked.reset(token)
        dynamic, other = eqx.partition(result, eqx.is_array)
        flat, as_arrays = jax.tree.flatten(dynamic)
        rest[:] = [other, as_arrays]
        return flat

    closed = jax.make_jaxpr(of_arrays)(*leaves)
    given = [*closed.consts, *leaves]  # what the function has at hand is an argument like any other
    keys = any(not a.size and jnp.issubdtype(a.dtype, jax.dtypes.prng_key) for a in given)
    if not keys and _fits(closed.jaxpr) and _length(closed.jaxpr) <= LONGEST:
        done.append(True)
        found = _marked(closed.jaxpr, given)
    else:
        return function(*arguments)  # of which parts may be
    other, as_arrays = rest
    return eqx.combine(jax.tree.unflatten(as_arrays, found), other)


def _run(jaxpr: Jaxpr, given: Sequence[Any]) -> list[Any]:
    constants = len(jaxpr.constvars)
    return jaxpr_as_fun(ClosedJaxpr(jaxpr, given[:constants]))(*given[constants:])


def _marked(jaxpr: Jaxpr, given: list[Any]) -> list[Any]:
    """Call a program as one kernel.

    XLA ends the process where its simplifications leave an argument of such a call without a use.
    So a number of every argument goes into a result that is kept. They are read before anything
    else, or XLA would copy what is overwritten later: all small arguments wait for it. Nor may it
    know an argument, or newer versions write it into the call as a constant.
    """

    def unmarked(*filled):
        with set_xla_metadata(**UNMARKED):
            read = sum(map(_first, filled), jnp.zeros((), jnp.float32))
            filled, read = _behind(read, filled)
            rest = iter(filled)
            whole = [next(rest) if a.size else jnp.zeros(a.shape, a.dtype) for a in given]
            return *_run(jaxpr, whole), read

    with set_xla_metadata(**MARKS):
        *found, read = jax.jit(unmarked, inline=False)(*_unknown([a for a in given if a.size]))
    if found:  # what nobody looks at might be left out
        smallest = min(range(len(found)), key=lambda i: found[i].size)
        found[smallest], _ = jax.lax.optimization_barrier((found[smallest], read))
    return found


def _unknown(given: Sequence[Any]) -> list[Any]:
    """The same, the small ones such that XLA does not write them into a call as constants."""
    given = list(given)
    small = [i for i, a in enumerate(given) if a.size <= SMALL]
    for i, a in zip(small, jax.lax.optimization_barrier([given[i] for i in small]), strict=True):
        given[i] = a
    return given


def _first(a: Array) -> Float[Array, ""]:
    """A number that depends on an array."""
    a = jnp.asarray(a)
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        a = jax.random.key_data(a)
    a = jax.lax.slice(a, (0,) * a.ndim, (1,) * a.ndim).reshape(())
    return (a.real if jnp.iscomplexobj(a) else a).astype(jnp.float32)


def _behind(
    read: Float[Array, ""], leaves: Sequence[Array]
) -> tuple[list[Array], Float[Array, ""]]:
    """The arrays, the small ones to be had once a number is there, and this number again.

    They wait as one array of each kind, so that nothing reads any more what they were given in, and
    results can take its place: a copy of every one would be a kernel by itself.
    """
    behind, kinds = list(leaves), dict[Any, list[int]]()
    for i, a in enumerate(leaves):
        if _is_small(a) and not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            kinds.setdefault(a.dtype, []).append(i)
    packed = [jnp.concatenate([leaves[i].ravel() for i in kind]) for kind in kinds.values()]
    bits = jax.lax.bitcast_convert_type(read, jnp.uint32)
    was_read = bits >> 1 <= 0x7FFFFFFF  # always, which XLA does not see
    # A branch, as a choice would be made again wherever a number is used.
    packed, read = jax.lax.cond(
        was_read, lambda a: a, lambda a: jax.tree.map(jnp.zeros_like, a), (packed, read)
    )
    for array, kind in zip(packed, kinds.values(), strict=True):
        ends = itertools.accumulate(leaves[i].size for i in kind)
        for i, end in zip(kind, ends, strict=True):
            behind[i] = array[end - leaves[i].size : end].reshape(leaves[i].shape)
    return behind, read


def _is_small(a: Array) -> bool:
    """Whether an array is copied in no time: a vector, as those of parameters and traces are.

    A matrix, however small, XLA overwrites where it is.
    """
    return a.size <= SMALL and max(a.shape, default=1) == a.size


def _fits(jaxpr: Jaxpr) -> bool:
    """Whether XLA makes one kernel of a program, and a quick one."""

    def one(eqn: Any) -> bool:
        name = eqn.primitive.name
        if name in CONTROL:
            return all(map(_fits, subprograms(eqn)))
        if name in RANDOM:
            return THREEFRY in str(eqn.params.get("impl", eqn.invars[0].aval.dtype))
        return (name in ARITHMETIC and not _is_large_product(eqn)) or _writes_once(eqn)

    return all(map(one, jaxpr.eqns))


def _writes_once(eqn: Any) -> bool:
    """Whether an operation scatters to one place, which XLA makes a slice of."""
    if eqn.primitive.name not in ("scatter", "scatter-add"):
        return False
    *many, _ = eqn.invars[1].aval.shape
    return math.prod(many) == 1


def _is_large_product(eqn: Any) -> bool:
    """Whether two matrices are multiplied: a vector and a matrix, or two vectors, are not."""
    if eqn.primitive.name != "dot_general":
        return False
    left, right = (v.aval for v in eqn.invars)
    (contracted, _), (batch, _) = eqn.params["dimension_numbers"]
    summed = math.prod(left.shape[i] for i in contracted)
    side_by_side = math.prod(left.shape[i] for i in batch)
    rows, columns = (a.size // max(1, summed * side_by_side) for a in (left, right))
    return min(rows, columns, summed) > 1 and eqn.outvars[0].aval.size * summed > PRODUCT


def _length(jaxpr: Jaxpr) -> int:
    return sum(1 + sum(map(_length, subprograms(eqn))) for eqn in jaxpr.eqns)
