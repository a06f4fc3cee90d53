"""How cost grows: with the chunk, with time, with the network, and what a closer gradient costs.

    python bench/scaling.py                   everything, about six minutes on two quiet cores
    python bench/scaling.py --only chunk      one picture (chunk, time, size, cosine)
    python bench/scaling.py --quick           a look in a minute, nothing written
    python bench/scaling.py --table           measure nothing, draw again and write scaling.md

Networks are stacks of LRUs with batch 1 unless said otherwise; gradients with parameters held
fixed, float32.

chunk    time per timestep against K, timesteps per chunk (4 layers, N = 64, H = 128, T = 1024)
time     time and memory against T = 10^3 .. 10^6. Memory is what the compiled program needs beside
         its arguments and results, as the compiler says; nothing is timed that does not fit in
         memory or takes more than a minute
size     time per timestep against N and against H (1 layer, T = 512)
cosine   for every rule and chunk: time relative to BPTT, and 1 - cosine to BPTT's gradient, mean
         over 4 layers (network, data and seeds as in cosine.py: T = 256, batch 20)

Writes bench/results/scaling.json, scaling.md and scaling_*.png.
"""

import argparse
from collections.abc import Callable
from statistics import median
from typing import Any

from _timing import RESULTS, alternate, merge, pin, provenance, read, say, summary

FILE = "scaling.json"


def chunk(quick: bool) -> dict[str, Any]:
    from _networks import Gradient, noise, stack

    import rtrl

    length = 256 if quick else 1024
    sizes = (1, 16, 256) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    rows = []
    for cell in ("LRU",) if quick else ("LRU", "MinGRU"):
        model, (xs, ys) = stack(cell), noise(length, None)
        programs: dict[str, Any] = {"BPTT": Gradient(model, xs, ys, rtrl.BPTT())}
        programs |= {str(k): Gradient(model, xs, ys, rtrl.RTRL(), k) for k in sizes}
        times = alternate(programs, 3 if quick else 15, 25)
        for name, seconds in times.items():
            k = None if name == "BPTT" else int(name)
            each = {"microseconds": summary(seconds, 1e6 / length)}
            rows.append({"cell": cell, "K": k, **each, "temporaries": programs[name].temporaries()})
            say(f"{cell}, K = {name}: {each['microseconds']['median']} microseconds a timestep")
    return {"T": length, "rows": rows}


def time(quick: bool) -> dict[str, Any]:
    import jax
    from _networks import Gradient, noise, stack

    import rtrl

    memory = _memory()
    model = stack("LRU")
    carry = rtrl.init_carry(model, rtrl.RTRL())
    carried = sum(a.nbytes for a in jax.tree.leaves(carry))
    lengths = [10**3, 10**4] if quick else [10**3, 10**4, 10**5, 10**6]
    rows = []
    for name, rule, k in (("BPTT", rtrl.BPTT(), None), ("RTRL, K = 64", rtrl.RTRL(), 64),
                          ("RTRL, K = 1", rtrl.RTRL(), 1)):  # fmt: skip
        each = 0.0
        for length in lengths:
            program = Gradient(model, *noise(length, None), rule, k)
            temporaries = program.temporaries()
            row: dict[str, Any] = {
                "rule": name, "T": length, "temporaries": temporaries,
                "carried": carried if k else 0, "seconds": None,
            }  # fmt: skip
            fits = temporaries + 2**30 < memory
            if fits and each * length < (5 if quick else 45):
                few = 2 if each * length > 8 else 3
                seconds = alternate({name: program}, few)[name]
                row["seconds"] = summary(seconds)
                each = median(seconds) / length
            rows.append(row)
            say(f"{name}, T = {length}: {temporaries / 2**20:.1f} MiB, {row['seconds']}")
            del program
    return {"memory of the machine": memory, "rows": rows}


def _memory() -> int:
    """Bytes that are free on this machine."""
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo tells no MemAvailable")


