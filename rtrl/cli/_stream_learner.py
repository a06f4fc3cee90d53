"""Who learns a stream: a forecaster, a classifier or a network alone, for a file's columns."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

import rtrl
from rtrl.cli._data import Data, squared_error
from rtrl.cli._errors import UsageError, refuse
from rtrl.cli._names import FILE
from rtrl.cli._report import note
from rtrl.cli._setup import (
    CLASSIFIER,
    FORECASTER,
    OF_EXPERTS,
    OF_NETWORK,
    Setup,
    build_classifier,
    build_forecaster,
    build_learner,
    build_model,
    complete,
    naming_rule,
)
from rtrl.cli._table import places
from rtrl.tables import Table
from rtrl.tasks import Stream


def begin(setup: Setup, source: Table) -> tuple[Any, Any]:
    """A learner for the columns of a file, and its first state."""
    # Compile now, on rows that nobody sees, and not when a live row waits for its prediction.
    if setup.learner in OF_EXPERTS:
        own = places(source.targets, source.features)
        build = build_forecaster if setup.learner == FORECASTER else build_classifier
        built: Any = build(setup, source.in_size, source.out_size, own)
        key = jax.random.key(setup.seed or 0)
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


def complete_for(setup: Setup, source: Table) -> Setup:
    """Fill in the defaults for the columns of a file."""
    empty = Stream(np.zeros((0, source.in_size)), np.zeros((0, source.out_size)))
    data = Data(
        FILE, "stream", empty, source.in_size, source.out_size, squared_error, "nrmse",
        source.horizon,
    )  # fmt: skip
    if _classifies(setup, source):
        if setup.goal is None and setup.learner is None:
            name = source.columns[source.plan.targets[0]].name
            note(f"rtrl: {name!r} is text, so it is classified; --task forecast says otherwise.")
        return replace(
            setup, learner=CLASSIFIER, seed=setup.seed or 0, horizon=source.horizon,
            probabilities=bool(setup.probabilities),
        )  # fmt: skip
    if setup.probabilities:
        raise UsageError("--probabilities: the target is no class; say --task classify.")
    return complete(setup, data)


def _classifies(setup: Setup, source: Table) -> bool:
    """Whether the one target is a class, or words for yes and no, and nothing else is asked for."""
    targets = [source.columns[number] for number in source.plan.targets]
    asked = setup.goal == "classify" or setup.learner == CLASSIFIER
    if setup.goal not in (None, "classify", "forecast"):
        refuse("--task", "classify or forecast", repr(setup.goal))
    if asked:
        given = [name for name in OF_NETWORK if getattr(setup, name) is not None]
        if given or setup.learner not in (None, CLASSIFIER):
            named = given[0] if given else "learner"
            raise UsageError(f"--{named}: is not for --task classify, which has its own network.")
        if len(targets) > 1:
            raise UsageError("--task: classify takes one --target.")
        if targets[0].kind not in ("class", "boolean"):
            kind = f"--as {targets[0].name}=class"
            raise UsageError(f"--task: the target is a {targets[0].kind}; say {kind}.")
        return True
    text = len(targets) == 1 and (
        targets[0].kind == "class"
        or (targets[0].kind == "boolean" and not targets[0].values[0].isdigit())
    )
    network = any(getattr(setup, name) is not None for name in OF_NETWORK)
    return text and not network and setup.learner is None and setup.goal is None
