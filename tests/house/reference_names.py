"""Where every name that a docstring may mention is documented, and how annotations are shown."""

import functools
import inspect
import re
from typing import Any

import surface
from markdown_of import is_foreign
from pdoc.render_helpers import format_signature
from reference_pages import ROOMS_PAGE, rooms

#: Names of unions, which Python shows as what they are unions of.
ALIASES = {
    "ArrayLike": (
        "jax.Array", "ndarray", "numpy.bool", "number", "bool", "int", "float", "complex",
    ),
    "PRNGKeyArray": ("Key[Array, '']", "UInt32[Array, '2']", "UInt32[Array, '4']"),
}  # fmt: skip


class Names:
    """Where every name that a docstring may mention is documented.

    Attributes:
        homes: addresses from the root of the site, by every way to write the name.
        errors: names in backticks that are none.
    """

    def __init__(self):
        self.homes: dict[str, str] = {}
        self.own: dict[tuple[str, str], str] = {}
        self.errors: list[str] = []
        classes: dict[type, tuple[str, str]] = {}
        for public in surface.names():
            if inspect.isclass(public.value):
                classes.setdefault(public.value, (public.module, public.name))
        for public in surface.names():
            module, name = public.module, public.name
            if public.owner is not None:  # a page has the members of private bases, not of others
                member = name.rpartition(".")[2]
                base = next(b for b in public.owner.__mro__ if member in vars(b))
                if base is not public.owner and base in classes:
                    module, name = classes[base][0], f"{classes[base][1]}.{member}"
            address = f"{module.replace('.', '/')}.html#{name}"
            for name in (public.path, public.name):
                self.homes.setdefault(name, address)
            self.own[public.module, public.name] = address
        for module in surface.modules():
            for name in (module, module.rpartition(".")[2]):
                self.homes.setdefault(name, f"{module.replace('.', '/')}.html")
        for room, exported in rooms().items():
            for name in exported:
                self.homes.setdefault(name, f"{ROOMS_PAGE}#{room}.{name}")

    def resolve(self, name: str, module: str, qualname: str, local: set[str]) -> str | None:
        """The address of a name in a docstring, relative to the page of its module."""
        bare = name.removesuffix("()")
        if name in local or is_foreign(bare):
            return None
        kinds = qualname.split(".")
        inner = [".".join((*kinds[:n], bare)) for n in range(len(kinds), -1, -1)]
        found = [self.own[module, n] for n in inner if (module, n) in self.own]
        address = next(iter(found), self.homes.get(bare))
        if address is None:
            self.errors.append(f"{module}.{qualname}: `{name}` is no name of this package")
            return None
        return f"{'../' * module.count('.')}{address}"


class Verbatim(str):
    """An annotation that is shown as it is."""

    def __repr__(self) -> str:
        return str(self)


def brief(annotation: Any) -> Verbatim:
    """An annotation as the source has it, without the modules that it comes from."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\bjaxlib\._jax\.(?=Array)", "", text)
    text = re.sub(r"\b(jaxtyping|collections\.abc|typing|numpy|pathlib)\.(?=[A-Zn])", "", text)
    text = re.sub(r"\brtrl(\.\w+)+", lambda m: _public_path(m[0]), text)
    text = re.sub(r"\b((?:[a-z]\w*\.)+?)_\w+\.(?:\w+\.)*(\w+)", r"\1\2", text)  # optax._src.base.X
    for alias, parts in ALIASES.items():
        for between in (", ", " | "):
            text = text.replace(between.join(parts), alias)
    return Verbatim(re.sub(r"\bUnion\[(\w+)(, NoneType)?\]", _optional, text))


def _optional(match: re.Match) -> str:
    return f"{match[1]} | None" if match[2] else match[1]


@functools.cache
def _public_paths() -> dict[str, str]:
    """The name that a user writes for a class, by the one that Python has for it."""
    found: dict[str, str] = {}
    for public in surface.names():
        if public.owner is None and inspect.isclass(public.value):
            own = f"{public.value.__module__}.{public.value.__qualname__}"
            found.setdefault(own, public.path)
    return found


def _public_path(path: str) -> str:
    return _public_paths().get(path, path.rpartition(".")[2] if "._" in path else path)


def short_signature(signature: inspect.Signature, colon: bool) -> Any:
    def shorter(annotation: Any) -> Any:
        return annotation if annotation is inspect.Parameter.empty else brief(annotation)

    parameters = [
        p.replace(annotation=shorter(p.annotation)) for p in signature.parameters.values()
    ]
    back = shorter(signature.return_annotation)
    short = signature.replace(parameters=parameters, return_annotation=back)
    return format_signature(short, colon)
