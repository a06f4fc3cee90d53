"""``rtrl inspect --data``: what a saved learner does on data, in words and on a page."""

from pathlib import Path
from typing import Any

import numpy as np

import rtrl
from rtrl.cli import _state
from rtrl.cli._data import Data, load
from rtrl.cli._errors import UsageError, refuse
from rtrl.cli._setup import OF_EXPERTS, Setup, build_learner, build_model

PAGE = "diagnosis.png"


def diagnose(console: Any, path: Path, about: dict[str, Any], data_name: str, window: int) -> None:
    """Print a diagnosis of a saved learner, and draw it beside the state."""
    setup = Setup(**about["setup"])
    if setup.learner in OF_EXPERTS:
        raise UsageError(
            f"--data: a {setup.learner} is weighed, not diagnosed: the closing table says how much "
            "each expert counts. Learn with --learner network to look at a network alone."
        )
    data = _data(about, setup, data_name)
    model = build_model(setup, data.in_size, data.out_size)
    learner = build_learner(setup, data.kind, data.loss, model, data.scaled)
    like = learner.init(model, batch_size=setup.batch)
    if data.kind == "stream":
        like = rtrl.open_stream(like, chunk=setup.chunk or 1, delay=setup.horizon or 0)
    state = _state.load(path, about, like)[0]
    given = _window(about, setup, data, window)
    try:
        found = rtrl.analysis.diagnose(
            learner, state, *given[:2], weights=given[2], resets=given[3], chunk=setup.chunk,
            initial=model,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(f"--data: {error}") from error
    console.print(f"\nDiagnosis on {data_name}")
    console.print(str(found), soft_wrap=True)
    page = path.with_name(PAGE)
    found.figure().savefig(page, dpi=100)
    console.print("\nThe recurrences over a stretch of this length, linearised at rest")
    for advice in rtrl.analysis.advise(state.model, found.measured.window[0]):
        console.print(f"- {advice}", soft_wrap=True)
    console.print(f"\nDrawn in {page}", soft_wrap=True)


def _data(about: dict[str, Any], setup: Setup, name: str) -> Data:
    settings = dict(setup.settings or {})
    if about.get("columns") is not None:
        settings["decided"] = about["columns"]
    stream = about["sizes"]["kind"] == "stream"
    horizon = setup.horizon if stream else None
    data = load(name, horizon=horizon, target=setup.target, batch=setup.batch, settings=settings)
    sizes = {"in_size": data.in_size, "out_size": data.out_size, "kind": data.kind}
    learned = {name: about["sizes"][name] for name in sizes}
    if sizes != learned:
        refuse("--data", f"data like those that were learned ({learned})", sizes)
    return data


def _window(about: dict[str, Any], setup: Setup, data: Data, length: int) -> tuple:
    """The last timesteps that were learned: inputs, targets, weights and resets."""
    if data.kind == "stream":
        xs, ys = np.asarray(data.content.xs), np.asarray(data.content.ys, np.float64)
        # The newest rows, whose targets are not there yet, are waiting and have not been learned:
        # their number is what counts, not what they hold.
        waiting = np.clip(
            int(about["done"]) - len(xs), 0, (setup.horizon or 0) + (setup.chunk or 1)
        )
        end = min(int(about["done"]), len(xs))
        rows = slice(max(0, end - length), end)
        xs = np.concatenate([xs[rows], np.zeros((waiting, xs.shape[1]), xs.dtype)])
        ys = np.concatenate([ys[rows], np.full((waiting, ys.shape[1]), np.nan)])
        return xs, ys, None, None
    if data.kind == "sequences":
        batch = data.content([setup.seed, max(int(about["done"]) - 1, 0)], setup.batch)
    else:
        batch = data.content.train.batch(np.arange(setup.batch or 1))
    resets = np.zeros(len(batch.xs), bool)
    resets[0] = True
    return batch.xs, batch.ys, batch.weights, resets
