"""The imports of the package, parsed: who takes what from whom, and whether the house allows it."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

#: The rooms from top to bottom: a room imports from those below it only. The package's own
#: `__init__` stands between `cli`, which uses it as a person would, and all that it offers.
ROOMS = (
    "cli", "rtrl", "device", "analysis", "streams", "tables", "learners", "networks", "rules",
    "engine", "cells", "kernels", "tasks", "validate",
)  # fmt: skip

#: What takes long to import or is not always there: the one reason for an import inside a function.
HEAVY = {
    "jax.experimental.pallas", "matplotlib", "rich", "typer", "sklearn", "reservoirpy", "pooch",
    "h5py", "aeon", "tensorboardX",
}  # fmt: skip

#: The commands and their options: each loads what it needs when called, so that help comes first.
COMMANDS = ("rtrl.cli._app", "rtrl.cli._command_", "rtrl.cli._given")


class Import(NamedTuple):
    """One name taken from one module: ``from module import name``."""

    importer: str
    line: int
    module: str
    name: str | None
    late: bool

    def __str__(self) -> str:
        what = self.module if self.name is None else f"{self.name} from {self.module}"
        return f"{self.importer}, line {self.line}: imports {what}"


def modules_of(root: Path, package: str) -> dict[str, str]:
    """The source of every module of a package, by dotted name."""
    found = {}
    for folder, prefix in ((root / package, package), *_mapped(root, package)):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            inside_link = folder.name == package and parts[0] in ("kernels", "tasks")
            if not inside_link:
                name = ".".join((prefix, *parts)).removesuffix(".__init__")
                found[name] = path.read_text()
    return found


def _mapped(root: Path, package: str) -> list[tuple[Path, str]]:
    names = ("kernels", "tasks")
    return [(root / name, f"{package}.{name}") for name in names if (root / name).is_dir()]


def imports_of(modules: Mapping[str, str]) -> list[Import]:
    """Every import in the sources, those inside functions and for type checkers among them."""
    return [found for name, source in modules.items() for found in _parse(name, source)]


def _parse(importer: str, source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, node.lineno, alias.name, None, id(node) in late)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer}, line {node.lineno}: imports are absolute here"
            for alias in node.names:
                yield Import(importer, node.lineno, node.module or "", alias.name, id(node) in late)


def room_of(module: str) -> str:
    """The room of a module of the package: ``rtrl.engine._trace`` is in ``engine``."""
    _, *rest = module.split(".")
    if rest and rest[0] == "__main__":
        return "cli"
    return rest[0] if rest and not rest[0].startswith("_") else "rtrl"  # `rtrl._offered`


def complaints(modules: Mapping[str, str], rooms: tuple[str, ...] = ROOMS) -> list[str]:
    """What the house does not allow, in words; none if all is well."""
    package = next(iter(modules)).split(".")[0]
    every = imports_of(modules)
    own = [i for i in every if i.module.split(".")[0] == package]
    found = []
    for i in own:
        here, there = room_of(i.importer), room_of(_target(i, modules))
        for room in (here, there):
            if room not in rooms:
                found.append(f"{i}: there is no room {room!r} in the order")
                break
        else:
            if here != there and rooms.index(there) < rooms.index(here):
                found.append(f"{i}: against the order, {there} is above {here}")
            private = [
                p
                for p in (*i.module.split("."), i.name or "")
                if p.startswith("_") and p != "__main__"
            ]
            if here != there and private:
                found.append(f"{i}: {private[0]} belongs to another folder")
        if i.late and not i.importer.startswith(COMMANDS) and not _defers(i, every, modules):
            found.append(f"{i}: inside a function, though it loads nothing heavy")
    return found + [f"a circle: {' -> '.join(circle)}" for circle in circles(own, modules)]


def _target(i: Import, modules: Mapping[str, str]) -> str:
    """The module that an import loads: ``from package import module`` names it last."""
    inner = f"{i.module}.{i.name}"
    return inner if inner in modules else i.module


def _defers(i: Import, every: list[Import], modules: Mapping[str, str]) -> bool:
    """Whether a late import loads something heavy that its importer has not loaded already."""
    return bool(_loads(_target(i, modules), every, modules) - _loads(i.importer, every, modules))


def _loads(module: str, every: list[Import], modules: Mapping[str, str]) -> set[str]:
    """The heavy packages that are loaded with a module, by imports of its own and of others."""
    seen, waiting, heavy = set(), [module], set()
    while waiting:
        now = waiting.pop()
        if now in seen:
            continue
        seen.add(now)
        for i in every:
            if i.importer == now and not i.late:
                heavy |= {h for h in HEAVY if f"{i.module}.{i.name}.".startswith(f"{h}.")}
                if _target(i, modules) in modules:
                    waiting.append(_target(i, modules))
    return heavy


def circles(own: list[Import], modules: Mapping[str, str]) -> list[list[str]]:
    """Modules that import each other, late imports included; each circle once."""
    edges: dict[str, set[str]] = {name: set() for name in modules}
    for i in own:
        target = _target(i, modules)
        if target in modules and target != i.importer:
            edges[i.importer].add(target)
    found, done, path = [], set(), []

    def visit(name: str) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
            return
        if name in done:
            return
        path.append(name)
        for target in sorted(edges[name]):
            visit(target)
        path.pop()
        done.add(name)

    for name in sorted(modules):
        visit(name)
    return found
