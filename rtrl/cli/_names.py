"""Cells, rules and tasks by name: whatever `rtrl.cells`, `rtrl.rules` and `rtrl.tasks` export."""

import ast
import inspect
from pathlib import Path
from typing import Any

import rtrl
from rtrl.cli._errors import UsageError, refuse
from rtrl.tables import read
from rtrl.tasks import Task, summary

ALIASES = {"laser": "santafe"}

#: What stands among the tasks for a file of the user's.
FILE = Task(
    name="file",
    kind="stream",
    function=read,
    summary="A file of your own, or rows as they come.",
    shapes="Shapes: x (in_size,) and y (out_size,) float64 per row, in the data's own units.",
    floors="None is known for data of your own.",
    source="your file.",
)


def cell_names() -> list[str]:
    return _exported(rtrl.cells, rtrl.Cell)


def rule_names() -> list[str]:
    """All rules; one that needs an argument with its name, such as ``TBPTT:k``."""
    return [name + _needed(name) for name in _exported(rtrl.rules, rtrl.rules.Rule)]


def find_cell(name: str, argument: str = "--cell") -> type[rtrl.Cell]:
    return getattr(rtrl.cells, _match(argument, name, cell_names()))


def find_rule(name: str, argument: str = "--rule") -> rtrl.rules.Rule:
    """A rule by name, with its first argument behind a colon: ``TBPTT:16``, ``RTRL:timestep``."""
    name, colon, value = rule_name(name, argument).partition(":")
    try:
        return getattr(rtrl.rules, name)(*([_literal(value)] if colon else []))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{argument}: {name}: {error}") from error


def rule_name(name: str, argument: str = "--rule") -> str:
    """A rule's name as it is spelled, with what is behind its colon."""
    name, colon, value = name.partition(":")
    known = [full.partition(":")[0] for full in rule_names()]
    found = _match(argument, name, known)
    if not colon and (needed := _needed(found)):
        refuse(argument, f"a value for {needed[1:]}, as in {found}:4", repr(name))
    return found + colon + value


def _needed(rule: str) -> str:
    parameters = inspect.signature(getattr(rtrl.rules, rule)).parameters.values()
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return "".join(f":{p.name}" for p in parameters if p.default is p.empty and p.kind not in free)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def is_file(task: str) -> bool:
    """Whether TASK is a file of rows rather than a name."""
    return task == "-" or "/" in task or Path(task).suffix != "" or Path(task).is_file()


def find_task(name: str) -> Task:
    """The task of this name, or `FILE`."""
    tasks = {task.name: task for task in summary()}
    if is_file(name):
        return FILE
    names = sorted({*tasks, *ALIASES})
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
