"""A target that is a class: when it is taken for one, and which class a row has."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rtrl.cli._data import Data
from rtrl.cli._errors import UsageError, refuse
from rtrl.cli._report import note
from rtrl.cli._setup import CLASSIFIER, OF_NETWORK, Setup, complete
from rtrl.tables import Column
from rtrl.tasks import Stream


def complete_for(setup: Setup, data: Data) -> tuple[Setup, Data]:
    """Fill in the defaults; where the target is text, for a classifier and numbered classes."""
    if _classifies(setup, data.columns):
        column = data.columns[0]
        if setup.goal is None and setup.learner is None:
            note(
                f"rtrl: {column.name!r} is text, so it is classified; "
                "--task forecast says otherwise."
            )
        setup = replace(
            setup, learner=CLASSIFIER, seed=setup.seed or 0, horizon=data.horizon,
            probabilities=bool(setup.probabilities),
        )  # fmt: skip
        content = Stream(data.content.xs, classes_of(column, data.content.ys)[:, None])
        return setup, data._replace(kind="classes", content=content, metric="accuracy")
    if setup.probabilities:
        raise UsageError("--probabilities: the target is no class; say --task classify.")
    return complete(setup, data), data


def _classifies(setup: Setup, targets: Sequence[Column]) -> bool:
    """Whether the one target is a class, or words for yes and no, and nothing else is asked for."""
    if setup.goal not in (None, "classify", "forecast"):
        refuse("--task", "classify or forecast", repr(setup.goal))
    words = [target for target in targets if _is_text(target)]
    network = any(getattr(setup, name) is not None for name in OF_NETWORK)
    if setup.goal == "classify" or setup.learner == CLASSIFIER:
        _refuse_of_classes(setup, targets)
        return True
    if not words or network or setup.learner is not None or setup.goal is not None:
        return False
    if len(targets) > 1:
        raise UsageError(f"--target: {words[0].name!r} is text, and {ONE_CLASS}")
    return True


ONE_CLASS = (
    "classes are told of one target at a time: run once for each --target, with an --out of its "
    "own; or say --task forecast to forecast indicators of the values as numbers."
)


def _refuse_of_classes(setup: Setup, targets: Sequence[Column]) -> None:
    """Refuse what does not go with classes."""
    given = [name for name in OF_NETWORK if getattr(setup, name) is not None]
    if given or setup.learner not in (None, CLASSIFIER):
        named = given[0].replace("_", "-") if given else "learner"
        raise UsageError(f"--{named}: is not for --task classify, which has its own network.")
    if not targets:
        raise UsageError("--task: classify is for a column of a file.")
    if len(targets) > 1:
        raise UsageError(f"--task: {ONE_CLASS}")
    if targets[0].kind not in ("class", "boolean"):
        kind = f"--as {targets[0].name}=class"
        raise UsageError(f"--task: the target is a {targets[0].kind}; say {kind}.")


def _is_text(column: Column) -> bool:
    words = column.kind == "boolean" and not column.values[0].isdigit()
    return column.kind == "class" or words


def classes_of(column: Column, ys: np.ndarray) -> np.ndarray:
    """Classes by number ``(rows,)`` of what a table gives for them, NaN where none is known."""
    if column.kind == "boolean":
        return ys[:, 0]
    known = np.isfinite(ys).all(1) & ys.any(1)
    return np.where(known, np.nan_to_num(ys).argmax(1), np.nan)
