"""What sharding costs: bytes and operations counted on virtual devices, and a page of arithmetic.

    python bench/sharding.py            # counts (a minute), then writes the page
    python bench/sharding.py --page     # the page alone, from the counts of last time

Writes bench/results/sharding.json and sharding.md. The counts are read off the programs that XLA
compiles for meshes of up to eight virtual CPU devices: bytes of every collective, floating-point
operations of matrix products, size of the largest array, all on one device. The page's formulas are
held against them, then evaluated for H100s. Nothing here is a measurement of time.
"""

import argparse
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
WIDTH = MODULES = 64
SAMPLES, CHUNK = 64, 16
#: Data sheet of the H100 SXM: bytes/s of memory, multiply-adds/s on tensor cores (TF32), bytes/s to
#: one direction of NVLink inside a machine of eight, and of one 400 Gb/s port between machines.
BANDWIDTH, MULTIPLY_ADDS, NVLINK, NETWORK = 3.352e12, 494.7e12 / 2, 450e9, 50e9
MEMORY = 70e9  # bytes of 80 GB that traces may take

# Counting -----------------------------------------------------------------------------------------


def count(name: str, batch: int, modules: int, samples: int) -> dict:
    """One compiled chunk of a single block on a mesh of batch x modules devices."""
    import jax
    import numpy as np
    import optax
    from _hlo import BYTES, Program, dimensions

    import rtrl
    from rtrl.learners import compiled_text

    cell = {"LRU": rtrl.cells.LRU, "GRU": rtrl.cells.GRU}[name]
    rule = rtrl.SnAp1() if name == "GRU" else rtrl.RTRL()
    key = jax.random.key(0)
    model = rtrl.SequenceModel(
        WIDTH, WIDTH, WIDTH, 1, lambda size, key: cell(size, MODULES, key=key), key=key
    )
    learner = rtrl.OnlineLearner(squared_error, optax.sgd(1e-3), rule=rule)
    mesh = jax.sharding.Mesh(
        np.array(jax.devices()[: batch * modules]).reshape(batch, modules), ("b", "m")
    )
    state = rtrl.shard(learner.init(model, samples), mesh, batch="b", modules="m")
    data = np.zeros((CHUNK, samples, WIDTH), np.float32)
    program = Program(compiled_text(learner, state, data, data, CHUNK))

    def size(shape: str) -> int:
        total = 0
        for kind, sizes in re.findall(r"([a-z]+[0-9]+|pred)\[([0-9,]*)\]", shape):
            numbers = 1
            for n in dimensions(f"[{sizes}]"):
                numbers *= n
            total += BYTES[kind] * numbers
        return total

    def travels(kind):
        def cost(_, __, i):
            return size(i.shape) if i.opcode.removesuffix("-start") == kind else 0

        return cost

    trace = state.carry[0].trace
    return {
        "cell": name, "batch": batch, "modules": modules, "samples": samples,
        "flop": program.flops(),
        "bytes": {kind: program.total(travels(kind), inside_fusions=False) for kind in KINDS},
        "trace": sum(a.addressable_shards[0].data.nbytes for a in jax.tree.leaves(trace)),
        "largest": max(size(i.shape) for part in program.computations.values() for i in part
                       if not i.shape.startswith("(")),
    }  # fmt: skip


def squared_error(prediction, target):
    return ((prediction - target) ** 2).sum()


