"""Compiling functions of pytrees that hold more than arrays, cheap to call."""

import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
from jax.extend.core import get_opaque_trace_state

from rtrl.engine import joining_kernels

#: Kernels without the newer emitters, and few passes of LLVM;
QUICK = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}
#: hardly any, for a program that runs once: five times as slow, compiled in half that time.
ONCE = {
    "xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}  # fmt: skip

#: How XLA begins to say that it has no form for something; what a callback raises begins otherwise.
REFUSALS = ("UNIMPLEMENTED", "INTERNAL: Failed to materialize symbols")
PROGRAMS = 256  # that are remembered of a function

Static = tuple[Any, ...]  # the leaves that are not arrays, None in the place of those that are


class Jitted:
    """``function`` compiled once for every structure, and every value of what is not an array.

    As `equinox.filter_jit`, with less work per call: a learning step of a small network takes less
    time than its bookkeeping.

    Args:
        function: of positional pytrees.
        donate_last: let the result reuse the memory of the last argument's arrays; inside
            another transformation nothing is reused, as who owns the memory is not known there.
        options: of the compiler on a CPU, `QUICK` or `ONCE`: for a large program of small
            operations.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        donate_last: bool = False,
        options: dict[str, Any] | None = None,
    ):
        self.function = function
        self.options = options or {}
        self.donate_last = donate_last
        self._program = functools.lru_cache(PROGRAMS)(self._compile)
        self._ready: dict[Any, Any] = {}  # programs that were compiled elsewhere
        self._refused: set[Any] = set()  # what XLA did not make one kernel of, where it was asked

    def __call__(self, *arguments: Any) -> Any:
        *rest, last = arguments
        rest_arrays, rest_key = split(rest)
        # Only the last argument is donated, so it is flattened by itself.
        last_arrays, last_key = split(last)
        # By structure and static leaves: what jit itself is then called with are lists of arrays.
        key = self._key(rest_key, last_key)
        program, result, was_asked = self._program(*key)
        if self._ready and (ready := self._ready.get(key)):
            if not result:
                program.trace(rest_arrays, last_arrays)  # for what the result is beside arrays
            program = ready
        try:
            arrays = program(rest_arrays, last_arrays)
        except jax.errors.JaxRuntimeError as error:
            self._refuse(key, was_asked, last_arrays, error)
            return self(*arguments)
        return joined(arrays, result[0])

    def bind(self, *arguments: Any) -> "Bound":
        """The program for arguments like these, to be called with their arrays alone."""
        *rest, last = arguments
        (_, rest_key), (_, last_key) = split(rest), split(last)
        return Bound(self, rest_key, last_key)

    def use(self, program: Any, *arguments: Any) -> None:
        """Call this compiled program for arguments like these from now on."""
        *rest, last = arguments
        self._ready[self._key(split(rest)[1], split(last)[1])] = program

    @staticmethod
    def arrays_of(*arguments: Any) -> tuple[list[Any], list[Any]]:
        """What the compiled function is called with."""
        *rest, last = arguments
        return split(rest)[0], split(last)[0]

    def compile(self, *arguments: Any) -> jax.stages.Compiled:
        """Compile for these arguments without running."""
        *rest, last = arguments
        rest_arrays, rest_key = split(rest)
        last_arrays, last_key = split(last)
        key = self._key(rest_key, last_key)
        program, _, was_asked = self._program(*key)
        try:
            return program.lower(rest_arrays, last_arrays).compile()
        except jax.errors.JaxRuntimeError as error:
            self._refuse(key, was_asked, last_arrays, error)
            return self.compile(*arguments)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """Lower for these arguments: for a look at the program."""
        *rest, last = arguments
        rest_arrays, rest_key = split(rest)
        last_arrays, last_key = split(last)
        program = self._program(*self._key(rest_key, last_key))[0]
        return program.lower(rest_arrays, last_arrays)

    def _key(self, rest: Any, last: Any) -> "_Key":
        # Inside another transformation nobody could compile once more, nor is memory ours.
        outside = get_opaque_trace_state() == _outside()
        settings = _settings()
        refused = self._refused and (rest, last) in self._refused
        joins = outside and not refused and not settings[1]
        return _Key(rest, last, self.donate_last and outside, joins, settings)

    def _refuse(
        self, key: "_Key", was_asked: list[bool], last: list[Any], error: Exception
    ) -> None:
        """Ask no more for one kernel, if it is that which XLA can't compile; else raise."""
        gone = any(isinstance(a, jax.Array) and a.is_deleted() for a in last)
        if not was_asked or gone or not str(error).startswith(REFUSALS):
            raise error
        if len(self._refused) >= PROGRAMS:
            self._refused.clear()
        self._refused.add((key.rest, key.last))

    def _compile(self, rest_key, last_key, donate, joins, settings):
        # Filled in when the program is traced.
        result: list[tuple[Any, Static]] = []
        was_asked: list[bool] = []
        on_cpu = jax.default_backend() == "cpu"
        alone = on_cpu and jax.device_count() == 1  # no kernel waits for another device

        def program(rest_arrays, last_arrays):
            arguments = (*joined(rest_arrays, rest_key), joined(last_arrays, last_key))
            with joining_kernels() if joins and alone else contextlib.nullcontext([]) as asked:
                arrays, key = split(self.function(*arguments))
            result[:], was_asked[:] = [key], asked
            return arrays

        program.__name__ = self.function.__name__
        options = _known(tuple(self.options.items())) if on_cpu else None
        donated = (1,) if donate else ()
        compiled = jax.jit(program, donate_argnums=donated, compiler_options=options)
        return compiled, result, was_asked


class _Key(NamedTuple):
    """What a program is of."""

    rest: Any  # of every argument but the last, beside its arrays
    last: Any
    donate: bool
    joins: bool  # whether parts of it may become one kernel
    settings: tuple[bool, bool]


class Bound:
    """A program for arguments of one structure: where taking them apart is most of a call.

    Attributes:
        last: what the last argument is beside its arrays.
    """

    def __init__(self, jitted: Jitted, rest: Any, last: Any):
        self.last = last
        self._jitted = jitted
        self._find(jitted._key(rest, last))

    def _find(self, key: _Key) -> None:
        self._key = key
        program, self._result, self._was_asked = self._jitted._program(*key)
        self._program = self._jitted._ready.get(key) or program

    def __call__(self, rest: list[Any], last: list[Any]) -> list[Any]:
        """Give the arrays of the result, for those of all arguments but the last, and of it."""
        try:
            return self._program(rest, last)
        except jax.errors.JaxRuntimeError as error:
            self._jitted._refuse(self._key, self._was_asked, last, error)
            self._find(self._jitted._key(self._key.rest, self._key.last))
            return self(rest, last)

    def holds(self) -> bool:
        """Whether JAX's settings are still the same."""
        return self._key.settings == _settings()

    def last_of(self, arrays: list[Any]) -> Any:
        """An argument like the last one, of these arrays."""
        return joined(arrays, self.last)

    def result_of(self, arrays: list[Any]) -> Any:
        """The result that these arrays are of, once there has been one."""
        return joined(arrays, self._result[0])

    @staticmethod
    def arrays_of(tree: Any) -> list[Any]:
        """The arrays of an argument."""
        return split(tree)[0]


@functools.cache
def _known(options: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """Those that this version of XLA knows: it refuses to compile with any other."""
    known = {}
    for name, value in options:
        try:
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
        except jax.errors.JaxRuntimeError:
            continue
        known[name] = value
    return known


@functools.cache
def _outside() -> Any:
    """How JAX's state looks where nothing is being traced or transformed."""
    # Of another thread, as the first call may be inside of something.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(get_opaque_trace_state).result()


def _settings() -> tuple[bool, bool]:
    """What JAX's own cache looks at beside the arguments, and a new program may depend on."""
    return jax.config.jax_enable_x64, jax.config.jax_debug_nans  # type: ignore[attr-defined]


def split(tree: Any) -> tuple[list[Any], tuple[Any, Static]]:
    """The arrays of a pytree, and all else: hashable, the same for the same program."""
    leaves, structure = jax.tree.flatten(tree)
    # By attribute and not by type: numpy's arrays, JAX's and tracers alike.
    arrays = [leaf for leaf in leaves if hasattr(leaf, "shape")]
    if len(arrays) == len(leaves):
        return arrays, (structure, ())
    static = tuple(None if hasattr(leaf, "shape") else _Leaf(leaf) for leaf in leaves)
    return arrays, (structure, static)


class _Leaf:
    """A leaf that is not an array; 1, 1.0 and True are not the same, nor are 0.0 and -0.0."""

    __slots__ = ("value", "identity")

    def __init__(self, value: Any):
        self.value = value
        self.identity = (type(value), repr(value) if isinstance(value, float) else value)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Leaf) and self.identity == other.identity


def joined(arrays: list[Any], key: tuple[Any, Static]) -> Any:
    structure, static = key
    if not static:
        return jax.tree.unflatten(structure, arrays)
    remaining = iter(arrays)
    leaves = [next(remaining) if leaf is None else leaf.value for leaf in static]
    return jax.tree.unflatten(structure, leaves)
