"""Cells, rules and tasks by name: whatever `rtrl.cells`, `rtrl.rules` and `rtrl.tasks` export."""

import inspect
from pathlib import Path
from typing import Any

import rtrl
from rtrl.cli._errors import refuse
from rtrl.tasks import Task, summary

ALIASES = {"laser": "santafe"}


def cell_names() -> list[str]:
    return _exported(rtrl.cells, rtrl.Cell)


def rule_names() -> list[str]:
    """Rules that need no argument."""
    return [
        name
        for name in _exported(rtrl.rules, rtrl.rules.Rule)
        if all(
            p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            for p in inspect.signature(getattr(rtrl.rules, name)).parameters.values()
        )
    ]


def find_cell(name: str) -> type[rtrl.Cell]:
    return getattr(rtrl.cells, _match("--cell", name, cell_names()))


def find_rule(name: str, argument: str = "--rule") -> rtrl.rules.Rule:
    """A rule with its default arguments."""
    return getattr(rtrl.rules, _match(argument, name, rule_names()))()


def rule_name(name: str, argument: str = "--rule") -> str:
    return _match(argument, name, rule_names())


def is_file(task: str) -> bool:
    """Whether TASK is a file of rows rather than a name."""
    return task == "-" or "/" in task or Path(task).suffix != "" or Path(task).is_file()


def find_task(name: str) -> Task:
    """The task of this name; a file is the task ``csv``."""
    tasks = {task.name: task for task in summary()}
    if is_file(name):
        return tasks["csv"]
    names = sorted({*tasks, *ALIASES} - {"csv"})
    found = _match("TASK", name, names, "or a file such as data.csv")
    return tasks[ALIASES.get(found, found)]


def _exported(module: Any, kind: type) -> list[str]:
    """Names of the concrete classes of a kind that a module exports."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, kind) and not name.startswith("_")
        and value is not kind and not inspect.isabstract(value)
    ]  # fmt: skip


def _match(argument: str, name: str, names: list[str], more: str = "") -> str:
    for known in names:
        if known.lower() == name.lower().replace("-", "_"):
            return known
    refuse(argument, " ".join(["one of", ", ".join(names), more]).strip(), repr(name))
