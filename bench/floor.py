"""What a timestep costs beyond what it must, counted in the compiled programs.

    python bench/floor.py            compile and count (a minute; nothing is timed)
    python bench/floor.py --table    count nothing, write floor.md from floor.json

Learning at every timestep (K = 1) must read each trace once and write it once. A chunk must
multiply matrices as BPTT does and once more for the trace (one real product for a real trace, two
for a complex one). This script counts, in the optimized HLO of the compiled scan, how often buffers
of a trace's shape are read and written in a timestep and layer, copies among them, and the
floating-point operations of all matrix products; and it checks that every donated array, traces
included, is updated in the memory it came in.

Counts are exact for these programs and this compiler (CPU); fusions count as one pass over each of
their operands. Reads and writes are buffers touched by an instruction, from memory or from cache.
"""

import argparse
import math
from typing import Any

from _timing import RESULTS, merge, provenance, read

LENGTH = 256
CELLS = ("LRU", "LeakyIntegrator", "MinGRU")
FILE = "floor.json"


def single_steps(cell: str, depth: int) -> dict[str, Any]:
    """Passes over buffers of the trace's size, per timestep and trace, learning with K = 1."""
    import jax
    import optax
    from _hlo import Program
    from _networks import Online, noise, stack

    from rtrl.engine import is_carry
    from rtrl.learners import advance_many, prepare

    model, (xs, ys) = stack(cell, depth), noise(LENGTH, None)
    one = Online(model, xs, ys, optax.adam(1e-3))
    data = prepare(model, xs, ys, None, None, None)
    compiled = advance_many.donating.lower(one.learner, data, 1, one.state).compile()
    program = Program(str(compiled.as_text()))
    carries = jax.tree.leaves(one.state.carry, is_leaf=is_carry)
    traces = [a for c in carries for a in jax.tree.leaves(c.trace.projections)]
    n, h = traces[0].shape[-2:]
    kind = {"complex64": "c64", "float32": "f32"}[str(traces[0].dtype)]
    passes = dict.fromkeys(("read", "written", "copied"), 0.0)
    for lead in ("", "1,", "1,1,"):  # the same memory under any of these shapes
        found = program.passes(f"{kind}[{lead}{n},{h}]")
        # A real trace has the shape of its parameter: only what has a batch axis is a trace. A
        # complex one has not, as the parameters of its real and imaginary part are two arrays.
        if kind == "c64" or lead:
            for name in passes:
                passes[name] += found[name] / LENGTH / len(traces)
    arrays = [a for a in jax.tree.leaves(one.state) if hasattr(a, "dtype")]
    donated = len(arrays)
    memory = compiled.memory_analysis()
    assert memory is not None
    size = sum(math.prod(a.shape) * a.dtype.itemsize for a in traces)
    assert program.aliased() >= donated - 1, (program.aliased(), donated)  # all but the key
    assert memory.alias_size_in_bytes >= size, (memory.alias_size_in_bytes, size)
    return {
        "cell": cell,
        "layers": depth,
        "trace": f"{kind}[{n},{h}]",
        "traces": len(traces),
        "trace bytes": size,
        "passes": {name: round(value, 2) for name, value in passes.items()},
        "aliased": f"{program.aliased()} of {donated}",
        "instructions": round(program.instructions() / LENGTH),
        "temporaries": int(memory.temp_size_in_bytes),
    }


def chunks(cell: str) -> dict[str, Any]:
    """Floating-point operations of all matrix products, per timestep."""
    from _hlo import Program
    from _networks import Gradient, noise, stack

    import rtrl
    from rtrl.engine import Modules

    model, (xs, ys) = stack(cell), noise(LENGTH, None)
    counts = {}
    for name, rule, chunk in (("BPTT", rtrl.BPTT(), None), ("RTRL", rtrl.RTRL(), 64)):
        compiled = Gradient(model, xs, ys, rule, chunk).compiled
        counts[name] = Program(str(compiled.as_text())).flops() / LENGTH
    weights = [w for layer in model.layers for w in Modules(layer.cell).weights() if w is not None]
    products = sum(2 * w.size * w.dtype.itemsize // 4 for w in weights)
    return {"cell": cell, "flops": counts, "floor": counts["BPTT"] + products}


def count() -> None:
    rows = []
    for cell in CELLS:
        for depth in (1, 4):
            rows.append(single_steps(cell, depth))
            print(rows[-1], flush=True)
    merge(FILE, "K = 1", provenance() | {"rows": rows})
    rows = [chunks(cell) for cell in CELLS]
    print(rows, flush=True)
    merge(FILE, "chunks", provenance() | {"rows": rows})


def table(result: dict[str, Any]) -> str:
    lines = [
        "Counted in the optimized HLO of the compiled programs (CPU); float32, batch 1, N = 64, "
        "H = 128.",
        "",
        "## K = 1: passes over a trace",
        "",
        "Buffers of a trace's size that instructions read and write, per timestep and trace, in a "
        "compiled scan of `learner.scan(chunk=1)` with Adam. The floor: read the trace, write the "
        "trace. What is read beyond that makes the gradient of a weight, of a complex one that of "
        "its real and of its imaginary part. Instructions: all that a timestep runs, a fusion "
        "being one; for a small network they are the time.",
        "",
        "| cell | layers | a trace | read | written | of these by copies | floor | donated arrays "
        "updated in place | instructions | temporaries |",
        "|---|---:|---|---:|---:|---:|---|---:|---:|---:|",
    ]
    for row in result["K = 1"]["rows"]:
        passes = row["passes"]
        lines.append(
            f"| {row['cell']} | {row['layers']} | {row['trace']} | {passes['read']:g} | "
            f"{passes['written']:g} | {passes['copied']:g} | 1 read, 1 written | "
            f"{row['aliased']} | {row['instructions']} | {row['temporaries']:,} B |"
        )
    lines += [
        "",
        "## Chunks of 64: matrix products",
        "",
        "Floating-point operations of all matrix products of a gradient, 4 layers, per timestep. "
        "The floor is BPTT's and one product of `(N, K) (K, H)` more per trace, twice that where "
        "it is complex.",
        "",
        "| cell | BPTT | RTRL | floor | RTRL / BPTT | RTRL / floor |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["chunks"]["rows"]:
        bptt, ours, floor = row["flops"]["BPTT"], row["flops"]["RTRL"], row["floor"]
        lines.append(
            f"| {row['cell']} | {bptt:,.0f} | {ours:,.0f} | {floor:,.0f} | {ours / bptt:.3f} | "
            f"{ours / floor:.3f} |"
        )
    lines += ["", f"`{result['chunks']['command']}`: "
              + ", ".join(f"{k} {v}" for k, v in result["chunks"]["versions"].items())]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="count nothing, rewrite the table")
    if not parser.parse_args().table:
        count()
    text = table(read(FILE))
    (RESULTS / "floor.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
