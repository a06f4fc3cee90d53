"""A learning step and a prediction as graphs: from the state's arrays to the state's arrays."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from rtrl.device._complex import Pair
from rtrl.device._graph import Graph
from rtrl.device._layout import Member, core_of, leaves, members, stored, stream_of
from rtrl.device._node import Node
from rtrl.device._refused import accept
from rtrl.device._shapes import kind_of
from rtrl.device._statements import Output
from rtrl.device._walk import walk
from rtrl.engine import Chunk
from rtrl.learners import (
    LearnerState,
    OnlineLearner,
    advance_unrenewed,
    batch_size_of,
    bounds_of,
    example_input,
    look_ahead,
    prediction_like,
)
from rtrl.streams import Standardized, StandardizedState
from rtrl.validate import require


class Traced(NamedTuple):
    """A function of the device.

    Attributes:
        inputs: its arrays, by the name that they have in C.
        outputs: what it leaves behind.
    """

    inputs: dict[str, Node]
    outputs: list[Output]


class Sizes(NamedTuple):
    """Numbers in an input, a target and a prediction."""

    x: int
    y: int
    prediction: int


class Parts(NamedTuple):
    """The functions that a device's learner is put together from.

    Attributes:
        learn: a learning step of the learner itself.
        predict: a prediction without one, from where the inputs have come to.
        ahead: of a stream whose targets come late: the hidden states that have seen every input.
    """

    learn: Traced
    predict: Traced
    ahead: Traced | None
    sizes: Sizes


def trace(learner: Any, state: Any) -> Parts:
    """Trace the functions of a learner, a `Standardized` one, or one in the middle of a stream.

    Raises:
        ValueError: the state has a batch axis, or does not fit the learner, or a function holds an
            operation without a C form.
    """
    inner, core = _innermost(learner, state)
    stream = stream_of(state)
    x, y = example_input(core), prediction_like(core)
    require(isinstance(y, jax.ShapeDtypeStruct), "state", "a model whose prediction is one array",
            type(y).__name__)  # fmt: skip
    learn = _learn(inner, core, state, x, y)
    predict, ahead = _predict(inner, core, state, x), None
    if stream is not None and stream.delay > 0:
        ahead = _ahead(inner, core, state, x)
    size = int(np.prod(y.shape, dtype=int))
    return Parts(learn, predict, ahead, Sizes(int(np.prod(x.shape, dtype=int)), size, size))


def _innermost(learner: Any, state: Any) -> tuple[OnlineLearner, LearnerState]:
    inner = learner.learner if isinstance(learner, Standardized) else learner
    require(isinstance(inner, OnlineLearner), "learner", "an OnlineLearner or a Standardized one",
            learner)  # fmt: skip
    fits = isinstance(state, StandardizedState) == isinstance(learner, Standardized)
    core = core_of(state)[0]
    require(fits and isinstance(core, LearnerState), "state",
            f"a state of this {type(learner).__name__}", type(state).__name__)  # fmt: skip
    require(batch_size_of(core) is None, "state", "one without a batch axis (a device learns one "
            "stream)", f"a batch of {batch_size_of(core)}")  # fmt: skip
    require(not inner.rule.whole_sequence, "learner", "a rule that learns from single timesteps",
            inner.rule)  # fmt: skip
    stream = stream_of(state)
    require(stream is None or stream.chunk == 1, "state", "a stream in chunks of 1 timestep",
            f"chunks of {stream.chunk if stream else 1}")  # fmt: skip
    asked = "ignore" if inner.on_nonfinite == "ignore" else "skip"
    return dataclasses.replace(inner, on_nonfinite=asked, donate=False), core


class _Arrays:
    """The arrays of a tree: as arguments of a traced function, and as members of the state in C."""

    def __init__(self, tree: Any, prefix: str, layout: list[Member]):
        self.leaves, self.structure = jax.tree.flatten(tree)
        self.arrays = [a for a in self.leaves if stored(a)]
        paths = [path for path, _ in leaves(tree, prefix)]
        self.layout = [m for path in paths for m in layout if m.path == path]

    def whole(self, arrays: list[Any]) -> Any:
        values = iter(arrays)
        full = [next(values) if stored(a) else a for a in self.leaves]
        return jax.tree.unflatten(self.structure, full)


def _learn(learner: OnlineLearner, core: LearnerState, state: Any, x: Any, y: Any) -> Traced:
    own = _Arrays(core, core_of(state)[1], members(state))

    def step(arrays, x, y, weight, reset):
        after, out = advance_unrenewed(learner, own.whole(arrays), Chunk(x, y, weight, reset))
        return [a for a in jax.tree.leaves(after) if stored(a)], out.prediction[0], out.skipped[0]

    like = {"x": x, "y": y, "weight": np.float32(0), "reset": np.bool_(False)}
    g, nodes, data = _begin(own.layout, like)
    zeros = [np.zeros(a.shape, a.dtype) for a in like.values()]
    jaxpr = jax.make_jaxpr(step)(own.arrays, *zeros)
    values = [accept(v) for v in walk(g, jaxpr, [*_packed(own.layout, nodes), *data.values()])]
    outputs = _written(values[:-2], own.layout, nodes)
    outputs += [Output("prediction", values[-2], None), Output("skipped", values[-1], None)]
    return Traced({**nodes, **data}, outputs)


def _predict(learner: OnlineLearner, core: LearnerState, state: Any, x: Any) -> Traced:
    layout, prefix = members(state), core_of(state)[1]
    stream = stream_of(state)
    model = _Arrays(core.model, prefix + ".model", layout)
    carry, at = (
        (core.carry, prefix)
        if stream is None
        else (
            stream.carry,
            prefix.removesuffix(".learner"),
        )
    )
    own = _Arrays(carry, at + ".carry", layout)
    scales = _scales(core, prefix, layout)

    def predict(arrays, hidden, bounds, x):
        whole = dataclasses.replace(
            core,
            model=model.whole(arrays),
            carry=own.whole(hidden),
            guard=_with_scales(core, scales, bounds),
        )
        return learner.predict(whole, x)[0]

    read = [*model.layout, *own.layout, *scales.layout]
    g, nodes, data = _begin(read, {"x": x})
    jaxpr = jax.make_jaxpr(predict)(model.arrays, own.arrays, scales.arrays, x)
    (prediction,) = walk(g, jaxpr, [*_packed(read, nodes), data["x"]])
    return Traced({**nodes, **data}, [Output("prediction", accept(prediction), None)])


def _scales(core: LearnerState, prefix: str, layout: list[Member]) -> _Arrays:
    """What bounds the inputs of a learner with a guard."""
    inputs = None if core.guard is None else core.guard.inputs
    return _Arrays(inputs, prefix + ".guard.inputs", layout)


def _with_scales(core: LearnerState, scales: _Arrays, arrays: list[Any]) -> Any:
    return core.guard and dataclasses.replace(core.guard, inputs=scales.whole(arrays))


def _ahead(learner: OnlineLearner, core: LearnerState, state: Any, x: Any) -> Traced:
    """Predict, and let the hidden states that are ahead of learning see the input."""
    layout, prefix = members(state), core_of(state)[1]
    stream = stream_of(state)
    assert stream is not None
    model = _Arrays(core.model, prefix + ".model", layout)
    own = _Arrays(stream.carry, prefix.removesuffix(".learner") + ".carry", layout)
    scales = _scales(core, prefix, layout)

    def look(arrays, hidden, bounds, x, reset):
        network, carry = model.whole(arrays), own.whole(hidden)
        limits = bounds_of(learner.guard, _with_scales(core, scales, bounds))
        prediction, carry = look_ahead(network, carry, x[None], reset[None], limits)
        return prediction, jax.tree.leaves(carry)

    like = {"x": x, "reset": np.bool_(False)}
    read = [*model.layout, *own.layout, *scales.layout]
    g, nodes, data = _begin(read, like)
    nothing = jax.numpy.zeros((), bool)
    jaxpr = jax.make_jaxpr(look)(model.arrays, own.arrays, scales.arrays, x, nothing)
    first = [*_packed(read, nodes), *data.values()]
    prediction, *after = (accept(v) for v in walk(g, jaxpr, first))
    outputs = _written(after, own.layout, nodes)
    return Traced({**nodes, **data}, [*outputs, Output("prediction", prediction, None)])


def _begin(
    layout: list[Member], like: dict[str, Any]
) -> tuple[Graph, dict[str, Node], dict[str, Node]]:
    g = Graph()
    return g, _inputs(g, layout), {name: _given(g, name, a) for name, a in like.items()}


def _written(values: list[Any], layout: list[Member], nodes: dict[str, Node]) -> list[Output]:
    return [
        Output(m.name, node, nodes[m.name])
        for m, node in zip(layout, _planes(values, layout), strict=True)
    ]


def _inputs(g: Graph, layout: list[Member]) -> dict[str, Node]:
    nodes = {}
    for m in layout:
        kind = "int" if m.dtype == "bool" else kind_of(np.empty(0, m.dtype))
        nodes[m.name] = g.input(f"state.{m.name}", m.shape, kind)
    return nodes


def _given(g: Graph, name: str, like: Any) -> Node:
    """An argument of the C function; whole numbers come as floats."""
    kind = kind_of(like)
    if name in ("weight", "reset"):
        return g.input(name, (), kind)
    node = g.input(name, like.shape, "float")
    return node if kind == "float" else g.map(f"to_{kind}", node)


def _packed(layout: list[Member], nodes: dict[str, Node]) -> list[Any]:
    """One value per array of the state: pairs for complex ones."""
    values: list[Any] = []
    parts = iter(layout)
    for m in parts:
        if m.part:
            values.append(Pair(nodes[m.name], nodes[next(parts).name]))
        else:
            values.append(nodes[m.name])
    return values


def _planes(values: list[Any], layout: list[Member]) -> list[Node]:
    nodes = []
    for value in values:
        nodes += [value.re, value.im] if isinstance(value, Pair) else [value]
    assert len(nodes) == len(layout), (len(nodes), len(layout))
    return nodes
