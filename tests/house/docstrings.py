"""What the docstring of a public name must say, and which of it a docstring does not."""

import ast
import inspect
import re
import textwrap
from typing import Any

from surface import Public, fields

from rtrl.cells import Cell
from rtrl.rules import Rule
from rtrl.tasks import summary

#: A summary that begins so says what comes back; any other needs "Returns" (or, of a task, the
#: shapes of what it makes).
SAYS_WHAT_COMES_BACK = ("Give", "Say", "List", "Name", "Whether", "Yield", "Read", "Turn")

#: Published algorithms that are neither cells nor rules nor tasks, which must all name a source.
PUBLISHED = {
    "rtrl.Block", "rtrl.GLU", "rtrl.Readout", "rtrl.SequenceModel", "rtrl.kalman",
    "rtrl.paper_optimizer", "rtrl.random_feedback", "rtrl.evaluate.prequential",
    "rtrl.kernels.diagonal_trace", "rtrl.tasks.baselines.esn", "rtrl.tasks.baselines.rls_lags",
    "rtrl.cells.surrogate.arctan", "rtrl.cells.surrogate.fast_sigmoid",
    "rtrl.cells.surrogate.multi_gaussian", "rtrl.cells.surrogate.triangular",
}  # fmt: skip

#: Published algorithms and figures whose equation must be there, beside cells and rules.
WITH_EQUATION = PUBLISHED - {"rtrl.SequenceModel", "rtrl.evaluate.prequential"} | {
    "rtrl.OnlineLearner", "rtrl.recur", "rtrl.sequence_gradient", "rtrl.analysis.cosine_by_layer",
    "rtrl.evaluate.NRMSE", "rtrl.evaluate.MAE", "rtrl.evaluate.CrossEntropy",
    "rtrl.tasks.baselines.nrmse",
}  # fmt: skip

#: A literal block: after "::", or by itself as in the tasks.
EQUATION = re.compile(r"(::|\.|,)\n\n {4,}\S")

#: What refuses an argument; whoever calls it has something to say under "Raises".
REFUSING = re.compile(r"require(_\w+)?|check_\w+")

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Shapes\b.*):[ \t]*$", re.MULTILINE)
_ENTRY = re.compile(r"^    ((?:\*{0,2}\w+(?:, )?)+):\s", re.MULTILINE)
_LIKE = re.compile(r"^\s*(?:As|See|Arguments as for|As for) `([\w.]+)`", re.MULTILINE)


def complaints(public: Public, everything: dict[str, Any]) -> list[str]:
    """What is missing from the docstring of one public name, in words; none if all is there.

    Args:
        public: the name.
        everything: the docstrings of all public names by their last dotted part or parts, where
            "As `OnlineLearner.step`" is looked up.
    """
    doc = inspect.getdoc(public.value) or ""
    return _body(public, doc, everything) + _literature(public, doc)


def _literature(public: Public, doc: str) -> list[str]:
    """The equation and the source, of what has them."""
    kind = public.value if inspect.isclass(public.value) else object
    modelled = issubclass(kind, Cell | Rule) and not inspect.isabstract(kind)
    is_task = any(public.value is task.function for task in summary())
    found = []
    if (modelled or public.path in WITH_EQUATION) and not EQUATION.search(doc):
        found.append("the equation")
    if (modelled or is_task or public.path in PUBLISHED) and not re.search(
        r"^Source: \S", doc, re.MULTILINE
    ):
        found.append("the source")
    return found


def _body(public: Public, doc: str, everything: dict[str, Any]) -> list[str]:
    if isinstance(public.value, property):
        return _summary(doc)
    if inspect.isclass(public.value):
        return _summary(doc) + _class(public.value, doc, everything)
    return _summary(doc) + _function(_documented(public), doc, everything)


def _documented(public: Public) -> Any:
    """The function whose docstring it is: an override without one has that of its base."""
    name = public.name.rsplit(".", 1)[-1]
    for base in public.owner.__mro__ if public.owner else ():
        function = vars(base).get(name)
        function = getattr(function, "__func__", function)
        if getattr(function, "__doc__", None):
            return function
    return public.value


def _summary(doc: str) -> list[str]:
    paragraph = doc.split("\n\n")[0]
    if not doc:
        return ["no docstring"]
    if "\n" in paragraph.strip() and not paragraph.split("\n")[0].rstrip().endswith("."):
        return ["the summary is longer than a line"]
    if not paragraph.split("\n")[0].rstrip().endswith((".", "?", "::")):
        return ["the summary does not end with a full stop"]
    return []


