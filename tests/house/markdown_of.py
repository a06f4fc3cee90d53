"""Docstrings as Markdown: literal blocks, sections, and names in backticks that link."""

import builtins
import keyword
import re
from collections.abc import Callable
from importlib.util import find_spec

#: Gives the address of a name that stands in a docstring, or None where it is only code.
Resolve = Callable[[str], str | None]

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Shapes\b.*?):(.*)$")
_ENTRY = re.compile(r"^    (\*{0,2}\w[\w, *]*): ?(.*)$")
_QUOTED = re.compile(r"(?<!`)(``?)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)


def markdown_of(docstring: str, resolve: Resolve) -> str:
    """Markdown for a docstring without indentation.

    A line that ends in ``::`` begins a literal block, as does indentation by itself (`Args` and the
    like aside, which become lists). A name in single backticks becomes a link.
    """
    out: list[str] = []
    lines = docstring.splitlines()
    i = 0
    while i < len(lines):
        line = lines[i]
        section = _SECTION.match(line)
        if section and (not section[2].strip() and _is_indented(lines, i + 1)):
            body, i = _indented(lines, i + 1)
            out += ["", f"**{section[1]}**", "", *_entries(body, resolve), ""]
        elif line.endswith("::") or (not line.strip() and _begins_literal(lines, i)):
            if line.strip(" :"):
                out += [_prose(line.removesuffix(":"), resolve)]
            start = i + 1
            while start < len(lines) and not lines[start].strip():
                start += 1
            body, i = _indented(lines, start)
            out += ["", *_literal(body), ""]
        else:
            paragraph = [line]
            i += 1
            while i < len(lines) and _goes_on(lines, i):
                paragraph.append(lines[i])
                i += 1
            out.append(_prose("\n".join(paragraph), resolve))
    return "\n".join(out)


def _is_indented(lines: list[str], i: int) -> bool:
    return i < len(lines) and lines[i].startswith("    ")


def _begins_literal(lines: list[str], i: int) -> bool:
    return _is_indented(lines, i + 1) and bool(lines[i + 1].strip())


def _goes_on(lines: list[str], i: int) -> bool:
    return bool(lines[i].strip()) and not lines[i].endswith("::") and not _SECTION.match(lines[i])


def _indented(lines: list[str], i: int) -> tuple[list[str], int]:
    body = []
    while i < len(lines) and (_is_indented(lines, i) or not lines[i].strip()):
        body.append(lines[i])
        i += 1
    while body and not body[-1].strip():
        body.pop()
    return body, i


def _literal(body: list[str]) -> list[str]:
    indent = min(len(line) - len(line.lstrip()) for line in body if line.strip())
    return ["```text", *(line[indent:] for line in body), "```"]


def _entries(body: list[str], resolve: Resolve) -> list[str]:
    """The entries of a section as a list; a section without entries is prose."""
    items: list[list[str]] = []
    for line in body:
        entry = _ENTRY.match(line)
        if entry:
            items.append([f"- **{entry[1].replace('*', '&#42;')}**: {entry[2]}"])
        elif items:
            items[-1].append(f"  {line.strip()}")
        else:
            items.append([line.strip()])
    return [_prose("\n".join(item), resolve) for item in items]


def _prose(text: str, resolve: Resolve) -> str:
    def quoted(match: re.Match) -> str:
        content = " ".join(match[2].split())
        if match[1] == "``":
            return f"`{content}`"
        address = resolve(content)
        return f"`{content}`" if address is None else f"[`{content}`]({address})"

    pieces, end = [], 0
    for match in _QUOTED.finditer(text):
        pieces += [_plain(text[end : match.start()]), quoted(match)]
        end = match.end()
    return "".join((*pieces, _plain(text[end:])))


def _plain(text: str) -> str:
    """Stars and angle brackets of an equation in a sentence are themselves."""
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"(?<!\*)\*(?!\*)", "&#42;", text)


def is_foreign(name: str) -> bool:
    """Whether a name in backticks is code of another kind: of Python, another package, or no name.

    What is left must be a name of this package.
    """
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        return True
    root = name.split(".")[0]
    foreign = root != "rtrl" and "." in name and find_spec(root) is not None
    return foreign or hasattr(builtins, name) or keyword.iskeyword(name)
