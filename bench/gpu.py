"""Online learning on an NVIDIA GPU: the kernel against XLA's own form, and both against BPTT.

    python bench/gpu.py            six minutes on one GPU, nearly all of it compiling; writes
                                   results/gpu.json and goes on where it was stopped
    python bench/gpu.py --table    measure nothing, write gpu.md from gpu.json

One layer of linear recurrent units of N modules that read N inputs, gradient of a whole sequence,
parameters held fixed, float32 with float32 products. Competitors take turns in one process.

The table begins with the trace update alone, which another program times:

    python -m rtrl.kernels.selftest --json bench/results/kernels_gpu.json
"""

import argparse
import json
from pathlib import Path
from statistics import median

import jax
from _networks import Gradient, noise, plain_bptt, stack
from _timing import RESULTS, alternate, digits, merge, provenance, read, say

import rtrl

SIZES = ((64, 1), (64, 256), (256, 16), (1024, 16))  # modules, samples
CHUNKS = (1, 16, 64)
LENGTH = 256


def measure(N: int, batch: int, chunks=CHUNKS, length: int = LENGTH) -> dict:
    """Microseconds a timestep of every way to the gradient, and how far each is from BPTT's."""
    model, (xs, ys) = stack("LRU", 1, N, N), noise(length, batch)
    programs = {
        "BPTT": Gradient(model, xs, ys, rtrl.BPTT()),
        "BPTT by hand": Gradient(model, xs, ys, function=plain_bptt),
    }
    for K in chunks:
        for name in ("pallas", "xla"):
            rule = rtrl.RTRL(implementation=name)
            programs[f"{name}, K = {K}"] = Gradient(model, xs, ys, rule, K)
    # The encoder and the norm below the cell have no trace: their gradients are approximate.
    want = jax.tree.leaves(programs["BPTT"]()[1].layers[0].cell)
    errors = {}
    for name, program in programs.items():
        got = jax.tree.leaves(program()[1].layers[0].cell)
        pairs = [(abs(g - w).max(), abs(w).max()) for g, w in zip(got, want, strict=True)]
        errors[name] = digits(max(float(e / w) for e, w in pairs if float(w) > 0), 2)
    times = alternate(programs, 9, 20)
    return {
        "N": N, "batch": batch, "timesteps": length,
        "microseconds a timestep": {n: digits(1e6 * median(t) / length) for n, t in times.items()},
        "error against BPTT, relative to the largest number": errors,
        "temporary bytes": {name: program.temporaries() for name, program in programs.items()},
    }  # fmt: skip


def table_alone(report: dict) -> list[str]:
    """The trace update by itself."""
    worst = max(row["error"] for row in report["numerics"])
    lines = [
        "## The trace update alone",
        "",
        f"{report['device']}, jax {report['jax']}. The kernel agrees with the reference to "
        f"{worst:.1e} of the largest number ({len(report['numerics'])} shapes). GB/s: the trace in "
        "and out once a launch, beside a copy of the trace.",
        "",
        "| numbers | N = H | samples | chunk | kernel, us | XLA, us | XLA / kernel | GB/s | copy |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in report["timings"]:
        rate = {name: round(row["bytes"] / row[name] / 1e9) for name in ("kernel", "copy")}
        lines.append(
            f"| {'complex' if row['P'] == 2 else 'real'} | {row['N']} | {row['B']} | {row['K']} "
            f"| {1e6 * row['kernel']:.1f} | {1e6 * row['xla']:.1f} "
            f"| {row['xla'] / row['kernel']:.2f} | {rate['kernel']} | {rate['copy']} |"
        )
    return [*lines, ""]


def table(results: dict) -> str:
    lines = table_alone(read("kernels_gpu.json"))
    for name in sorted(results):
        result = results[name]
        times = result["microseconds a timestep"]
        bptt = min(times["BPTT"], times["BPTT by hand"])
        lines += [
            f"## A learner's gradient: N = H = {result['N']}, {result['batch']} samples",
            "",
            f"{result['device_kind']}, jax {result['versions']['jax']}; BPTT takes {bptt} us a "
            "timestep; below, microseconds a timestep and, in brackets, times BPTT.",
            "",
            "| chunk | kernel | XLA | XLA / kernel |",
            "|---:|---:|---:|---:|",
        ]
        for K in (K for K in CHUNKS if f"xla, K = {K}" in times):
            kernel, xla = times[f"pallas, K = {K}"], times[f"xla, K = {K}"]
            lines.append(
                f"| {K} | {kernel} ({kernel / bptt:.2f}) | {xla} ({xla / bptt:.2f}) "
                f"| {xla / kernel:.2f} |"
            )
        worst = max(result["error against BPTT, relative to the largest number"].values())
        lines += ["", f"Largest deviation of the cell's gradient from BPTT's: {worst}.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        assert jax.default_backend() == "gpu", "bench/gpu.py needs an NVIDIA GPU that JAX can use"
        jax.config.update("jax_default_matmul_precision", "float32")
        kind = {"device_kind": jax.devices()[0].device_kind}
        for N, batch in SIZES:
            name = f"{N:04d} modules, {batch:03d} samples"
            if name not in read("gpu.json"):
                result = provenance() | kind | measure(N, batch)
                say(json.dumps(result, indent=1))
                merge("gpu.json", name, result)
    Path(RESULTS / "gpu.md").write_text(table(read("gpu.json")))


if __name__ == "__main__":
    main()
