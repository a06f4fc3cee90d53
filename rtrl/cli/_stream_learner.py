"""Who learns a stream: a forecaster, a classifier or a network alone, for a file's columns."""

from typing import Any

import jax
import numpy as np

import rtrl
from rtrl.cli._data import squared_error
from rtrl.cli._setup import (
    FORECASTER,
    OF_EXPERTS,
    Setup,
    build_classifier,
    build_forecaster,
    build_learner,
    build_model,
    naming_rule,
)
from rtrl.cli._table import places
from rtrl.tables import Table


def begin(setup: Setup, source: Table) -> tuple[Any, Any]:
    """A learner for the columns of a file, and its first state."""
    # Compile now, on rows that nobody sees, and not when a live row waits for its prediction.
    if setup.learner in OF_EXPERTS:
        own = places(source.targets, source.features)
        build = build_forecaster if setup.learner == FORECASTER else build_classifier
        built: Any = build(setup, source.in_size, source.out_size, own)
        key = jax.random.key(setup.seed or 0)
        sizes = source.in_size, source.out_size, setup.horizon, own
        built.keep_programs(repr((setup.learner, sizes)), key)
        built.step(built.init(key=key), np.zeros(source.in_size))
        return built, built.init(key=key)
    model = build_model(setup, source.in_size, source.out_size)
    chunk, delay = setup.chunk or 1, source.horizon
    x, y = np.zeros(source.in_size), np.zeros(source.out_size)
    with naming_rule(setup):
        learner = build_learner(
            setup, "stream", squared_error, model, tuple(source.scaled.tolist())
        )
        rows = ((x, y) for _ in range(2 * chunk + delay))
        for _ in learner.stream(learner.init(model), rows, chunk=chunk, delay=delay):
            pass
    return learner, rtrl.open_stream(learner.init(model), chunk=chunk, delay=delay)
