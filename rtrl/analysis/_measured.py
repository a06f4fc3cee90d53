"""What is measured of a learner: figures, layer by layer and of the whole."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rtrl.analysis._gates import Gate
from rtrl.analysis._replay import Replay
from rtrl.analysis._staleness import Staleness


class Layer(NamedTuple):
    """What is measured of one recurrent layer; arrays over its N modules of d numbers each.

    Attributes:
        name: the layer, as in `cosine_by_layer`.
        cell: the class of its cell.
        timescales: as they act on the window, timesteps, ``(d N,)``; negative where a state grows.
        initial: those of the network as it began, on the same window; ``None`` if not given.
        retention: ``f(l)``, the mean over modules and timesteps of what a module keeps for l
            timesteps, ``(lags,)``.
        state_size: root mean square of the state, ``(N,)``.
        state_move: its standard deviation over the window, ``(N,)``.
        trace_size: root mean square of the carried trace by parameter.
        gradient_size: norm of the BPTT gradient of a module's parameters, ``(N,)``.
        share: norm of the BPTT gradient of the cell over that of the whole network.
        cosine: between the rule's gradient and BPTT's, over the layer.
        gates: sigmoids and tanhs in its update.
        lag_share: share of the gradient by lag (`gradient_by_lag`), ``(lags,)``; ``None`` where
            errors can't be had.
        staleness: of the carried trace.
        update: how far learning the window moved the layer's parameters, relative to their size.
        rate: the optimizer's rate as it acts: size of an update over that of its gradient.
    """

    name: str
    cell: str
    timescales: Float[np.ndarray, " states"]
    initial: Float[np.ndarray, " states"] | None
    retention: Float[np.ndarray, " lags"]
    state_size: Float[np.ndarray, " N"]
    state_move: Float[np.ndarray, " N"]
    trace_size: dict[str, float]
    gradient_size: Float[np.ndarray, " N"]
    share: float
    cosine: float
    gates: list[Gate]
    lag_share: Float[np.ndarray, " lags"] | None
    staleness: Staleness
    update: float
    rate: float

    @property
    def effective(self) -> Float[np.ndarray, " lags"]:
        """Effective learning rate by lag, ``rate f(l)``; NaN where the optimizer has no rate."""
        return self.rate * self.retention


class Measured(NamedTuple):
    """What is measured of a learner on a window.

    Attributes:
        layers: one for every cell, from the input on.
        replay: the window learned with other rates.
        loss: mean of the loss on the window with today's parameters, nothing learned.
        constant_loss: the same for the best constant prediction.
        owed: R^2 of today's errors by lag of the input (`error_by_lag`), ``(lags,)``.
        place: share of the window's timesteps at which the network's states were nearer to those
            that the learner carries than at its end: near 0 where the window ends with the state.
        memory: bytes held, by what for.
        rule: the learning rule as it acts.
        steps: timesteps that the learner has seen.
        window: timesteps and samples of the window.
        finite: whether all parameters, states and traces are finite.
        gradient: norm of the BPTT gradient on the window.
        input_scale: standard deviation of every input.
        weight_scale: root mean square of a typical matrix times the square root of its columns,
            about 1 as initialised.
    """

    layers: list[Layer]
    replay: Replay
    loss: float
    constant_loss: float
    owed: Float[np.ndarray, " lags"]
    place: float
    memory: dict[str, int]
    rule: str
    steps: int
    window: tuple[int, int]
    finite: bool
    gradient: float
    input_scale: Float[np.ndarray, " inputs"]
    weight_scale: float
