"""The pages of the reference that are not modules: the repository's Markdown, and the rooms."""

import inspect
import re
import sys
from typing import Any

import surface
from imports import ROOMS
from surface import ROOT

ROOMS_PAGE = "rooms.html"


def rooms() -> dict[str, dict[str, Any]]:
    """What every room exports, public or not, from top to bottom."""
    found = {}
    for room in ROOMS:
        module = sys.modules.get(f"rtrl.{room}")
        if module is not None and room not in ("cli", "validate"):
            exported = surface.exports(module)
            found[room] = {k: v for k, v in exported.items() if not inspect.ismodule(v)}
    return found


def rooms_markdown() -> str:
    """Every room with its question and what it exports, one line each."""
    lines = [
        "# Rooms",
        "",
        "Inside `rtrl/` a folder answers one question, and imports run one way, from top to "
        "bottom. What a user needs is offered by the public modules; this is where it lives, and "
        "what else the rooms hand to those above them.",
        "",
    ]
    for room, exported in rooms().items():
        doc = inspect.cleandoc(sys.modules[f"rtrl.{room}"].__doc__ or "")
        question, _, rest = doc.partition("?")
        lines += [f"## {room}: {question}?", "", rest.strip(), ""]
        for name, value in exported.items():
            has_text = inspect.isclass(value) or inspect.isroutine(value)
            doc = (inspect.getdoc(value) or "") if has_text else ""
            text = doc.splitlines()[0].removesuffix("::") if doc else ""
            summary = text.replace("``", "`").replace("<", "&lt;")
            lines.append(f'- <a id="{room}.{name}"></a>**{name}** {summary}')
        lines.append("")
    return "\n".join(lines)


class Files:
    """The Markdown pages and what they lead to.

    Attributes:
        pages: Markdown of every page, by its path in the repository.
        copied: files that a page shows or links to.
        errors: paths that lead nowhere.
    """

    def __init__(self, texts: dict[str, str]):
        self.pages: dict[str, str] = {}
        self.copied: set[str] = set()
        self.errors: list[str] = []
        waiting = dict(texts)
        while waiting:
            path, text = waiting.popitem()
            self.pages[path] = self._linked(path, text)
            for inner in sorted(self.copied):
                if inner.endswith(".md") and inner not in self.pages and inner not in waiting:
                    waiting[inner] = (ROOT / inner).read_text()

    def _linked(self, page: str, text: str) -> str:
        """Make links of paths in backticks; lead those to Markdown files to their pages."""
        pieces = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
        for i in range(0, len(pieces), 2):
            piece = re.sub(r"(\]\()([^)\s]+)(\))", lambda m: self._link(page, m), pieces[i])
            path = r"(?<!\[)`([\w./-]+\.(?:md|png|json|py))`(?!\])"
            pieces[i] = re.sub(path, lambda m: self._path(page, m), piece)
        return "".join(pieces)

    def _link(self, page: str, match: re.Match) -> str:
        target, _, fragment = match[2].partition("#")
        if "://" in target or not target:
            return match[0]
        found = self._find(page, target, near=True)
        if found is None:
            return match[0]
        address = address_of(found, page) + (f"#{fragment}" if fragment else "")
        return f"{match[1]}{address}{match[3]}"

    def _path(self, page: str, match: re.Match) -> str:
        found = self._find(page, match[1], near=False)
        if found is None or found.endswith(".py"):
            return match[0]
        return f"[`{match[1]}`]({address_of(found, page)})"

    def _find(self, page: str, target: str, *, near: bool) -> str | None:
        """The path in the repository; one in backticks may begin there or where its page is."""
        starts = [ROOT / page] if near else [ROOT / page, ROOT / "README.md", ROOT / "rtrl/_"]
        for start in starts:
            path = (start.parent / target).resolve()
            if path.is_file() and path.is_relative_to(ROOT):
                found = path.relative_to(ROOT).as_posix()
                if not found.endswith(".py"):
                    self.copied.add(found)
                return found
        if "/" in target or near:
            self.errors.append(f"{page}: {target} is no file")
        return None


def address_of(path: str, page: str) -> str:
    target = "index.html" if path == "README.md" else re.sub(r"\.md$", ".html", path)
    return "../" * page.count("/") + target