def size(quick: bool) -> dict[str, Any]:
    from _networks import Gradient, noise, stack

    import rtrl

    length = 128 if quick else 512
    sizes = (32, 128) if quick else (16, 32, 64, 128, 256, 512)
    rows = []
    for what in ("N", "H"):
        for n in sizes:
            model = stack("LRU", 1, *((n, 128) if what == "N" else (128, n)))
            xs, ys = noise(length, None)
            programs = {
                "BPTT": Gradient(model, xs, ys, rtrl.BPTT()),
                "RTRL, K = 64": Gradient(model, xs, ys, rtrl.RTRL(), 64),
                "RTRL, K = 1": Gradient(model, xs, ys, rtrl.RTRL(), 1),
            }
            times = alternate(programs, 3 if quick else 15, 4)
            for name, seconds in times.items():
                each = summary(seconds, 1e6 / length)
                rows.append({"what": what, "size": n, "rule": name, "microseconds": each})
            say(f"{what} = {n}: " + ", ".join(f"{r['rule']} {r['microseconds']['median']}"
                                              for r in rows[-3:]))  # fmt: skip
    return {"T": length, "rows": rows}


def cosine(quick: bool) -> dict[str, Any]:
    import cosine as closeness
    import equinox as eqx
    from _networks import Gradient

    import rtrl

    network = "bare stack"
    seeds = (0,) if quick else (0, 1, 2)
    chunks = (1, 16, 256) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256)
    cases: list[tuple[str, Any, int]] = [("RTRL, chunk errors", rtrl.RTRL(), k) for k in chunks]
    cases += [("TBPTT, no trace", rtrl.BPTT(), k) for k in chunks[:-1]]
    cases += [("RTRL, timestep errors", rtrl.RTRL(errors="timestep"), k) for k in (16, 64)]
    others = {"Truncated": rtrl.Truncated(), "Spatial": rtrl.Spatial()}
    cases += [(name, rule, k) for name, rule in others.items() for k in (1, 64)]
    problems = [closeness.problem(network, seed) for seed in seeds]
    model, xs, ys = problems[0]
    loss = closeness.squared_error
    bptt = Gradient(model, xs, ys, rtrl.BPTT(), loss=loss)

    def gradient(program, problem):
        return program.compiled(eqx.filter(problem[0], eqx.is_inexact_array), *problem[1:])[1]

    exact = [gradient(bptt, problem) for problem in problems]
    rows = []
    for name, rule, k in cases:
        program = Gradient(model, xs, ys, rule, k, loss=loss)
        cosines = []
        for problem, reference in zip(problems, exact, strict=True):
            layers = rtrl.analysis.cosine_by_layer(gradient(program, problem), reference)
            cosines.append([float(layers[f"layers[{i}]"]) for i in range(closeness.DEPTH)])
        times = alternate({"BPTT": bptt, "rule": program}, 3 if quick else 7, 5)
        ratio = [a / b for a, b in zip(times["rule"], times["BPTT"], strict=True)]
        mean = sum(map(sum, cosines)) / closeness.DEPTH / len(seeds)
        rows.append({"rule": name, "K": k, "cost": summary(ratio), "cosine": mean,
                     "temporaries": program.temporaries()})  # fmt: skip
        say(f"{name}, K = {k}: {median(ratio):.2f} x BPTT, cosine {mean:.6f}")
    return {"seeds": seeds, "network": network, "BPTT temporaries": bptt.temporaries(),
            "rows": rows}  # fmt: skip


PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "chunk": chunk, "time": time, "size": size, "cosine": cosine,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="small and rough; writes nothing")
    parser.add_argument("--table", action="store_true", help="measure nothing, draw again")
    parser.add_argument("--cores", type=int, default=2, help="cores to run on, default 2")
    options = parser.parse_args()
    if not options.table:
        pin(options.cores)
        for name in options.only:
            say(name)
            result = PARTS[name](options.quick)
            if not options.quick:
                merge(FILE, name, provenance() | result)
    if not options.quick:
        from _scaling_plots import draw, table

        results = read(FILE)
        draw(results, RESULTS)
        (RESULTS / "scaling.md").write_text(table(results))
        print(table(results))


if __name__ == "__main__":
    main()
