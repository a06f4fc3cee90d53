"""The public surface: every module that a user enters, and what each of them offers."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]

#: What a user imports; the modules that these offer in turn are found.
ENTRANCES = ("rtrl", "rtrl.tasks", "rtrl.kernels")


class Public(NamedTuple):
    """A public name: the module that offers it, the name in there (dotted for what is in a class),
    the object, and the class that it is in."""

    module: str
    name: str
    value: Any
    owner: type | None = None

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"


def modules() -> dict[str, ModuleType]:
    """Every public module by the name that a user writes: ``rtrl.evaluate``, not where it is."""
    found: dict[str, ModuleType] = {}
    waiting = [(name, importlib.import_module(name)) for name in ENTRANCES]
    while waiting:
        name, module = waiting.pop(0)
        found[name] = module
        waiting += [
            (f"{name}.{inner}", value)
            for inner, value in exports(module).items()
            if inspect.ismodule(value)
        ]
    return found


def exports(module: ModuleType) -> dict[str, Any]:
    """What a module offers: what it defines, and what it imports with ``as``.

    What the package itself offers is loaded late, and listed in a module of its own.
    """
    listed = importlib.import_module("rtrl._offered") if module.__name__ == "rtrl" else module
    names: list[str] = []
    for node in ast.parse(inspect.getsource(listed)).body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.asname for alias in node.names if alias.asname]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return {name: getattr(module, name) for name in names if not name.startswith("_")}


def names() -> Iterator[Public]:
    """Every public class and function, and the public methods and properties of the classes."""
    for module, value in modules().items():
        for name, inner in exports(value).items():
            if inspect.isclass(inner):
                yield Public(module, name, inner)
                yield from members(module, name, inner)
            elif callable(inner) and inspect.isfunction(inspect.unwrap(inner)):
                yield Public(module, name, inner)


def members(module: str, name: str, kind: type) -> Iterator[Public]:
    """Methods and properties that a class has from this package, its ``__call__`` among them."""
    seen: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.split(".")[0] != kind.__module__.split(".")[0]:
            continue
        for inner, value in vars(base).items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            wanted = not inner.startswith("_") or inner == "__call__"
            is_member = isinstance(function, property) or inspect.isfunction(
                inspect.unwrap(function) if callable(function) else function
            )
            if wanted and is_member and inner not in seen:
                seen.add(inner)
                yield Public(module, f"{name}.{inner}", getattr(kind, inner), kind)


def fields(kind: type) -> dict[str, Any]:
    """The public fields of a class, annotated in it or in a base of this package."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.split(".")[0] == kind.__module__.split(".")[0]:
            for name, annotation in vars(base).get("__annotations__", {}).items():
                if not name.startswith("_") and "ClassVar" not in str(annotation):
                    found[name] = annotation
    return found
