"""Build the API reference: ``python tests/house/build_docs.py``, or ``make docs``.

Front page is the README; then a page for every public module, one for the rooms, and every Markdown
file and picture that these lead to. A name in backticks that is no name, a path that is no file, a
link that leads nowhere, and any warning end it with an error. Needs no network.

It is here because it is a check of the house: its list of names is that of `test_docstrings`.
"""

import argparse
import inspect
import shutil
import sys
import types
import warnings
from pathlib import Path
from typing import NamedTuple

import jinja2
import links
import pdoc
import pdoc.render
import surface
from markdown_of import markdown_of
from pdoc.doc import Class, Doc, Function, Module
from pdoc.render_helpers import to_html
from reference_names import Names, brief, short_signature
from reference_pages import ROOMS_PAGE, Files, address_of, rooms_markdown

ROOT = surface.ROOT
HERE = Path(__file__).parent

#: Pages of the repository, by the title in the side bar. What they link to comes along.
PAGES = {
    "README.md": "README",
    "rtrl/analysis/README.md": "Why it learns, or not",
    "rtrl/engine/README.md": "How a step flows",
    "kernels/README.md": "The GPU kernel",
    "bench/README.md": "Benchmarks",
    "bench/results/zoo.md": "Every cell and rule",
}


class Page(NamedTuple):
    """An entry of the side bar."""

    title: str
    address: str


def _public_modules() -> dict[str, Module]:
    """The public modules as pdoc is to see them: by their public names, with what they offer."""
    found = {}
    for name, module in surface.modules().items():
        offered = {k: v for k, v in surface.exports(module).items() if not inspect.ismodule(v)}
        shown = types.ModuleType(name, module.__doc__)
        shown.__dict__.update(offered, __all__=list(offered))
        found[name] = Module(shown)
        for kind in found[name].classes:
            kind.own_members = _own_members(kind)
    return found


def _own_members(kind: Class) -> list[Doc]:
    """The members that a class's section shows: its own, and those of bases that have no page."""
    shown = {f"{value.__module__}.{value.__qualname__}" for value in _public_classes()}
    elsewhere = {
        member.name
        for (module, base), members in kind.inherited_members.items()
        for member in members
        if f"{module}.{base}" in shown or not module.startswith("rtrl.")
    }
    return [member for name, member in kind.members.items() if name not in elsewhere]


def _public_classes() -> list[type]:
    return [p.value for p in surface.names() if p.owner is None and inspect.isclass(p.value)]


def _configure(names: Names, site: list[Page]) -> None:
    pdoc.render.configure(
        docformat="markdown", show_source=False, template_directory=HERE / "templates"
    )
    pdoc.doc.formatannotation = brief  # type: ignore[attr-defined]
    every = {p.path: p for p in surface.names()}

    def documentation(doc: Doc) -> str:
        local = _local_names(doc)
        qualname = doc.qualname if doc.kind != "module" else ""
        return markdown_of(
            doc.docstring, lambda name: names.resolve(name, doc.modulename, qualname, local)
        )

    def is_public_here(doc: Doc) -> bool:
        if doc.kind == "variable" and "." not in doc.qualname:
            return False  # constants: not part of the surface
        if doc.kind == "variable":
            kind = every[f"{doc.modulename}.{doc.qualname.rpartition('.')[0]}"].value
            named = doc.name in surface.fields(kind)
            return named or isinstance(vars(kind).get(doc.name), property)
        if isinstance(doc, Function) and doc.name == "__init__":
            return bool(doc.signature_without_self.parameters)
        return f"{doc.modulename}.{doc.qualname}" in every

    def inherited_homes(kind: Class) -> list[tuple[str, str]]:
        own = {member.name for member in kind.own_members}
        members = surface.members(kind.modulename, kind.qualname, kind.obj)
        up = "../" * kind.modulename.count(".")
        return [
            (public.name.rpartition(".")[2], up + names.own[public.module, public.name])
            for public in members
            if public.name.rpartition(".")[2] not in own
        ]

    @jinja2.pass_context
    def up(context: jinja2.runtime.Context) -> str:
        return "../" * context["module"].modulename.count(".")

    env = pdoc.render.env
    env.filters |= {
        "brief": brief,
        "documentation": documentation,
        "format_signature": short_signature,
        "is_public_here": is_public_here,
        "inherited_homes": inherited_homes,
    }
    env.globals |= {"site": site, "up": up}


def _local_names(doc: Doc) -> set[str]:
    """What a docstring may put in backticks that is no public name: arguments and fields."""
    if isinstance(doc, Function):
        return set(doc.signature.parameters)
    if isinstance(doc, Class):
        makers = inspect.signature(doc.obj).parameters if not _is_error(doc.obj) else ()
        return {*surface.fields(doc.obj), *makers, *vars(doc.obj)} - set(_callables(doc.obj))
    return set()


def _is_error(kind: type) -> bool:
    return issubclass(kind, BaseException)


def _callables(kind: type) -> list[str]:
    return [name for name, value in vars(kind).items() if callable(value)]


def build(out: Path) -> list[str]:
    """Build the site into a folder, which is emptied first; say what is wrong with it."""
    names = Names()
    texts = {page: (ROOT / page).read_text() for page in PAGES}
    files = Files({**texts, "rooms.md": rooms_markdown()})
    modules = _public_modules()
    site = [Page(title, address_of(path, "")) for path, title in PAGES.items()]
    site += [Page("Rooms", ROOMS_PAGE)]
    site += [Page(name, f"{name.replace('.', '/')}.html") for name in sorted(modules)]
    _configure(names, site)

    shutil.rmtree(out, ignore_errors=True)
    for path in sorted(files.copied):
        if not path.endswith(".md"):
            _write(out / path, (ROOT / path).read_bytes())
    page_template = pdoc.render.env.get_template("page.html.jinja2")
    for path, text in files.pages.items():
        title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), path)
        html = page_template.render(title=title, html=to_html(text), up="../" * path.count("/"))
        _write(out / address_of(path, ""), html.encode())
    for name, module in modules.items():
        html = pdoc.render.html_module(module, modules)
        _write(out / f"{name.replace('.', '/')}.html", html.encode())
    _write(out / "search.js", pdoc.render.search_index(modules).encode())
    return [*names.errors, *files.errors, *links.complaints(out)]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs")
    out = parser.parse_args().out
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        errors = build(out)
    for error in dict.fromkeys(errors):
        print(f"docs: {error}", file=sys.stderr)
    if errors:
        sys.exit(1)
    print(f"{out / 'index.html'}")


if __name__ == "__main__":
    main()
