"""Size and speed of exported C: a Cortex-M4, and one core of this machine beside XLA.

    python bench/device.py            measure (3 minutes; one core; qemu and compilers from Debian,
                                      `make verify-device` names the packages)
    python bench/device.py --narrow   only what traces in fewer bits take and cost (a minute)
    python bench/device.py --table    measure nothing, write device.md from device.json

Code is what the linker keeps of `learner_step` and what it calls, the exported state left out,
compiled with -Os for a Cortex-M4F: a program that learns minus one that does not. Instructions are
counted by the emulator. RAM is the state and the scratch memory of the object file. On this machine
the C is compiled with the flags of the exported Makefile and takes turns with
`learner.scan(chunk=1)`, one pass over 2,000 timesteps each.
"""

import argparse
import ctypes
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from _timing import RESULTS, alternate, digits, merge, pin, provenance, ratios, read

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "device"))

FILE = "device.json"
LENGTH = 2000
SIZES = (8, 16, 32, 64)
FLAGS = "-O3 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math"
#: Code on a Cortex-M4 in bytes, and times as fast as XLA, where there is a bar.
BARS: dict[tuple[str, int], dict[str, float]] = {
    ("LRU", 16): {"code": 12_000, "speed": 3.0},
    ("LRU", 64): {"speed": 1.5},
}
RUN = """
void run(int length, const float *xs, float *predictions);
void run(int length, const float *xs, float *predictions)
{
    for (int t = 0; t < length; t++) {
        learner_step(xs + t, xs + t + 1, 1.0f, 0, predictions + t);
    }
}
"""


def network(cell: str, size: int, **options: Any):
    import jax
    import jax.numpy as jnp
    import optax

    import rtrl

    new = getattr(rtrl.cells, cell)
    model = rtrl.SequenceModel(
        1, 1, size, 1, lambda n, k: new(n, size, key=k), norm=None, key=jax.random.key(0)
    )
    learner = rtrl.OnlineLearner(lambda p, y: jnp.sum((p - y) ** 2), optax.sgd(1e-3), donate=False,
                                **options)  # fmt: skip
    return learner, learner.init(model)


def on_a_device(learner: Any, state: Any, signal: Any, folder: Path) -> dict[str, float]:
    """Sizes of the object for a Cortex-M4, and instructions of a step."""
    from cross import M4, export_case, instructions  # pyright: ignore[reportMissingImports]

    export_case(learner, state, signal[:50], signal[1:51], folder)
    subprocess.run(
        ["arm-none-eabi-gcc", "-std=c99", *M4, "-fno-math-errno", "-ffunction-sections",
         "-fdata-sections", "-c", "learner.c"], cwd=folder, check=True,
    )  # fmt: skip
    listed = _output("arm-none-eabi-nm", "-S", "-t", "d", folder / "learner.o")
    sizes = {name: int(size) for size, name in re.findall(r"\d+ (\d+) \w (\S+)", listed)}
    linked = _linked(folder, "learner_step(x, x, 1.0f, 0, p); return (int)p[0];")
    without = _linked(folder, "return (int)(x[0] + p[0]);")
    return {
        "step": sizes["learner_step"],
        "code": linked - without,
        "state": sizes["state"],
        "scratch": sizes.get("scratch", 0),
        "operations": _operations(folder),
        "instructions": instructions(folder),
    }


