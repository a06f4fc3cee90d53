"""The source file of a learner in C."""

import textwrap
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from rtrl.device._around import around
from rtrl.device._expressions import C_TYPES, literal
from rtrl.device._function import SCRATCH, Function, rows, table, write
from rtrl.device._layout import KINDS, Member, members, numbers, size_of, stream_of
from rtrl.device._names import Names
from rtrl.device._saving import saving
from rtrl.device._step import Sizes, trace
from rtrl.learners import OnlineLearner

_BYTES = {"ushort": 2, "schar": 1}  # of a number in the scratch memory, where they are not 4


class Source(NamedTuple):
    """The text of ``name.c``, and the figures that its documentation states."""

    text: str
    sizes: Sizes
    layout: list[Member]
    state_bytes: int
    scratch_bytes: int
    operations: int
    delay: int


def source(learner: Any, state: Any, name: str) -> Source:
    """Write a learner and its state as C."""
    parts = trace(learner, state)
    stream = stream_of(state)
    tables = Names()
    learn, predict = write(parts.learn, tables), write(parts.predict, tables)
    ahead = None if parts.ahead is None else write(parts.ahead, tables)
    functions = [f for f in (learn, predict, ahead) if f is not None]
    layout = members(state)
    scratch: dict[str, int] = {}
    for function in functions:
        for kind, size in function.scratch.items():
            scratch[kind] = max(scratch.get(kind, 0), size)
    plain = isinstance(learner, OnlineLearner) and stream is None
    if plain:
        calls = _learn(name, f"int {name}_step", parts.sizes, learn, "reset = reset != 0;\n")
        calls += _look(f"void {name}_predict(const float *x, float *prediction)", predict)
    else:
        calls = _learn(name, "static int learn", parts.sizes, learn, "")
        calls += _look("static void predict_now(const float *x, float *prediction)", predict)
        if ahead is not None:
            calls += _look("static void look(const float *x, int reset, float *prediction)", ahead)
        calls += around(name, learner, state, _hidden(layout))
    texts = [
        _head(name),
        _state(name, layout),
        _scratch(scratch),
        "".join(f"{t}\n" for t in sorted({h for f in functions for h in f.helpers.values()})),
        "".join(table(n, node) + "\n" for f in functions for n, node in f.tables.items()),
        _init(name, layout, numbers(state, layout)),
        calls,
        saving(name, layout),
    ]
    return Source(
        "\n".join(text.strip("\n") + "\n" for text in texts if text.strip()),
        parts.sizes,
        layout,
        size_of(layout),
        sum(size * _BYTES.get(kind, 4) for kind, size in scratch.items()),
        learn.operations,
        0 if stream is None else stream.delay,
    )


def _hidden(layout: list[Member]) -> list[tuple[str, str]]:
    """Hidden states ahead of a learner, and the learner's own."""
    return [(m.name, m.name.replace("ahead", "carry", 1)) for m in layout
            if m.name.startswith("ahead_")]  # fmt: skip


def _head(name: str) -> str:
    return f"""
/* {name}: a recurrent network that predicts and learns, one timestep after the other.

   Exported by rtrl; {name}.h says how it is used. Arrays are named as in the Python that they come
   from, d_ before a name is the derivative of the loss by it, and comments name the function that a
   loop was written as. The arithmetic is that of single precision throughout. */

#include "{name}.h"

#include <math.h>
#include <string.h>

#ifdef __FAST_MATH__
#error "-ffast-math takes away the checks for numbers that are not finite"
#endif

typedef char {name}_needs_words_of_4_bytes[sizeof(int) == 4 && sizeof(float) == 4 ? 1 : -1];
"""


def _state(name: str, layout: list[Member]) -> str:
    tag = " state" if any(m.narrow for m in layout) else ""
    text = [f"/* What {name} knows: parameters, hidden states, traces, the optimizer's state. */",
            f"static struct{tag} {{",
            *_fields(m for m in layout if not m.wide), "} state;"]  # fmt: skip
    if any(m.wide for m in layout):
        text += ["", "/* Scales and counts of the stream. */", "static struct {",
                 *_fields(m for m in layout if m.wide), "} scale;"]  # fmt: skip
    return "\n".join(text)


def _fields(layout: Iterable[Member]) -> list[str]:
    lines = []
    for m in layout:
        size = "" if m.single else f"[{m.size}]"
        shape = " x ".join(str(n) for n in m.shape if n != 1)
        comment = f" /* {shape} */" if "x" in shape else ""
        lines.append(f"    {KINDS[m.dtype][0]} {m.name}{size};{comment}")
    return lines


def _scratch(scratch: dict[str, int]) -> str:
    lines = [
        f"static {C_TYPES[kind]} {SCRATCH[kind]}[{size}];" for kind, size in scratch.items() if size
    ]
    if not lines:
        return ""
    about = "/* Values within one timestep; what is never needed at once shares a place. */"
    return "\n".join([about, *lines])


def _init(name: str, layout: list[Member], values: list[np.ndarray]) -> str:
    tables, lines = [], []
    for m, value in zip(layout, values, strict=True):
        kind = {"float32": "float", "uint32": "uint", "float64": "double"}.get(m.dtype, "int")
        struct = "scale" if m.wide else "state"
        flat = value.reshape(-1)
        first = flat[:1].tobytes()
        if flat.tobytes() == first * flat.size:
            if flat.size and flat[0] != 0:
                text = literal(flat[0], kind)
                if m.single:
                    lines.append(f"    {struct}.{m.name} = {text};")
                else:
                    lines += [f"    for (int i = 0; i < {m.size}; i++) {{",
                              f"        {struct}.{m.name}[i] = {text};", "    }"]  # fmt: skip
            continue
        tables.append(f"static const {KINDS[m.dtype][0]} first_{m.name}[{m.size}] = {{\n"
                      f"{rows(flat, kind)}\n}};\n")  # fmt: skip
        lines.append(f"    memcpy({struct}.{m.name}, first_{m.name}, sizeof {struct}.{m.name});")
    body = "\n".join(lines)
    also = "    memset(&scale, 0, sizeof scale);\n" if any(m.wide for m in layout) else ""
    return "\n".join([
        "/* The state that was exported. */",
        *tables,
        f"void {name}_init(void)\n{{\n    memset(&state, 0, sizeof state);\n{also}{body}\n}}",
    ])  # fmt: skip


def _learn(name: str, head: str, sizes: Sizes, learn: Function, first: str) -> str:
    return f"""
/* Predict from x, then learn from y: see {name}_step. */
{head}(const float *x, const float *y, float weight, int reset, float *prediction)
{{
    static const float no_target[{sizes.y}] = {{0}};
    int skipped;

    if (!y) {{
        y = no_target;
        weight = 0.0f;
    }}
{textwrap.indent(first, "    ")}{chr(10).join(learn.body)}
    return skipped;
}}
"""


def _look(head: str, look: Function) -> str:
    return f"\n{head}\n{{\n{chr(10).join(look.body)}\n}}\n"
