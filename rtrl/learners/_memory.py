"""What a learner will need in memory, read off the compiled program before anything runs."""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from rtrl.engine import Chunk, Loss, Rule, is_carry
from rtrl.learners import _inputs
from rtrl.learners._feed import feed
from rtrl.learners._hidden import prediction_like
from rtrl.learners._learner import OnlineLearner
from rtrl.learners._shard import shard
from rtrl.learners._step import advance_many
from rtrl.validate import require_integer

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class MemoryReport(NamedTuple):
    """Bytes that a learner holds, by what they are for; printed as a table.

    Attributes:
        parameters: the network's parameters.
        states: hidden states of all cells and samples.
        traces: sensitivities of all cells and samples; they do not grow with time.
        optimizer: the optimizer's state, and the gradients summed over a window if there is one.
        temporaries: what a learning step needs beside these while it runs, as the compiled program
            for this machine's device says.
        data: inputs and targets of one chunk, the inputs of the overlap, and the chunk's outputs.
    """

    parameters: int
    states: int
    traces: int
    optimizer: int
    temporaries: int
    data: int

    @property
    def total(self) -> int:
        """All of these together, bytes."""
        return sum(self)

    def __str__(self) -> str:
        rows = [*zip(self._fields, self, strict=True), ("total", self.total)]
        return "\n".join(f"{name:<12}{readable(size):>12}" for name, size in rows)


def memory_report(
    model: PyTree,
    rule: Rule,
    batch_size: int | None = None,
    chunk: int = 1,
    *,
    overlap: int = 0,
    loss: Loss | None = None,
    optimizer: optax.GradientTransformation | None = None,
    target: PyTree[Array] | None = None,
    mesh: Mesh | None = None,
    batch: str | None = None,
    modules: str | None = None,
    trace_dtype: Literal["float32", "bfloat16", "int8"] = "float32",
) -> MemoryReport:
    """Say what learning a model will need in memory, before starting.

    Compiles the learning step of one chunk for the current device (seconds); runs nothing.

    Args:
        model: a network with an ``in_size``.
        rule: the learning rule.
        batch_size: samples side by side, or ``None`` for no batch axis.
        chunk: timesteps per chunk.
        overlap: timesteps that are run again with every chunk.
        loss: default: half the squared error.
        optimizer: default ``optax.adam``, two numbers per parameter.
        target: an example of a target of all samples at one timestep, ``([batch,] ...)``; default:
            one like a prediction.
        mesh, batch, modules: as for `rtrl.shard`; the report is then of one device.
        trace_dtype: as for `OnlineLearner`.

    Raises:
        ValueError: an argument of the wrong kind, or a rule that does not fit a cell, named.
    """
    require_integer(chunk, "chunk", 1, "(timesteps)")
    learner = OnlineLearner(
        _half_squared_error if loss is None else loss,
        optax.adam(1e-3) if optimizer is None else optimizer,
        rule=rule,
        overlap=overlap,
        trace_dtype=trace_dtype,
    )
    state = learner.init(model, batch_size)
    lead = (chunk,) if batch_size is None else (chunk, batch_size)
    dtype = _inputs.float_dtype(model)
    size = getattr(model, "in_size", None)
    xs: Any = jnp.zeros(lead, jnp.int32) if size is None else jnp.zeros((*lead, size), dtype)
    one = prediction_like(state) if target is None else target
    ys = jax.tree.map(lambda a: jnp.zeros((chunk, *a.shape), a.dtype), one)
    data = Chunk(xs, ys, jnp.ones(lead, dtype))
    if mesh is not None:
        state = shard(state, mesh, batch, modules)
        data = feed(state, data, time=True)
    # The very program that `scan` runs, donation included, so that the figure is its own.
    program = advance_many.donating.compile(learner, data, chunk, state)
    analysis: Any = program.memory_analysis()
    # What is written over its argument takes no memory of its own.
    outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    carries = jax.tree.leaves(state.carry, is_leaf=is_carry)
    return MemoryReport(
        parameters=_bytes(state.model),
        states=_bytes([(c.state, c.newest) for c in carries]),
        traces=_bytes([c.trace for c in carries]),
        optimizer=_bytes((state.opt_state, state.window)),
        temporaries=int(analysis.temp_size_in_bytes),
        data=_bytes((data, state.past)) + max(int(outputs), 0),
    )


def readable(size: int) -> str:
    """Bytes in the unit that reads best."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{size} B" if unit == 0 else f"{value:.1f} {UNITS[unit]}"


def _half_squared_error(prediction: PyTree[Array], target: PyTree[Array]) -> Array:
    terms = jax.tree.map(lambda p, y: 0.5 * ((p - y) ** 2).sum(), prediction, target)
    return jax.tree.reduce(jnp.add, terms)


def _bytes(tree: Any) -> int:
    """Of arrays, on the device that has most of them."""

    def here(a) -> int:
        shape = a.sharding.shard_shape(a.shape) if isinstance(a, jax.Array) else a.shape
        return math.prod(shape) * a.dtype.itemsize

    return sum(here(a) for a in jax.tree.leaves(tree) if hasattr(a, "dtype"))
