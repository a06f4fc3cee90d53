"""A real laser forecast in one pass, and other methods on the same stream."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import rtrl
from rtrl.tasks import baselines

if TYPE_CHECKING:
    from rich.console import Console

HELD = baselines.WARMUP  # samples that set the scale
SLICE = 348  # timesteps per call: 29 calls make the 10,092 of the laser, so only one compilation
WINDOW = 500  # timesteps in the running error
QUICK = 3 * SLICE  # timesteps with --quick
BASELINES: dict[str, Callable[..., np.ndarray]] = {
    "persistence (last value)": baselines.persistence,
    "online RLS on 10 lags": baselines.rls_lags,
    "echo state network, 200 units": baselines.esn,
}


WITHOUT_TRACE: dict[str, rtrl.rules.Rule] = {
    "the same network, truncated": rtrl.Truncated(),
    "the same network, spatial": rtrl.Spatial(),
}


def squared_error(prediction: Array, target: Array) -> Array:
    return 0.5 * jnp.sum((prediction - target) ** 2)


def laser_learner(
    key: PRNGKeyArray, rule: rtrl.rules.Rule
) -> tuple[rtrl.SequenceModel, rtrl.OnlineLearner]:
    """Give the network and the learner of the laser, for standardised inputs and targets.

    A single layer of 16 modules; its gradient goes to a Kalman filter over all parameters, which
    has no learning rate to choose and makes the most of a single pass.
    """
    model = rtrl.SequenceModel(
        in_size=1,
        out_size=1,
        width=16,
        depth=1,
        cell=lambda size, key: rtrl.cells.LRU(size, 16, key=key),
        norm=None,
        glu="half1",
        key=key,
    )
    optimizer = rtrl.kalman()
    return model, rtrl.OnlineLearner(squared_error, optimizer, rule=rule)


def learn(
    learner: rtrl.OnlineLearner,
    state: rtrl.LearnerState,
    xs: np.ndarray,
    ys: np.ndarray,
    report: Callable[[int, str], None],
) -> tuple[rtrl.LearnerState, np.ndarray]:
    """Predict and learn a stream ``(time, 1)`` in one pass, timestep by timestep.

    No prediction has seen its own target or a later one.

    Returns the learner's state after the pass and the predictions in the data's units.
    """
    mean, deviation = xs[:HELD].mean(), xs[:HELD].std()
    predictions = np.zeros_like(ys)
    rate, first_call = np.nan, 0.0
    for start in range(0, len(xs), SLICE):
        now = slice(start, start + SLICE)
        x, y = (xs[now] - mean) / deviation, (ys[now] - mean) / deviation
        state, out = learner.scan(state, x, y)
        predictions[now] = np.asarray(out.prediction) * deviation + mean
        done = start + len(x)
        if start == 0:
            first_call = time.perf_counter()
        elif len(x) == SLICE:  # a shorter last call compiles again
            rate = (done - SLICE) / (time.perf_counter() - first_call)
        if done > HELD:
            error = running_nrmse(predictions, ys)[done - 1]
            report(done, f"NRMSE {error:.3f}  {rate:,.0f} timesteps/s")
    return state, predictions


def running_nrmse(predictions: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """NRMSE of the last `WINDOW` predictions at every timestep; NaN while samples are held."""
    targets = ys[len(ys) // 2 :].astype(np.float64)
    squared = (predictions.astype(np.float64) - ys)[HELD:, 0] ** 2 / targets.var()
    total = np.concatenate([[0], np.cumsum(squared)])
    last = np.arange(1, len(total))
    first = np.maximum(last - WINDOW, 0)
    running = np.sqrt((total[last] - total[first]) / (last - first))
    return np.concatenate([np.full(HELD, np.nan), running])


def second_half_nrmse(predictions: np.ndarray, ys: np.ndarray) -> float:
    half = len(ys) // 2
    return baselines.nrmse(predictions[half:], ys[half:])


def carried_bytes(state: rtrl.LearnerState) -> dict[str, int]:
    """Bytes that the learner takes from one timestep to the next."""

    def size(tree: Any) -> int:
        return sum(a.nbytes for a in jax.tree.leaves(eqx.filter(tree, eqx.is_array)))

    return {
        "parameters": size(state.model),
        "optimizer": size((state.opt_state, state.window)),
        "traces": size([carry.trace for carry in state.carry]),
        "hidden states": size([carry.state for carry in state.carry]),
    }


def print_errors(
    console: "Console",
    predictions: dict[str, np.ndarray],
    seconds: dict[str, float],
    ys: np.ndarray,
) -> None:
    from rich.table import Table

    table = Table(title="Forecasting the laser", title_justify="left", box=None, pad_edge=False)
    table.add_column("method")
    for heading in ("NRMSE, second half", "RMSE, raw units", "seconds"):
        table.add_column(heading, justify="right")
    for name, forecast in predictions.items():
        error = second_half_nrmse(forecast, ys)
        raw = error * ys[len(ys) // 2 :].std()
        table.add_row(name, f"{error:.3f}", f"{raw:.1f}", f"{seconds[name]:.1f}")
    console.print(table)
    console.print("(networks that learn: compilation included)")
