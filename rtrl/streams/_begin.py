"""The state of a forecaster before the first row."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

from rtrl.learners import ONCE, Jitted
from rtrl.streams._block import Inside
from rtrl.streams._columns import Columns
from rtrl.streams._history import History
from rtrl.streams._mixture import Mixture
from rtrl.streams._row import Held, TargetState
from rtrl.streams._scale import Scale
from rtrl.streams._season import Seasons
from rtrl.streams.experts import LAGS, Features, Sizes


def _begin(forecaster: Any, key: Array) -> Inside:
    sizes = Sizes(len(forecaster.others[0]), forecaster.ahead)
    keys = jax.random.split(key, len(forecaster.experts))
    states = tuple(e.init(sizes, k) for e, k in zip(forecaster.experts, keys, strict=True))
    prior, zero, no = first_weights(forecaster.names), jnp.float32(0), jnp.bool_(False)
    none = jnp.zeros(sizes.columns)
    features = Features(
        level=zero, mean=zero, steps=jnp.zeros(LAGS), seasonal=jnp.zeros(6), inputs=none,
        moves=none, step=zero, known=no, reset=no,
    )  # fmt: skip
    # What an expert keeps of a row: shapes alone, nothing runs.
    kept = tuple(
        eqx.filter_eval_shape(expert.predict, state, features)[1]
        for expert, state in zip(forecaster.experts, states, strict=True)
    )
    mixture = Mixture.empty(prior, forecaster.ahead)
    forecasts = jnp.zeros(len(prior))
    held = Held(jnp.zeros(2), zero, kept, forecasts, mixture.mix(forecasts), no)
    scale = Scale.empty()
    one = TargetState(
        history=History.empty(forecaster.longest + forecaster.ahead + 2),
        level=scale, step=scale, change=scale, peak=zero, error=scale,
        seasons=Seasons.empty(forecaster.ahead, forecaster.longest),
        experts=states, mixture=mixture,
        held=jax.tree.map(lambda a: jnp.zeros((forecaster.ahead, *a.shape), a.dtype), held),
    )  # fmt: skip
    each = jax.tree.map(
        lambda a: jnp.stack([a] * forecaster.out_size) if eqx.is_array(a) else a, one
    )
    return Inside(Columns.empty(forecaster.in_size), each, jnp.int32(0))


begin = Jitted(_begin, options=ONCE)  # one program instead of hundreds of tiny ones

FIRST = 0.5  # of the weight, for the last value


def first_weights(names: tuple[str, ...]) -> Float32[np.ndarray, " experts"]:
    """Weights of experts before anything has been seen: much for the last value."""
    last = np.array([name == "last value" for name in names])
    if not last.any() or len(names) == 1:
        return np.full(len(names), 1 / len(names), np.float32)
    return np.where(last, FIRST, (1 - FIRST) / (len(names) - 1)).astype(np.float32)