def counts() -> list[dict]:
    strong = [(1, 1), (2, 1), (8, 1), (1, 2), (1, 8), (2, 4)]
    weak = [(2, 1), (4, 1)]
    found = []
    for cases, samples in ((strong, lambda b: SAMPLES), (weak, lambda b: SAMPLES // 8 * b)):
        for b, m in cases:
            found.append(count("LRU", b, m, samples(b)))
            print(found[-1], flush=True)
    found += [count("GRU", b, m, SAMPLES) for b, m in ((1, 1), (8, 1), (1, 8))]
    return found


# Formulas, for a block as `SequenceModel` has it: cell, readout, GLU


def travels(cell: str, batch: int, modules: int, samples: int, K: int, N: int, H: int) -> dict:
    """Bytes that a device ends up with in the collectives of one chunk of one block."""
    here = samples / batch
    weights, readout = (2 * N * H, 2 * H * N) if cell == "LRU" else (3 * N * (H + N), H * N)
    gradient = 4 * ((weights + readout) / modules + 2 * H * H)
    reads = 2 if cell == "LRU" else 1  # Re C and Im C are summed apart
    along_modules = 4 * K * here * H * (reads + 1)
    seen = 0.0 if cell == "LRU" else 2 * 4 * K * here * N  # in the forward pass, and for the trace
    return {
        "gradient": gradient if batch > 1 else 0.0,
        "activations": along_modules if modules > 1 else 0.0,
        "seen": seen if modules > 1 else 0.0,
    }


def trace_bytes(samples: int, N: int, H: int) -> float:
    """Of the LRU: one complex64 a sample and weight."""
    return 8.0 * samples * N * H


def seconds(batch: int, modules: int, samples: int, K: int, N: int) -> dict[str, float]:
    """A chunk of one LRU block, N = H, on H100s, each part by itself at its best."""
    devices, here = batch * modules, samples / batch
    # The trace is read and written five times a chunk by XLA (`kernels_on_paper.py`).
    memory = 5 * trace_bytes(samples, N, N) / devices / BANDWIDTH
    # Forward, to the inputs, to the weights; the trace's own product; the GLU on every device.
    products = K * here * ((3 * 4 + 2) * N * N / modules + 3 * 2 * N * N)
    moved = travels("LRU", batch, modules, samples, K, N, N)
    link = NVLINK if devices <= 8 else NETWORK
    inside = NVLINK if modules <= 8 else NETWORK  # modules are placed side by side in a machine
    by_batch = 2 * (batch - 1) / batch * moved["gradient"] / link
    by_modules = 2 * (modules - 1) / modules * moved["activations"] / inside
    return {
        "memory": memory, "products": products / MULTIPLY_ADDS, "batch": by_batch,
        "modules": by_modules,
    }  # fmt: skip


def splits(devices: int, samples: int, N: int) -> Iterator[tuple[int, int]]:
    modules = 1
    while modules <= min(devices, N):
        batch = devices // modules
        if samples % batch == 0:
            yield batch, modules
        modules *= 2


# The page ---------------------------------------------------------------------------------------


def page(found: list[dict]) -> str:
    lines = [
        "# What sharding costs", "",
        "Generated by `python bench/sharding.py`; no time in it was measured.", "",
        "## Counted", "",
        f"One block (cell, readout, GLU) with encoder and decoder, N = H = {MODULES}, chunks of "
        f"{CHUNK} timesteps, read off the program compiled for one device of the mesh. *Said* is "
        "what the formulas below say of the block alone; the rest is the encoder's and the "
        "decoder's gradient (33 kB along the batch) and single numbers.", "",
        "| cell | batch x modules | samples | MFLOP a device | trace a device, kB | largest array, "
        "kB | summed, kB | gathered, kB | said, kB |", "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for c in found:
        said = sum(travels(c["cell"], c["batch"], c["modules"], c["samples"], CHUNK, MODULES,
                           WIDTH).values())  # fmt: skip
        others = {k: v for k, v in c["bytes"].items() if k not in ("all-reduce", "all-gather")}
        assert not any(others.values()), c
        assert c["largest"] <= c["trace"], c
        lines.append(
            f"| {c['cell']} | {c['batch']} x {c['modules']} | {c['samples']} "
            f"| {c['flop'] / 1e6:.1f} | {c['trace'] / 1e3:.0f} | {c['largest'] / 1e3:.0f} "
            f"| {c['bytes']['all-reduce'] / 1e3:.1f} | {c['bytes']['all-gather'] / 1e3:.1f} "
            f"| {said / 1e3:.1f} |"
        )
    lines += [*rules(), *what_fits(), *best(), ""]
    return "\n".join(lines)


def rules() -> list[str]:
    rows = ["| H | K = 1 | K = 16 | K = 64 |", "|---|---|---|---|"]
    for H in (256, 1024, 4096, 16384):
        rows.append(f"| {H} | " + " | ".join(f"{2 * H / K:,.0f}" for K in (1, 16, 64)) + " |")
    return [
        "", "## What travels", "",
        "For one LRU block and chunk of K timesteps, on D_b x D_m devices with B samples in all:",
        "", "```",
        "gradient, summed along the batch         4 (4 N H / D_m + 2 H^2) bytes    whatever B, K",
        "readout and input error, along modules   12 K (B / D_b) H bytes           whatever N",
        "dense cells: what modules see, gathered  8 K (B / D_b) N bytes",
        "trace, along anything                    nothing",
        "trace, on a device                       8 B N H / (D_b D_m) bytes",
        "```", "",
        "A ring sends 2 (D - 1) / D times a sum, (D - 1) / D times what is gathered, over every "
        "link.", "",
        "By batch if a device then has more samples than this, else by modules, as the one sends "
        "24 H^2 bytes a chunk and the other 12 K (B / D) H (N = H):", "",
        *rows, "",
        "By batch whatever the bytes where the GLU counts: norms, GLU, encoder and decoder are the "
        "same on every device along modules, and are computed there as often. By modules where "
        "there are fewer samples than devices, a single stream above all: nothing else divides its "
        "trace.",
    ]  # fmt: skip


def what_fits() -> list[str]:
    rows = ["| N = H | a stream's trace | 8 devices | 64 devices | 512 devices |",
            "|---|---|---|---|---|"]  # fmt: skip
    for N in (256, 1024, 4096, 16384):
        one = trace_bytes(1, N, N)
        streams = (f"{int(d * MEMORY // one):,}" for d in (8, 64, 512))
        rows.append(f"| {N} | {one / 1e6:,.1f} MB | " + " | ".join(streams) + " |")
    million = trace_bytes(10**6, 16384, 16384)
    return [
        "", "## What fits", "",
        f"Streams of one LRU layer whose traces fit in {MEMORY / 1e9:.0f} GB of every H100:", "",
        *rows, "",
        f"A million streams of N = 16,384 have {million / 1e15:.1f} PB of traces, those of "
        f"{million / MEMORY:,.0f} H100s: such a layer takes BPTT, whose memory is K (N + H) a "
        "stream, or fewer streams. A million of N = 256 fit on eight.",
    ]  # fmt: skip


def best() -> list[str]:
    rows = ["| streams | N = H | devices | batch x modules | trace a device, GB | memory, ms "
            "| products, ms | links, ms | roof | streams x timesteps a second |",
            "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    K = 16
    for samples, N in (
        (1, 16384), (64, 16384), (4096, 16384), (4096, 1024), (65536, 1024), (2**20, 256)
    ):  # fmt: skip
        for devices in (8, 64, 512):
            held = trace_bytes(samples, N, N) / devices
            if held > MEMORY:
                rows.append(f"| {samples:,} | {N} | {devices} | does not fit | {held / 1e9:,.0f} "
                            "| | | | | |")  # fmt: skip
                continue
            options = list(splits(devices, samples, N))
            if not options:
                continue

            def total(split: tuple[int, int], samples=samples, N=N):
                return sum(seconds(*split, samples, K, N).values())

            split = min(options, key=total)
            parts = seconds(*split, samples, K, N)
            links = parts["batch"] + parts["modules"]
            roof = max({**parts, "batch": links, "modules": links}.items(), key=lambda p: p[1])[0]
            roof = {"batch": "links", "modules": "links"}.get(roof, roof)
            rows.append(
                f"| {samples:,} | {N} | {devices} | {split[0]} x {split[1]} | {held / 1e9:.2f} "
                f"| {1e3 * parts['memory']:.2f} | {1e3 * parts['products']:.2f} "
                f"| {1e3 * links:.2f} | {roof} | {samples * K / total(split):,.0f} |"
            )
    return [
        "", "## The best split", "",
        f"One LRU block, chunks of {K}: the division of the devices that takes least time if every "
        "part runs at the data sheet's rate, one after another: five passes over the trace at "
        f"{BANDWIDTH / 1e12:.2f} TB/s, products in TF32, links at {NVLINK / 1e9:.0f} GB/s inside a "
        f"machine of eight and {NETWORK / 1e9:.0f} GB/s between machines. An upper bound on what "
        "can be had, launches and latencies aside: with one stream these are everything.", "",
        *rows, "",
        f"A chunk has about K / 2 = {K // 2} multiply-adds for every byte of trace that is moved, "
        f"an H100 does {MULTIPLY_ADDS / BANDWIDTH:.0f} in that time: where traces fill devices, "
        "the bandwidth of their memory is the roof, and more devices have more of it. Where they "
        "no longer do, the sums between machines are: there larger chunks help, which sum "
        "gradients less often.",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="write the page from the last counts")
    raw = RESULTS / "sharding.json"
    if parser.parse_args().page:
        found = json.loads(raw.read_text())
    else:
        # What LLVM makes of it is not looked at.
        flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
        flags += "--xla_llvm_disable_expensive_passes=true"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
        os.environ["JAX_PLATFORMS"] = "cpu"
        found = counts()
        raw.write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "sharding.md").write_text(page(found))


if __name__ == "__main__":
    main()
