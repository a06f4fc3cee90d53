"""Names of variables in C: those that the source gives."""

import re

from rtrl.device._layout import C_WORDS
from rtrl.device._node import Node

#: What means something else in the C: loop variables, arguments, memory, functions of `math.h`.
_TAKEN = C_WORDS | set(
    "i j k l m n x y weight reset prediction skipped no_target state scale scratch flags counts "
    "words halves octets as_float as_uint square logistic maximum minimum sign_of take "
    "deviation learn look advance put get half byte narrow_byte set_narrow_byte "
    "j0 j1 jn y0 y1 yn gamma lgamma exp log abs main signgam".split()
)


_NAMELESS = ("__call__", "lambda", "listcomp", "genexpr", "dictcomp")


class Names:
    """One name for every value, as in the Python it comes from."""

    def __init__(self):
        self._used: set[str] = set(_TAKEN)
        self._of: dict[Node, str] = {}

    def of(self, node: Node) -> str:
        if node not in self._of:
            self._of[node] = self.new(_base(node))
        return self._of[node]

    def fresh(self, node: Node) -> str:
        """Another name for the same: of a copy of a value in one loop."""
        return self.new(_base(node))

    def new(self, base: str) -> str:
        name, n = base, 1
        while name in self._used or (n == 1 and base in _TAKEN):
            n += 1
            name = f"{base}_{n}"
        self._used.add(name)
        return name


def _base(node: Node) -> str:
    origin = node.origin
    base = "value"
    if origin is not None and origin.file:
        words = re.findall(r"\w+", origin.function.replace("<locals>", ""))
        words = [w for w in words if w not in _NAMELESS]
        base = origin.name or (words[-1] if words else "value")
        base = base.strip("_").lower() if not origin.name else base.strip("_")
        base = f"d_{base}" if origin.back else base
    base = base or "value"
    return f"{base}_{node.part}" if node.part and not base.endswith(("_re", "_im")) else base
