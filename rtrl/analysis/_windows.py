"""How long a chunk, and how much of an overlap? Measured on one's own data."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jaxtyping import ArrayLike, PyTree

from rtrl.analysis._cosine import cosine_by_layer
from rtrl.analysis._layers import layer_of
from rtrl.engine import Loss, Rule
from rtrl.learners import sequence_gradient
from rtrl.rules import BPTT, RTRL
from rtrl.validate import require, require_integer

WINDOWS = ((16, 0), (8, 8), (16, 16), (32, 32))
BAR = 0.99


class Windows(NamedTuple):
    """How near the gradient of every window comes to BPTT's; made by `choose_window`.

    Attributes:
        cosines: by ``(chunk, overlap)``, of every layer by its name, NaN without a gradient.
        worst: by ``(chunk, overlap)``, of the layer that is farthest from BPTT; ``-inf`` where a
            layer that BPTT teaches has no cosine. Layers that BPTT itself gives a gradient of zero
            say nothing.
        chosen: the first that clears the bar in every layer, or the best if none does.
        clears: whether it does.
    """

    cosines: dict[tuple[int, int], dict[str, float]]
    worst: dict[tuple[int, int], float]
    chosen: tuple[int, int]
    clears: bool

    def __str__(self) -> str:
        lines = [f"{'chunk':>5} {'overlap':>7} {'runs':>5}  cosine to BPTT"]
        for (chunk, overlap), layers in self.cosines.items():
            text = "  ".join(f"{name} {value:.3f}" for name, value in layers.items())
            mark = "  <-" if (chunk, overlap) == self.chosen else ""
            lines.append(f"{chunk:5} {overlap:7} {(chunk + overlap) / chunk:5.1f}  {text}{mark}")
        return "\n".join(lines)


def choose_window(
    model: PyTree,
    loss: Loss,
    xs: ArrayLike,
    ys: PyTree[ArrayLike],
    *,
    rule: Rule = RTRL(),  # noqa: B008  (a frozen dataclass)
    windows: Sequence[tuple[int, int]] = WINDOWS,
    bar: float = BAR,
    weights: ArrayLike | None = None,
    resets: ArrayLike | None = None,
) -> Windows:
    """Choose timesteps per chunk and overlap by the gradient that they give on recent data.

    ::

        cos(rule's gradient in windows of overlap + chunk, BPTT's of the whole stretch), by layer

    What is farthest from BPTT are parameters without a trace (encoder, norms, readouts below other
    layers), which get credit for the window alone; they ask for a window as long as what the layers
    above remember. Take a network that has learned a little: at its initialisation it remembers
    what its time scales say, later what the task asks for. Nothing is learned and no state is kept:
    every gradient begins at rest with the stretch.

    On the copy task windows of 16 + 16 timesteps clear 0.99 at all points of a run that were
    measured, and come near BPTT's loss. None of the shorter ones does, and among those the nearer
    gradient does not always learn sooner: the bar says which windows are safe, not how others rank.

    Args:
        model: the network as it is now.
        loss: ``(prediction, target) -> scalar``, for one sample at one timestep.
        xs: inputs of a recent stretch, ``(time, [batch,] in_size)``, as the learner takes them;
            best several times longer than what is to be remembered.
        ys: targets, a pytree of arrays ``(time, [batch,] ...)``.
        rule: the learning rule, one whose errors travel back in time.
        windows: pairs ``(chunk, overlap)`` in timesteps, the most wanted first. A pair takes
            ``(chunk + overlap) / chunk`` of a chunk's time.
        bar: the least cosine of any layer.
        weights, resets: as for `sequence_gradient`.

    Returns:
        `Windows`: ``.chosen``, ``.clears``, ``.cosines``; printed it is a table.

    Raises:
        ValueError: no window, one out of range, a rule that has nothing to do with an overlap, or
            an argument of `sequence_gradient`.
    """
    pairs = [(chunk, overlap) for chunk, overlap in windows]
    require(len(pairs) > 0, "windows", "at least one pair (chunk, overlap)", windows)
    require(-1 <= bar <= 1, "bar", "a cosine", bar)
    for chunk, overlap in pairs:
        require_integer(chunk, "windows", 1, "timesteps of a chunk")
        require_integer(overlap, "windows", 0, "timesteps of an overlap")

    def gradient(rule: Rule, chunk: int | None, overlap: int) -> PyTree:
        return sequence_gradient(
            model, loss, xs, ys, rule=rule, chunk=chunk, overlap=overlap, weights=weights,
            resets=resets,
        )[1]  # fmt: skip

    found = {(chunk, overlap): gradient(rule, chunk, overlap) for chunk, overlap in pairs}
    exact = gradient(BPTT(), None, 0)
    cosines = {
        pair: {name: float(c) for name, c in cosine_by_layer(grads, exact).items()}
        for pair, grads in found.items()
    }
    leaves = jax.tree_util.tree_leaves_with_path(exact)
    taught = {layer_of(path) for path, leaf in leaves if (leaf != 0).any()}
    worst = {pair: _worst(layers, taught) for pair, layers in cosines.items()}
    best = max(pairs, key=lambda pair: worst[pair])
    chosen = next((pair for pair in pairs if worst[pair] >= bar), best)
    return Windows(cosines, worst, chosen, worst[chosen] >= bar)


def _worst(layers: dict[str, float], taught: set[str]) -> float:
    found = [layers[name] for name in layers if name in taught]
    return min((-math.inf if math.isnan(c) else c for c in found), default=-1.0)
