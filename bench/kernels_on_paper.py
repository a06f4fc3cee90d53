"""Bytes and flops of the trace update, form by form, and what they cost at best: estimates.

For one complex projection with one number per module (the linear recurrent unit), with errors of
the same timestep. A pass reads or writes the trace once; the passes are those that
`make verify-gpu-kernels` finds in the compiled programs, and so are the kernel's instructions.

* XLA, one timestep: advance (2 passes), then read for the gradient (1).
* the kernel, K timesteps a launch: 2 passes a launch, 10 instructions a number and timestep
  (4 for D s, 2 for J x, 4 for delta s).
* XLA, chunks of K: a_0 s_0 for the gradient (1 pass), a GEMM over the timesteps for the new trace
  (1), its sum with P_0 s_0 (3), a GEMM over timesteps and samples for the gradient. 2 multiply-adds
  a number and timestep in each GEMM, on tensor cores (TF32, JAX's default).

Each launch costs the longer of its bytes over the memory's bandwidth and its instructions over the
peak. Launches themselves cost nothing here and no cache holds anything, so small layers look better
for forms of many launches than they are. Nothing here has been measured on a GPU.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).resolve().parent / "results"
# Data sheets: bytes/s, multiply-adds/s in float32 and (dense) TF32, bytes of L2.
GPUS = {
    "A100 80GB SXM": {"bandwidth": 2.039e12, "float32": 19.5e12 / 2, "tf32": 156e12 / 2},
    "H100 SXM": {"bandwidth": 3.352e12, "float32": 66.9e12 / 2, "tf32": 494.7e12 / 2},
}
SIZES = [(256, 16), (256, 256), (1024, 16), (1024, 256)]
CHUNKS = (1, 8, 16, 32, 64)
NUMBER = 8  # bytes, complex64
COEFFICIENTS = 3 * NUMBER + 4  # D, J, delta of a module and x of an input


class Launch(NamedTuple):
    """Bytes moved, instructions in float32, and multiply-adds in GEMMs."""

    bytes: float
    instructions: float = 0.0
    gemm: float = 0.0

    def seconds(self, gpu: dict, gemm: str = "tf32") -> float:
        arithmetic = self.instructions / gpu["float32"] + self.gemm / gpu[gemm]
        return max(self.bytes / gpu["bandwidth"], arithmetic)


def xla_single(N: int, B: int) -> list[Launch]:
    trace, gradient = B * N * N, N * N
    small = B * N * COEFFICIENTS
    advance = Launch(NUMBER * 2 * trace + small, 6 * trace)
    return [advance, Launch(NUMBER * (trace + gradient) + small, 4 * trace)]


def kernel(N: int, B: int, K: int) -> list[Launch]:
    trace, gradient = B * N * N, N * N
    return [Launch(NUMBER * (2 * trace + gradient) + K * B * N * COEFFICIENTS, 10 * K * trace)]


def kernel_chunk(N: int, B: int, K: int) -> list[Launch]:
    """Not built: the kernel on P_k J_k and J_k e_k, 2 instructions each, and P_0 s_0, a_0 s_0."""
    (as_is,) = kernel(N, B, K)
    return [as_is._replace(instructions=(8 + 4 * K) * B * N * N)]


def xla_chunk(N: int, B: int, K: int) -> list[Launch]:
    trace, gradient = B * N * N, N * N
    small = K * B * N * COEFFICIENTS
    return [
        Launch(NUMBER * (trace + 2 * gradient), 4 * trace),
        Launch(NUMBER * trace + small, gemm=2 * K * trace),
        Launch(NUMBER * 3 * trace, 4 * trace),
        Launch(NUMBER * gradient + small, gemm=2 * K * trace),
    ]


def forms(N: int, B: int) -> dict[str, tuple[int, list[Launch]]]:
    """Every form: timesteps, and what is launched for them."""
    found = {"XLA, K = 1": (1, xla_single(N, B))}
    found |= {f"kernel, K = {K}": (K, kernel(N, B, K)) for K in CHUNKS}
    return found | {f"XLA, chunks of {K}": (K, xla_chunk(N, B, K)) for K in CHUNKS[1:]}


def rows() -> list[dict]:
    found = []
    for N, B in SIZES:
        for name, (K, launches) in forms(N, B).items():
            instructions = sum(part.instructions for part in launches)
            row = {
                "N": N,
                "B": B,
                "form": name,
                "K": K,
                "megabytes": sum(part.bytes for part in launches) / K / 1e6,
                "megaflops": 2 * (instructions + sum(part.gemm for part in launches)) / K / 1e6,
            }
            for gpu, peak in GPUS.items():
                row[gpu] = sum(part.seconds(peak) for part in launches) / K * 1e6
            found.append(row)
    return found


def table(found: list[dict]) -> str:
    head = ["N = H", "batch", "form", "MB", "MFLOP", *(f"{g}, us" for g in GPUS)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in found:
        cells = [str(row["N"]), str(row["B"]), row["form"]]
        cells += [f"{row['megabytes']:.3g}", f"{row['megaflops']:.3g}"]
        for gpu in GPUS:
            best = min(r[gpu] for r in found if all(r[k] == row[k] for k in ("N", "B", "K")))
            cells.append(f"**{row[gpu]:.3g}**" if row[gpu] == best else f"{row[gpu]:.3g}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def crossover(gpu: dict, gemm: str, form=kernel) -> int:
    """The first K for which XLA's chunks should beat the kernel, for many samples."""

    def cost(launches: list[Launch]) -> float:
        return sum(part.seconds(gpu, gemm) for part in launches)

    N, B = 1024, 256
    chunks = range(2, 1000)
    return next(K for K in chunks if cost(xla_chunk(N, B, K)) < cost(form(N, B, K)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    found = rows()
    crossovers = {
        name: {
            "tf32": crossover(gpu, "tf32"),
            "float32": crossover(gpu, "float32"),
            "chunked kernel": crossover(gpu, "tf32", kernel_chunk),
        }
        for name, gpu in GPUS.items()
    }
    report = {"command": "python bench/kernels_on_paper.py", "gpus": GPUS}
    report |= {"crossover": crossovers, "rows": found}
    (RESULTS / "kernels_on_paper.json").write_text(json.dumps(report, indent=1) + "\n")
    text = [
        "# The trace update on paper",
        "",
        "Estimates per timestep; generated by `python bench/kernels_on_paper.py`, which says how.",
        "Bold: the fastest for this chunk length.",
        "",
        table(found),
        "",
        "From which K on XLA's chunks should beat the kernel (many samples):",
        "",
        "| | GEMMs in TF32, JAX's default | GEMMs in float32 | a chunked kernel (not built) |",
        "|---|---|---|---|",
        *(f"| {gpu} | " + " | ".join(map(str, c.values())) + " |" for gpu, c in crossovers.items()),
    ]
    (RESULTS / "kernels_on_paper.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