def _linked(folder: Path, body: str) -> int:
    """Bytes of code and constants of a program that does no more than this."""
    from cross import M4  # pyright: ignore[reportMissingImports]

    main = f'#include "learner.h"\nfloat x[1], p[1];\nint main(void) {{ {body} }}\n'
    (folder / "least.c").write_text(main)
    subprocess.run(
        ["arm-none-eabi-gcc", "-std=c99", *M4, "-fno-math-errno", "-ffunction-sections",
         "-fdata-sections", "-Wl,--gc-sections", "--specs=nosys.specs", "least.c", "learner.c",
         "-lm", "-o", "least"], cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    text, *_ = _output("arm-none-eabi-size", folder / "least").splitlines()[1].split()
    return int(text)


def _operations(folder: Path) -> int:
    found = re.search(r"takes about ([\d,]+) operations", (folder / "README.md").read_text())
    assert found is not None
    return int(found[1].replace(",", ""))


def _output(*command: Any) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def beside_xla(learner: Any, state: Any, signal: Any, folder: Path) -> dict[str, Any]:
    import numpy as np

    source = folder / "run.c"
    source.write_text((folder / "learner.c").read_text() + RUN)
    shared = folder / "run.so"
    subprocess.run(
        ["gcc", "-std=c99", *FLAGS.split(), "-shared", "-fPIC", "-Wl,-Bsymbolic", source, "-lm",
         "-o", shared], check=True,
    )  # fmt: skip
    library = ctypes.CDLL(str(shared))
    library.learner_init()
    xs, predictions = np.ascontiguousarray(signal), np.zeros(LENGTH, np.float32)

    def pointer(a):
        return a.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    library.run(LENGTH, pointer(xs), pointer(predictions))
    ours = predictions.copy()
    _, outs = learner.scan(state, signal[:-1], signal[1:], chunk=1)
    difference = np.abs(ours - np.asarray(outs.prediction)[:, 0])
    times = alternate(
        {
            "C": lambda: library.run(LENGTH, pointer(xs), pointer(predictions)),
            "XLA": lambda: learner.scan(state, signal[:-1], signal[1:], chunk=1)[1].prediction,
        },
        rounds=15,
    )
    return {
        "C_us": digits(1e6 * min(times["C"]) / LENGTH),
        "XLA_us": digits(1e6 * min(times["XLA"]) / LENGTH),
        "speed": digits(median(ratios(times, "XLA", "C"))),
        "difference_after_10": digits(float(difference[:10].max()), 2),
        "difference_after_100": digits(float(difference[:100].max()), 2),
    }


def measure() -> None:
    import numpy as np

    signal = np.sin(0.3 * np.arange(LENGTH + 1)).astype(np.float32)[:, None]
    rows = []
    for cell in ("LRU", "LIF"):
        for size in SIZES:
            learner, state = network(cell, size)
            with tempfile.TemporaryDirectory() as folder:
                row: dict[str, Any] = {"cell": cell, "size": size}
                row |= on_a_device(learner, state, signal, Path(folder))
                row |= beside_xla(learner, state, signal, Path(folder))
            rows.append(row)
            print(row, flush=True)
    merge(FILE, "device", {"rows": rows, "provenance": provenance()})


def measure_narrow() -> None:
    import numpy as np

    signal = np.sin(0.3 * np.arange(LENGTH + 1)).astype(np.float32)[:, None]
    rows = []
    for cell, size, nonfinite in (("LRU", 16, "skip"), ("LRU", 16, "ignore"), ("LRU", 64, "skip"),
                                  ("LIF", 64, "skip")):  # fmt: skip
        for dtype in ("float32", "bfloat16", "int8"):
            learner, state = network(cell, size, trace_dtype=dtype, on_nonfinite=nonfinite)
            with tempfile.TemporaryDirectory() as folder:
                found = on_a_device(learner, state, signal, Path(folder))
            rows.append({"cell": cell, "size": size, "on_nonfinite": nonfinite,
                         "traces": dtype, **found})  # fmt: skip
            print(rows[-1], flush=True)
    merge(FILE, "narrow", {"rows": rows, "provenance": provenance()})


def narrow_table() -> list[str]:
    found = read(FILE).get("narrow")
    if found is None:
        return []
    lines = [
        "", "## Traces in fewer bits", "",
        "`trace_dtype` of the learner, the same networks on a Cortex-M4F. A matrix made of narrow "
        "numbers is computed again where it is needed, never kept wide: memory is bought with "
        "instructions, and with the hash that rounding at random takes.", "",
        "| cell | N | on_nonfinite | traces | RAM: state | scratch | both | of float32's | code | "
        "instructions a step |",
        "|---|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for r in found["rows"]:
        both = r["state"] + r["scratch"]
        if r["traces"] == "float32":
            whole = both
        lines.append(
            f"| {r['cell']} | {r['size']} | {r['on_nonfinite']} | {r['traces']} | {r['state']:,} | "
            f"{r['scratch']:,} | {both:,} | {both / whole:.2f} | {r['code']:,} | "
            f"{r['instructions']:,} |"
        )
    return lines


def write_table() -> None:
    found = read(FILE)["device"]
    lines = [
        "# Exported C: size and speed", "",
        "One layer, width N, N modules, sgd, no norm; float32. Left: Cortex-M4F, -Os. Right: one "
        "core of this machine, beside XLA's scan of single steps.", "",
        "| cell | N | code | step alone | RAM: state | scratch | of (state) | operations a step | "
        "instructions a step | C, us | XLA, us | times as fast | bars |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]  # fmt: skip
    for r in found["rows"]:
        ram, bars = (r["state"] + r["scratch"]) / r["state"], []
        wanted = BARS.get((r["cell"], r["size"]), {})
        if "code" in wanted:
            bars.append(f"code <= {wanted['code']:,.0f}: {_met(r['code'] <= wanted['code'])}")
        if "speed" in wanted:
            bars.append(f"speed >= {wanted['speed']}: {_met(r['speed'] >= wanted['speed'])}")
        fits = r["state"] + r["scratch"] <= 1.6 * r["state"] + 2048
        bars.append(f"RAM <= 1.6 state + 2 kB: {_met(fits)}")
        lines.append(
            f"| {r['cell']} | {r['size']} | {r['code']:,} | {r['step']:,} | {r['state']:,} | "
            f"{r['scratch']:,} | {ram:.2f} | {r['operations']:,} | {r['instructions']:,} | "
            f"{r['C_us']} | {r['XLA_us']} | {r['speed']} | {'; '.join(bars)} |"
        )
    lines += [
        "", "Code: `learner_step` and the functions of `math.h` and the compiler that it calls, "
        "bytes. Load of the machine and versions: `device.json`.",
    ]  # fmt: skip
    lines += narrow_table()
    (RESULTS / "device.md").write_text("\n".join(lines) + "\n")


def _met(yes: bool) -> str:
    return "met" if yes else "missed"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", action="store_true", help="only write the table again")
    parser.add_argument("--narrow", action="store_true", help="only traces in fewer bits")
    given = parser.parse_args()
    if not given.table:
        pin(1)
        if not given.narrow:
            measure()
        measure_narrow()
    write_table()
