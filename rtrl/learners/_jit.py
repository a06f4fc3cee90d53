"""Compiling functions of pytrees that hold more than arrays, cheap to call."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.core import Tracer

#: Kernels without the newer emitters, and few passes of LLVM;
QUICK = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}
#: hardly any, for a program that runs once: five times as slow, compiled in half that time.
ONCE = {
    "xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}  # fmt: skip

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
        self._program = functools.lru_cache(maxsize=256)(self._compile)
        self._ready: dict[Any, Any] = {}  # programs that were compiled elsewhere

    def __call__(self, *arguments: Any) -> Any:
        *rest, last = arguments
        rest_arrays, rest_key = _split(rest)
        last_arrays, last_key = _split(last)
        # Only the last argument is donated, so it is flattened by itself.
        donate = self.donate_last and not _traced(rest_arrays) and not _traced(last_arrays)
        # By structure and static leaves: what jit itself is then called with are lists of arrays.
        program, result = self._program(rest_key, last_key, donate, _settings())
        if self._ready and (ready := self._ready.get((rest_key, last_key, donate, _settings()))):
            if not result:
                program.trace(rest_arrays, last_arrays)  # for what the result is beside arrays
            program = ready
        arrays = program(rest_arrays, last_arrays)
        return _join(arrays, result[0])

    def bind(self, *arguments: Any) -> "Bound":
        """The program for arguments like these, to be called with their arrays alone."""
        *rest, last = arguments
        (_, rest_key), (_, last_key) = _split(rest), _split(last)
        key = rest_key, last_key, self.donate_last, _settings()
        program = self._ready.get(key) or self._program(*key)[0]
        return Bound(program, last_key, _settings())

    def use(self, program: Any, *arguments: Any) -> None:
        """Call this compiled program for arguments like these from now on."""
        *rest, last = arguments
        key = _split(rest)[1], _split(last)[1], self.donate_last, _settings()
        self._ready[key] = program

    @staticmethod
    def arrays_of(*arguments: Any) -> tuple[list[Any], list[Any]]:
        """What the compiled function is called with."""
        *rest, last = arguments
        return _split(rest)[0], _split(last)[0]

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """Lower for these arguments without running: for a look at the compiled program."""
        *rest, last = arguments
        rest_arrays, rest_key = _split(rest)
        last_arrays, last_key = _split(last)
        program, _ = self._program(rest_key, last_key, self.donate_last, _settings())
        return program.lower(rest_arrays, last_arrays)

    def _compile(self, rest_key, last_key, donate, settings):
        result: list[tuple[Any, Static]] = []  # filled in when the program is traced

        def program(rest_arrays, last_arrays):
            arguments = (*_join(rest_arrays, rest_key), _join(last_arrays, last_key))
            arrays, key = _split(self.function(*arguments))
            result[:] = [key]
            return arrays

        program.__name__ = self.function.__name__
        options = _known(tuple(self.options.items())) if jax.default_backend() == "cpu" else None
        donated = (1,) if donate else ()
        return jax.jit(program, donate_argnums=donated, compiler_options=options), result


class Bound(NamedTuple):
    """A program for arguments of one structure: where taking them apart is most of a call.

    Attributes:
        program: of the arrays of all arguments but the last, and of those of the last; it gives the
            arrays of the result.
        last: what the last argument is beside its arrays.
        settings: of JAX, that it was made under.
    """

    program: Any
    last: tuple[Any, Static]
    settings: tuple[bool, bool]

    def holds(self) -> bool:
        """Whether JAX's settings are still the same."""
        return self.settings == _settings()

    def last_of(self, arrays: list[Any]) -> Any:
        """An argument like the last one, of these arrays."""
        return _join(arrays, self.last)

    @staticmethod
    def arrays_of(tree: Any) -> list[Any]:
        """The arrays of an argument."""
        return _split(tree)[0]


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


def _traced(arrays: list[Any]) -> bool:
    return any(isinstance(a, Tracer) for a in arrays)


def _settings() -> tuple[bool, bool]:
    """What JAX's own cache looks at beside the arguments, and a new program may depend on."""
    return jax.config.jax_enable_x64, jax.config.jax_debug_nans  # type: ignore[attr-defined]


def _split(tree: Any) -> tuple[list[Any], tuple[Any, Static]]:
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


def _join(arrays: list[Any], key: tuple[Any, Static]) -> Any:
    structure, static = key
    if not static:
        return jax.tree.unflatten(structure, arrays)
    remaining = iter(arrays)
    leaves = [next(remaining) if leaf is None else leaf.value for leaf in static]
    return jax.tree.unflatten(structure, leaves)
