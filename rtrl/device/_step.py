"""A learning step and a prediction as graphs: from the state's arrays to the state's arrays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtrl.device._complex import Pair
from rtrl.device._graph import Graph, Node
from rtrl.device._layout import Member, members, stored
from rtrl.device._shapes import kind_of
from rtrl.device._statements import Output
from rtrl.device._walk import accept, walk
from rtrl.learners import LearnerState, OnlineLearner, batch_size_of, example_input, prediction_like
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


def trace(learner: OnlineLearner, state: LearnerState) -> tuple[Traced, Traced, Sizes]:
    """The learning step, the prediction, and their sizes.

    Raises:
        ValueError: the state has a batch axis, or the step holds an operation without a C form.
    """
    require(isinstance(learner, OnlineLearner), "learner", "an OnlineLearner", learner)
    require(isinstance(state, LearnerState), "state", "a LearnerState", type(state).__name__)
    require(batch_size_of(state) is None, "state", "one without a batch axis (a device learns one "
            "stream)", f"a batch of {batch_size_of(state)}")  # fmt: skip
    learner = OnlineLearner(
        learner.loss, learner.optimizer, rule=learner.rule, update_every=learner.update_every,
        donate=False,
    )  # fmt: skip
    layout = members(state)
    x, y = example_input(state), prediction_like(state)
    require(isinstance(y, jax.ShapeDtypeStruct), "state", "a model whose prediction is one array",
            type(y).__name__)  # fmt: skip
    leaves, structure = jax.tree.flatten(state)

    def whole(arrays: list[Any]) -> LearnerState:
        values = iter(arrays)
        return jax.tree.unflatten(structure, [next(values) if stored(a) else a for a in leaves])

    def step(arrays, x, y, weight, reset):
        after, out = learner.step(whole(arrays), x, y, weight, reset)
        return [a for a in jax.tree.leaves(after) if stored(a)], out.prediction, out.skipped

    def predict(arrays, x):
        return learner.predict(whole(arrays), x)[0]

    arrays = [a for a in leaves if stored(a)]
    g = Graph()
    shape = {"x": x, "y": y, "weight": np.float32(0), "reset": np.bool_(False)}
    state_nodes = _inputs(g, layout)
    data = {name: _given(g, name, like) for name, like in shape.items()}
    jaxpr = jax.make_jaxpr(step)(arrays, x, jnp.zeros(y.shape, y.dtype), *list(shape.values())[2:])
    values = [accept(v) for v in walk(g, jaxpr, [*_packed(layout, state_nodes), *data.values()])]
    after, prediction, skipped = values[:-2], values[-2], values[-1]
    outputs = [
        Output(m.name, node, state_nodes[m.name])
        for m, node in zip(layout, _planes(after, layout), strict=True)
    ]
    outputs += [Output("prediction", prediction, None), Output("skipped", skipped, None)]
    learn = Traced({**state_nodes, **data}, outputs)
    g = Graph()
    state_nodes = _inputs(g, layout)
    data = {"x": _given(g, "x", x)}
    jaxpr = jax.make_jaxpr(predict)(arrays, x)
    (prediction,) = (accept(v) for v in walk(g, jaxpr, [*_packed(layout, state_nodes), *data.values()]))  # fmt: skip
    look = Traced({**state_nodes, **data}, [Output("prediction", prediction, None)])
    sizes = Sizes(int(np.prod(x.shape, dtype=int)), int(np.prod(y.shape, dtype=int)), prediction.size)
    return learn, look, sizes


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


