"""A table of every cell and every rule, made from the code and its docstrings.

    python bench/zoo.py    write results/zoo.md

Equation, bias, memory, time and source are those of the docstrings; state, parameters and trace are
counted on layers of N = 64 modules with H = 32 inputs. A new cell or rule is in the table once
`rtrl.cells` or `rtrl.rules` exports it.
"""

import inspect
import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

import rtrl

RESULTS = Path(__file__).parent / "results" / "zoo.md"
N, H = 64, 32
HEADER = f"""Made by `python bench/zoo.py` from the code. State: numbers per module. Parameters and
trace: numbers of a layer with N = {N} modules and H = {H} inputs, a complex one counted as two; the
trace per sample, under RTRL, or SnAp-1 for cells whose modules see each other.
"""


def cells() -> dict[str, tuple[type, rtrl.Cell]]:
    """Every exported cell, and its variant whose modules see each other where it has one."""
    found = {}
    for name, kind in vars(rtrl.cells).items():
        if not inspect.isclass(kind) or inspect.isabstract(kind) or kind is rtrl.Cell:
            continue
        variants = [{}]
        if "dense" in inspect.signature(kind).parameters:
            variants.append({"dense": True})
        for options in variants:
            cell = eqx.filter_eval_shape(kind, H, N, key=jax.random.key(0), **options)
            cell = jax.tree.map(lambda a: jnp.ones(a.shape, a.dtype), cell)
            found[name + ("(dense=True)" if options else "")] = kind, cell
    return found


def numbers(tree) -> int:
    """Real numbers that can be learned, or that a trace is made of."""
    leaves = jax.tree.leaves(tree)
    return sum(a.size * (1 + jnp.issubdtype(a.dtype, jnp.complexfloating)) for a in leaves)


def trace_size(rule: rtrl.rules.Rule, cell: rtrl.Cell) -> int:
    parameters = numbers(eqx.filter(cell, eqx.is_inexact_array))
    return numbers(jax.eval_shape(lambda: rule.init_trace(cell, parameters, None)))


def paragraphs(kind: type) -> list[str]:
    return inspect.cleandoc(kind.__doc__ or "").split("\n\n")


def equation(kind: type, dense: bool = False) -> str:
    """The block after the first ``::``, or after that of the dense variant."""
    after = paragraphs(kind)
    mark = next(p for p in after if p.endswith("::") and ("dense=True" in p) == dense)
    block = after[after.index(mark) + 1].splitlines()
    return "<br>".join(f"`{escape(' '.join(line.split()))}`" for line in block)


def says(kind: type, start: str, *ends: str) -> str:
    """What a docstring says from ``start:`` to the end of the paragraph or the next heading."""
    for paragraph in paragraphs(kind):
        text = " ".join(paragraph.split())
        if f"{start}: " in text:
            text = text.split(f"{start}: ", 1)[1]
            for end in ends:
                text = text.split(f" {end}", 1)[0]
            return escape(text.replace("``", "`"))
    raise ValueError(f"{kind.__name__}: its docstring has no '{start}:'.")


def escape(text: str) -> str:
    return text.replace("|", "\\|")


def exact_under(cell: rtrl.Cell) -> str:
    """RTRL where it fits; else the rules that keep the whole Jacobian."""
    if rtrl.RTRL().misfit(cell) is None:
        return "RTRL, SnAp1, EProp"
    return "SnApN(N), TBPTT(T)"


def cell_row(name: str, kind: type, cell: rtrl.Cell) -> str:
    state = jax.tree.leaves(cell.initial())
    kinds = "complex" if jnp.iscomplexobj(state[0]) else "real"
    rule = rtrl.RTRL() if rtrl.RTRL().misfit(cell) is None else rtrl.SnAp1()
    parameters = numbers(eqx.filter(cell, eqx.is_inexact_array))
    trace = trace_size(rule, cell)
    return (
        f"| `{name}` | {equation(kind, 'dense' in name)} | {len(state)} {kinds} "
        f"| {parameters:,} | {trace:,} | {exact_under(cell)} | {says(kind, 'Source')} |"
    )


def rule_row(name: str, rule: rtrl.rules.Rule, lru: rtrl.Cell, gru: rtrl.Cell) -> str:
    kind = type(rule)
    bias = says(kind, "Bias", "Memory", "Derivatives")
    memory = next(
        re.sub(r"^per sample: |^: ", "", part)
        for p in paragraphs(kind)
        for text in [" ".join(p.split())]
        if "Memory" in text
        for part in [re.split(r"Memory(?=[ :])", text)[1].strip()]
    )
    memory, time = re.split(r" Time(?: per (?:timestep|chunk of K timesteps))?: ", memory)
    time = time.split(" Bias:")[0]
    sizes = " / ".join(
        "refused" if rule.misfit(cell) else f"{trace_size(rule, cell):,}" for cell in (lru, gru)
    )
    return (
        f"| `{name}` | {equation(kind)} | {bias} | {escape(memory.replace('``', '`'))} | {sizes} "
        f"| {escape(time.replace('``', '`'))} | {says(kind, 'Source')} |"
    )


def markdown() -> str:
    all_cells = cells()
    lines = [
        HEADER,
        "## Cells",
        "",
        "| cell | equation | state | parameters | trace | exact under | source |",
        "|---|---|---|---|---|---|---|",
        *(cell_row(name, *entry) for name, entry in all_cells.items()),
        "",
        "## Rules",
        "",
        "| rule | equation | bias | memory per sample | trace of LRU / GRU | time | source |",
        "|---|---|---|---|---|---|---|",
    ]
    layers = all_cells["LRU"][1], all_cells["GRU"][1]
    lines += [rule_row(name, rule, *layers) for name, rule in rtrl.rules.examples().items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    RESULTS.write_text(markdown())
    print(markdown())
