"""The source file of a learner in C."""

import textwrap
from typing import Any, NamedTuple

import numpy as np

from rtrl.device._expressions import literal
from rtrl.device._function import SCRATCH, Function, rows, table, write
from rtrl.device._layout import KINDS, Member, fingerprint, members, numbers
from rtrl.device._names import Names
from rtrl.device._pack import VERSION
from rtrl.device._step import Sizes, trace

_WORDS = {"float": "float", "int": "int", "uint": "unsigned", "bool": "int"}


class Source(NamedTuple):
    """The text of ``name.c``, and the figures that its documentation states."""

    text: str
    sizes: Sizes
    layout: list[Member]
    state_bytes: int
    scratch_bytes: int
    operations: int


def source(learner: Any, state: Any, name: str) -> Source:
    """Write a learner and its state as C."""
    step, predict, sizes = trace(learner, state)
    tables = Names()
    learn, look = write(step, tables), write(predict, tables)
    layout = members(state)
    scratch: dict[str, int] = {}
    for function in (learn, look):
        for kind, size in function.scratch.items():
            scratch[kind] = max(scratch.get(kind, 0), size)
    parts = [
        _head(name, learn, look),
        _state(name, layout),
        _scratch(scratch),
        "".join(f"{text}\n" for text in sorted({**learn.helpers, **look.helpers}.values())),
        "".join(table(n, node) + "\n" for n, node in {**learn.tables, **look.tables}.items()),
        _init(name, layout, numbers(state)),
        _step(name, sizes, learn),
        _predict(name, look),
        _load_and_save(name, layout),
    ]
    return Source(
        "\n".join(part.strip("\n") + "\n" for part in parts if part.strip()),
        sizes,
        layout,
        4 * sum(m.size for m in layout),
        4 * sum(scratch.values()),
        learn.operations,
    )


def _head(name: str, *functions: Function) -> str:
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
    lines = [f"/* What {name} knows: parameters, hidden states, traces, the optimizer's state. */",
             "static struct {"]  # fmt: skip
    for m in layout:
        kind = KINDS[m.dtype][0]
        size = f"[{m.size}]" if m.size != 1 or m.shape not in ((), (1,)) else ""
        if m.size == 1:
            size = ""
        shape = " x ".join(map(str, m.shape))
        lines.append(f"    {kind} {m.name}{size};" + (f" /* {shape} */" if len(m.shape) > 1 else ""))
    return "\n".join([*lines, "} state;"])


def _scratch(scratch: dict[str, int]) -> str:
    lines = [
        f"static {_WORDS[kind]} {SCRATCH[kind]}[{size}];" for kind, size in scratch.items() if size
    ]
    if not lines:
        return ""
    return "\n".join(["/* Values within one timestep; what is never needed at once shares a place. */",
                      *lines])  # fmt: skip


def _init(name: str, layout: list[Member], values: list[np.ndarray]) -> str:
    tables, lines = [], []
    for m, value in zip(layout, values, strict=True):
        kind = {"float32": "float", "uint32": "uint"}.get(m.dtype, "int")
        flat = value.reshape(-1)
        first = flat[:1].tobytes()
        if flat.tobytes() == first * flat.size:
            if flat.size and flat[0] != 0:
                text = literal(flat[0], kind)
                if m.size == 1:
                    lines.append(f"    state.{m.name} = {text};")
                else:
                    lines += [f"    for (int i = 0; i < {m.size}; i++) {{",
                              f"        state.{m.name}[i] = {text};", "    }"]  # fmt: skip
            continue
        tables.append(f"static const {KINDS[m.dtype][0]} first_{m.name}[{m.size}] = {{\n"
                      f"{rows(flat, kind)}\n}};\n")  # fmt: skip
        lines.append(f"    memcpy(state.{m.name}, first_{m.name}, sizeof state.{m.name});")
    body = "\n".join(lines)
    return "\n".join([
        "/* The state that was exported. */",
        *tables,
        f"void {name}_init(void)\n{{\n    memset(&state, 0, sizeof state);\n{body}\n}}",
    ])  # fmt: skip


def _step(name: str, sizes: Sizes, learn: Function) -> str:
    body = "\n".join(learn.body)
    return f"""
int {name}_step(const float *x, const float *y, float weight, int reset, float *prediction)
{{
    static const float no_target[{sizes.y}] = {{0}};
    int skipped;

    if (!y) {{
        y = no_target;
        weight = 0.0f;
    }}
    reset = reset != 0;
{textwrap.indent(body, "")}
    return skipped;
}}
"""


def _predict(name: str, look: Function) -> str:
    body = "\n".join(look.body)
    return f"""
void {name}_predict(const float *x, float *prediction)
{{
{body}
}}
"""


def _load_and_save(name: str, layout: list[Member]) -> str:
    upper = name.upper()
    label = "".join(f"'{c}', " for c in name[:15])
    return f"""
/* Numbers of 4 bytes, the least significant first, whatever the machine. */
static unsigned get(const unsigned char *bytes)
{{
    return (unsigned)bytes[0] | (unsigned)bytes[1] << 8 | (unsigned)bytes[2] << 16
        | (unsigned)bytes[3] << 24;
}}

static void put(unsigned char *bytes, unsigned number)
{{
    for (int i = 0; i < 4; i++) {{
        bytes[i] = (unsigned char)(number >> 8 * i & 255u);
    }}
}}

/* CRC-32, as in zip files. */
static unsigned checksum(const unsigned char *bytes, size_t size)
{{
    unsigned crc = ~0u;
    for (size_t i = 0; i < size; i++) {{
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {{
            crc = crc >> 1 ^ (crc & 1u ? 0xedb88320u : 0u);
        }}
    }}
    return ~crc;
}}

int {name}_load(const void *bytes, size_t size)
{{
    const unsigned char *from = bytes;
    if (size < {upper}_STATE_BYTES || memcmp(from, "RTRL", 4) != 0) {{
        return {upper}_NO_STATE;
    }}
    if (get(from + 4) != {VERSION}u) {{
        return {upper}_OTHER_VERSION;
    }}
    if (get(from + 8) != {upper}_LAYOUT || get(from + 12) != sizeof state) {{
        return {upper}_OTHER_LEARNER;
    }}
    if (get(from + {upper}_STATE_BYTES - 4) != checksum(from, {upper}_STATE_BYTES - 4)) {{
        return {upper}_DAMAGED;
    }}
    for (size_t i = 0; i < sizeof state; i += 4) {{
        const unsigned number = get(from + 32 + i);
        memcpy((char *)&state + i, &number, 4);
    }}
    return 0;
}}

size_t {name}_save(void *bytes, size_t size)
{{
    static const char label[16] = {{{label.rstrip(", ")}}};
    unsigned char *to = bytes;
    if (size < {upper}_STATE_BYTES) {{
        return 0;
    }}
    memcpy(to, "RTRL", 4);
    put(to + 4, {VERSION}u);
    put(to + 8, {upper}_LAYOUT);
    put(to + 12, (unsigned)sizeof state);
    memcpy(to + 16, label, 16);
    for (size_t i = 0; i < sizeof state; i += 4) {{
        unsigned number;
        memcpy(&number, (const char *)&state + i, 4);
        put(to + 32 + i, number);
    }}
    put(to + {upper}_STATE_BYTES - 4, checksum(to, {upper}_STATE_BYTES - 4));
    return {upper}_STATE_BYTES;
}}
"""


__all__ = ["Source", "fingerprint", "source"]
