"""What a sweep's TOML file asks for, checked key by key."""

import itertools
import json
import math
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from rtrl.cli._errors import UsageError, refuse
from rtrl.cli._names import find_cell, find_rule, find_task
from rtrl.cli._setup import NETWORK, Setup

#: Keys that may be a list of values, with their type and least value.
VARIED: dict[str, tuple[type, int | None]] = {
    "rule": (str, None), "cell": (str, None), "optimizer": (str, None), "chunk": (int, 1),
    "overlap": (int, 0), "depth": (int, 1), "hidden": (int, 1), "width": (int, 1),
    "batch": (int, 1), "horizon": (int, 0), "warmup": (int, 0), "seed": (int, 0),
    "lr": (float, None),
}  # fmt: skip
#: Keys of the whole sweep.
WHOLE = ("task", "target", "steps", "epochs", "validation", "set", "runs")
VALIDATION = 0.25
#: Of networks and orders that rates are chosen with; fresh sequences of it are no run's.
CHOOSING_SEED = 1_000_000


class Plan(NamedTuple):
    """A sweep.

    Attributes:
        setups: as given, every combination once; seeds and rates are among what differs.
        steps, epochs: how long a run is, as for `rtrl train`.
        validation: share of the data that rates are chosen on.
    """

    setups: list[Setup]
    steps: int | None
    epochs: int | None
    validation: float


def read_plan(path: Path) -> Plan:
    """Read a sweep; what is not understood is refused by its name."""
    try:
        given = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"FILE: can't read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"FILE: {path} is no TOML: {error}.") from error
    tables = given.get("runs", [{}])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        refuse("runs", "tables, each under [[runs]]", repr(tables))
    _refuse_unknown(given, [*WHOLE, *VARIED])
    whole = _whole(given)
    common = {key: given[key] for key in VARIED if key in given}
    setups: list[Setup] = []
    for table in tables:
        _refuse_unknown(table, list(VARIED))
        varied = {"seed": 0, **common, **table}
        lists = [[(key, value) for value in _values(key, varied[key])] for key in varied]
        for combination in itertools.product(*lists):
            setup = Setup(learner=NETWORK, **{**whole, **dict(combination)})
            if setup not in setups:
                setups.append(setup)
    steps, epochs = (_integer(key, given[key]) if key in given else None
                     for key in ("steps", "epochs"))  # fmt: skip
    share = given.get("validation", VALIDATION)
    if not isinstance(share, float) or not 0 < share <= 0.5:
        refuse("validation", "a share above 0 and up to 0.5", repr(share))
    return Plan(setups, steps, epochs, share)


def _refuse_unknown(table: dict[str, Any], known: list[str]) -> None:
    for key in table:
        if key not in known:
            refuse("FILE", f"one of the keys {', '.join(known)}", repr(key))


def _whole(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a setup that all runs share."""
    task, target, settings = given.get("task"), given.get("target"), given.get("set")
    if not isinstance(task, str):
        refuse("task", "a name that `rtrl tasks` lists, or a file", repr(task))
    find_task(task)
    if isinstance(target, str):
        target = [target]
    if target is not None and not (isinstance(target, list) and target
                                   and all(isinstance(name, str) for name in target)):  # fmt: skip
        refuse("target", "a column or a list of columns", repr(target))
    if settings is not None and not isinstance(settings, dict):
        refuse("set", "a table of arguments of the task", repr(settings))
    for key, value in (settings or {}).items():
        try:
            json.dumps(value)
        except TypeError:  # TOML has dates and times, which no task takes
            refuse(f"set.{key}", "a number, a text, true or false, or a list of them", str(value))
    return {"task": task, "target": target, "settings": settings or None}


def _values(key: str, given: Any) -> list[Any]:
    values = given if isinstance(given, list) else [given]
    if not values:
        refuse(key, "at least one value", "none")
    return [_value(key, value) for value in values]


def _value(key: str, value: Any) -> Any:
    kind, least = VARIED[key]
    if key == "seed" and value == CHOOSING_SEED:
        refuse(key, "another one, as rates are chosen with this", repr(value))
    if kind is int:
        return _integer(key, value, least or 0)
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            refuse(key, "a positive number", repr(value))
        return float(value)
    if not isinstance(value, str):
        refuse(key, "a name", repr(value))
    if key == "rule":
        find_rule(value, "rule")
    if key == "cell":
        find_cell(value, "cell")
    return value


def _integer(key: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        refuse(key, f"an integer of at least {least}", repr(value))
    return value
