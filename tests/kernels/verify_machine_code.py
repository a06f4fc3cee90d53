"""Rung 5 of the kernel's verification: the machine code that Triton's compiler makes of it.

It uses no stack and spills no register, loads and stores 128 bits at a time where rows allow, and
has no barrier. A tile that is too large must fail this (the control).
"""

import re
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import jax
import ttir
from gpu_targets import TARGETS

from rtrl.kernels import _backend, _device, _tiles
from rtrl.kernels._diagonal_trace import launch
from rtrl.kernels._tiles import Shape, Tile

CONTROL = Tile(32, 256, 1, 4)


def machine_code(kernel: ttir.Kernel, capability: int) -> dict[str, int]:
    """Compile one kernel with Triton and count what matters in the machine code."""
    import triton  # type: ignore[import-not-found]
    from triton.backends.compiler import GPUTarget  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ttir")
        source.write_text(kernel.text)
        compiled: Any = triton.compile(
            str(source),
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": kernel.num_warps, "num_stages": kernel.num_stages},
        )
        binary = Path(folder, "kernel.cubin")
        binary.write_bytes(compiled.asm["cubin"])
        usage = _cuobjdump("-res-usage", binary)
        code = _cuobjdump("-sass", binary)
    resources = {n: int(v) for n, v in re.findall(r"\b(REG|STACK|SHARED):(\d+)", usage)}

    def count(pattern: str) -> int:
        return len(re.findall(pattern, code))

    return {
        "sm": capability,
        "registers": resources["REG"],
        "stack": resources["STACK"],
        "shared": resources["SHARED"],
        "spills": count(r"\b(LDL|STL)\b"),
        "loads": count(r"\bLDG\b"),
        "wide_loads": count(r"\bLDG\.E\S*\.(128|ENL2\.256|256)"),
        "stores": count(r"\bSTG\b"),
        "wide_stores": count(r"\bSTG\.E\S*\.(128|ENL2\.256|256)"),
        "barriers": count(r"\bBAR\b"),
        "multiply_adds": count(r"\bFFMA2?\b"),
        "other_arithmetic": count(r"\b(FMUL|FADD)2?\b"),
    }


def bundled(program: str) -> Path:
    import triton  # type: ignore[import-not-found]

    return Path(str(triton.__file__)).parent / "backends/nvidia/bin" / program


def _cuobjdump(flag: str, file: Path) -> str:
    command = [str(bundled("cuobjdump")), flag, str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def lowered_kernel(shape: Shape, tile: Tile, steady: bool = False) -> ttir.Kernel:
    run = jax.jit(partial(launch, tile=tile, interpret=False))
    arguments = [
        jax.ShapeDtypeStruct((1, *a.shape), a.dtype) for a in _device.shapes(shape, steady=steady)
    ]
    (kernel,) = ttir.kernels_of(_backend.lower(run, *arguments))
    return kernel


def has_wide_rows(shape: Shape) -> bool:
    """Rows of the trace begin at multiples of 16 bytes."""
    return shape.H * shape.P % 4 == 0


def code_problems(shape: Shape, tile: Tile, code: dict[str, int]) -> list[str]:
    found = [n for n in ("stack", "spills", "shared", "barriers") if code[n]]
    if not code["wide_loads"]:
        found.append("no 128-bit loads")
    if has_wide_rows(shape):
        numbers = tile.N * tile.H * shape.d * shape.P // (32 * tile.warps)  # a thread's
        widest = 8 if code["sm"] >= 100 else 4
        if code["wide_loads"] < numbers // widest:
            found.append("narrow loads of the trace")
        if code["wide_stores"] < code["stores"]:
            found.append("narrow stores")
    return found


def check_machine_code() -> list[dict]:
    rows = []
    for name, shape in _tiles.LARGE.items():
        tile = _tiles.choose(shape)
        for steady in (False, True):
            kernel = lowered_kernel(shape, tile, steady)
            for capability in TARGETS:
                code = machine_code(kernel, capability)
                problems = code_problems(shape, tile, code)
                row = {"shape": name, "steady": steady, "tile": tile._asdict()}
                rows.append(row | code | {"ok": not problems})
                print(
                    f"  {'one D, J; ' if steady else ''}{name}, sm_{capability}: "
                    f"{code['registers']} registers, {code['spills']} spills, wide loads "
                    f"{code['wide_loads']}/{code['loads']} {', '.join(problems) or 'ok'}",
                    flush=True,
                )
    shape = Shape(16, 16, 1, 2, 1024, 1024)
    for capability in TARGETS:
        code = machine_code(lowered_kernel(shape, CONTROL), capability)
        row = {"shape": "control: too large a tile", "steady": False}
        noticed = bool(code["stack"] and code["spills"])
        rows.append(row | {"tile": CONTROL._asdict()} | code | {"ok": noticed})
        print(f"  control, sm_{capability}: {code['spills']} spills", flush=True)
    return rows