def _function(function: Any, doc: str, everything: dict[str, Any]) -> list[str]:
    signature = inspect.signature(function)
    wanted = [n for n in signature.parameters if n not in ("self", "cls") and n[0] != "_"]
    found = [f"argument {name}" for name in wanted if name not in _described(doc, everything)]
    back = signature.return_annotation
    if back not in (None, "None", inspect.Signature.empty) and not _says_what_comes_back(
        doc, everything
    ):
        found.append("what it returns")
    if _refuses(function) and not _has(doc, "Raises", everything):
        found.append("the errors it raises")
    return found


def _class(kind: type, doc: str, everything: dict[str, Any]) -> list[str]:
    known = _described(doc, everything) | _inherited(kind)
    wanted = [] if getattr(kind, "_is_protocol", False) else _parameters(kind)
    found = [f"argument {name}" for name in wanted if name not in known]
    for name in fields(kind):
        # What an equation or a sentence names is described there; its annotation has the shape.
        if name not in known and not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", doc):
            found.append(f"field {name}")
    makers = [vars(kind)[m] for m in ("__init__", "__check_init__") if m in vars(kind)]
    own = [m for m in makers if inspect.unwrap(m).__module__ == kind.__module__]
    if any(map(_refuses, own)) and not _has(doc, "Raises", everything):
        found.append("the errors it raises")
    return found


def _inherited(kind: type) -> set[str]:
    """The fields that a base of ours defines and describes: variants need not say it again."""
    return {
        name
        for base in kind.__mro__[1:]
        for name in vars(base).get("__annotations__", {})
        if f"``{name}``" in (base.__doc__ or "")
    }


def _parameters(kind: type) -> list[str]:
    """What a class is made from; a NamedTuple and a dataclass from their fields."""
    made_elsewhere = re.search(r"made by `\w+`", inspect.getdoc(kind) or "")
    if inspect.isabstract(kind) or issubclass(kind, BaseException) or made_elsewhere:
        return []
    own = next((b for b in kind.__mro__ if "__init__" in vars(b)), object)
    if own.__module__.split(".")[0] != kind.__module__.split(".")[0]:
        return [n for n in inspect.signature(kind).parameters if n in fields(kind)]
    return [n for n in inspect.signature(kind).parameters if n != "self"]


def _described(doc: str, everything: dict[str, Any]) -> set[str]:
    """The names under "Args" and "Attributes", and those under the docstring that it refers to."""
    sections = _sections(doc)
    text = "\n".join(
        body for title, body in sections if title in ("Args", "Attributes") or "Shapes" in title
    )
    names = {n.strip(" *") for entry in _ENTRY.findall(text) for n in entry.split(",")}
    for other in _LIKE.findall(doc):
        if other in everything and everything[other] != doc:
            names |= _described(everything[other], everything)
    return names


def _sections(doc: str) -> list[tuple[str, str]]:
    """Every section's title and its indented lines."""
    found = []
    for match in _SECTION.finditer(doc):
        lines = []
        for line in doc[match.end() + 1 :].splitlines():
            if line and not line.startswith(" "):
                break
            lines.append(line)
        found.append((match[1], "\n".join(lines)))
    return found


def _has(doc: str, section: str, everything: dict[str, Any]) -> bool:
    return any(title == section for title, _ in _sections(doc)) or any(
        other in everything and everything[other] != doc
        and _has(everything[other], section, everything)
        for other in _LIKE.findall(doc)
    )  # fmt: skip


def _says_what_comes_back(doc: str, everything: dict[str, Any]) -> bool:
    first = doc.split(maxsplit=1)[0] if doc else ""
    if first in SAYS_WHAT_COMES_BACK or re.search(r"^(Returns|Shapes)\b", doc, re.MULTILINE):
        return True
    return any(
        other in everything and everything[other] != doc
        and _says_what_comes_back(everything[other], everything)
        for other in _LIKE.findall(doc)
    )  # fmt: skip


def _refuses(function: Any) -> bool:
    """Whether the code of a function raises, by itself or through what checks arguments."""
    try:
        source = inspect.getsource(inspect.unwrap(function))
    except (TypeError, OSError):
        return False
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if REFUSING.fullmatch(name):
                return True
    return False
