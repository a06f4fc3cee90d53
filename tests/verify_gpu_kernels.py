"""What GPU compilers make of the kernel, on a machine without a GPU: ``make verify-gpu-kernels``.

Rungs 5 and 6 of the ladder in ``kernels/README.md``:

5. Triton compiles the lowered IR for sm_80, sm_90 and sm_100. The machine code uses no stack and
   spills no register, loads and stores 128 bits at a time, and no barrier. A tile that is too large
   must fail this (the control).
6. XLA compiles the function, ahead of time: no temporary memory beyond the partial gradients, the
   trace written in place, nothing but the kernel. And a whole training step holds no second trace.

Writes ``bench/results/kernels_verify.json``; exits with 1 if anything is not as it should be.
"""

import argparse
import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import ttir
from gpu_targets import TARGETS
from jax.sharding import SingleDeviceSharding

from rtrl.kernels import _backend, _device, _tiles, diagonal_trace
from rtrl.kernels._diagonal_trace import launch
from rtrl.kernels._tiles import Shape, Tile

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "bench/results/kernels_verify.json"
FLAGS = "--xla_gpu_autotune_level=0"
ENVIRONMENT = {
    "JAX_PLATFORMS": "",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "XLA_FLAGS": FLAGS,
    "TRITON_DEFAULT_FP_FUSION": "1",
}
CONTROL = Tile(32, 256, 1, 4)
ADDRESS_TABLE = 16  # bytes XLA allots for the addresses of the kernel's two outputs


def fingerprint() -> str:
    """Of the code that decides what is compiled, comments and docstrings left out."""
    digest = hashlib.sha256()
    for name in ("_backend.py", "_diagonal_trace.py", "_tiles.py"):
        tree = ast.parse((ROOT / "kernels" / name).read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                if isinstance(body[0].value, ast.Constant):
                    body[0].value.value = ""
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()[:16]


def machine_code(kernel: ttir.Kernel, capability: int) -> dict[str, int]:
    """Compile one kernel with Triton and count what matters in the machine code."""
    import triton
    from triton.backends.compiler import GPUTarget

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
        "registers": resources["REG"],
        "stack": resources["STACK"],
        "shared": resources["SHARED"],
        "spills": count(r"\b(LDL|STL)\b"),
        "loads": count(r"\bLDG\b"),
        "wide_loads": count(r"\bLDG\.E\S*\.(128|ENL2\.256|256)"),
        "stores": count(r"\bSTG\b"),
        "wide_stores": count(r"\bSTG\.E\S*\.(128|ENL2\.256|256)"),
        "barriers": count(r"\bBAR\b"),
        "fused_multiply_adds": count(r"\bFFMA2?\b"),
    }


def _bundled(program: str) -> Path:
    import triton

    return Path(triton.__file__).parent / "backends/nvidia/bin" / program


def _cuobjdump(flag: str, file: Path) -> str:
    command = [str(_bundled("cuobjdump")), flag, str(file)]
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


def code_problems(shape: Shape, code: dict[str, int]) -> list[str]:
    found = [n for n in ("stack", "spills", "shared", "barriers") if code[n]]
    if not code["wide_loads"]:
        found.append("no 128-bit loads")
    if has_wide_rows(shape) and code["wide_stores"] < code["stores"]:
        found.append("narrow stores")
    return found


def compile_with_xla(function, arguments, capability: int, *, may_spill: bool = False):
    """XLA's ahead-of-time compilation; the first argument is donated.

    Raises:
        jax.errors.JaxRuntimeError: a kernel spills registers and must not.
    """
    from jax.experimental import topologies

    name, config = TARGETS[capability]
    topology = topologies.get_topology_desc(
        platform="cuda", topology_name="", target_config=config, topology="1x1x1"
    )
    sharding = SingleDeviceSharding(topology.devices[0])
    arguments = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), arguments
    )
    run = jax.jit(function, donate_argnums=0)
    with _backend.abstract_device(name):
        lowered = _backend.lower(run, *arguments, device=name)
    flag = "xla_gpu_fail_ptx_compilation_on_register_spilling"
    return lowered.compile(compiler_options={flag: not may_spill})


def size(a) -> int:
    return int(np.prod(a.shape)) * np.dtype(a.dtype).itemsize


def memory_of(compiled) -> dict[str, int]:
    stats = compiled.memory_analysis()
    return {"temp": stats.temp_size_in_bytes, "aliased": stats.alias_size_in_bytes}


WIDTHS = {"f32": 4, "c64": 8}


def trace_passes(compiled, trace_bytes: int) -> float:
    """Bytes moved by everything that touches an array at least as large as half the trace
    (a real or an imaginary part), in units of the trace."""
    text = compiled.as_text()
    entry = text[text.index("ENTRY") :]
    sizes, moved = {}, 0
    for line in entry.splitlines():
        match = re.match(r"\s*(?:ROOT )?(%\S+) = (.+?) ([a-z-]+)\((.*)", line)
        if not match:
            continue
        name, kind, operation, rest = match.groups()
        arrays = [
            WIDTHS[t] * int(np.prod([int(n) for n in axes.split(",") if n]))
            for t, axes in re.findall(r"(f32|c64)\[([\d,]*)\]", kind)
        ]
        sizes[name] = [a for a in arrays if a >= trace_bytes // 2]
        if operation in ("fusion", "copy", "custom-call"):
            operands = set(re.findall(r"%[\w.\-]+", rest.split("), ")[0]))
            moved += sum(sizes[name]) + sum(sum(sizes.get(o, [])) for o in operands)
    return moved / trace_bytes


def training_step(state, x, y):
    """A layer of linear recurrent units, its readout and loss, and plain gradient descent, with the
    kernel in the place where the engine has it."""
    trace, h, W, C, decay = state
    h = decay * h + jnp.einsum("nh,bh->bn", W, x)
    loss, (to_h, to_C) = jax.value_and_grad(
        lambda h, C: jnp.mean((jnp.real(h @ C) - y) ** 2), argnums=(0, 1)
    )(h, C)
    one = jnp.ones((1, 1, 1, W.shape[0]), trace.dtype)
    gradient, trace = diagonal_trace(
        trace, decay * one[:, :, None], one, x[None], to_h[None, :, None], implementation="pallas"
    )
    return (trace, h, W - 0.1 * jnp.conj(gradient), C - 0.1 * jnp.conj(to_C), decay), loss


def check_training_step(capability: int, N: int = 1024, B: int = 16) -> dict:
    c64, f32 = np.complex64, np.float32
    trace = jax.ShapeDtypeStruct((B, 1, N, N), c64)
    shapes = ((B, N), c64), ((N, N), c64), ((N, 8), c64), ((N,), c64)
    state = (trace, *(jax.ShapeDtypeStruct(*s) for s in shapes))
    inputs = jax.ShapeDtypeStruct((B, N), f32), jax.ShapeDtypeStruct((B, 8), f32)
    compiled = compile_with_xla(training_step, (state, *inputs), capability)
    row = memory_of(compiled) | {
        "trace": size(trace),
        "kernels": compiled.as_text().count('custom_call_target="__gpu$xla.gpu.triton"'),
    }
    row["ok"] = bool(
        row["kernels"] == 1
        and row["aliased"] >= size(trace)
        and row["temp"] < size(trace) // 2  # W's gradient, cuBLAS's 32 MiB: no second trace
    )
    return row


def rung_5() -> list[dict]:
    rows = []
    for name, shape in _tiles.LARGE.items():
        tile = _tiles.choose(shape)
        for steady in (False, True):
            kernel = lowered_kernel(shape, tile, steady)
            for capability in TARGETS:
                code = machine_code(kernel, capability)
                problems = code_problems(shape, code)
                row = {"shape": name, "steady": steady, "sm": capability, "tile": tile._asdict()}
                rows.append(row | code | {"ok": not problems})
                print(
                    f"  {'one D, J; ' if steady else ''}{name}, sm_{capability}: "
                    f"{code['registers']} registers, {code['spills']} spills, "
                    f"{code['wide_loads']}/{code['loads']} wide loads {', '.join(problems) or 'ok'}",
                    flush=True,
                )
    shape = Shape(16, 16, 1, 2, 1024, 1024)
    for capability in TARGETS:
        code = machine_code(lowered_kernel(shape, CONTROL), capability)
        row = {"shape": "control: too large a tile", "steady": False, "sm": capability}
        noticed = bool(code["stack"] and code["spills"])
        rows.append(row | {"tile": CONTROL._asdict()} | code | {"ok": noticed})
        print(f"  control, sm_{capability}: {code['spills']} spills", flush=True)
    return rows


def rung_6() -> list[dict]:
    rows = []
    for name, shape in _tiles.LARGE.items():
        arguments = _device.shapes(shape)
        trace, splits = size(arguments[0]), _tiles.choose(shape).splits
        gradient = trace // (shape.B * shape.d)
        for capability in TARGETS:
            row: dict[str, Any] = {"shape": name, "sm": capability, "trace": trace}
            row["partial_gradients"] = splits * gradient if splits > 1 else 0
            for form in ("pallas", "xla"):
                run = partial(diagonal_trace, implementation=form)
                compiled = compile_with_xla(run, arguments, capability, may_spill=form == "xla")
                row[form] = memory_of(compiled)
                row[form]["passes"] = round(trace_passes(compiled, trace), 2)
            kernel = row["pallas"]
            row["ok"] = bool(
                kernel["temp"] <= row["partial_gradients"] + ADDRESS_TABLE
                and kernel["aliased"] == trace
            )
            rows.append(row)
            print(
                f"  {name}, sm_{capability}: temporary {kernel['temp']} bytes, aliased "
                f"{kernel['aliased']} of {trace}, {kernel['passes']} passes over the trace (XLA's "
                f"own form: {row['xla']['passes']}) {'ok' if row['ok'] else 'WRONG'}",
                flush=True,
            )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        program = [sys.executable, *sys.argv]  # JAX reads these as it is imported
        os.execve(sys.executable, program, os.environ | ENVIRONMENT)
    os.environ["PATH"] = f"{_bundled('ptxas').parent}:{os.environ['PATH']}"
    names = "jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda13-pjrt", "triton"
    report: dict[str, Any] = {
        "command": "make verify-gpu-kernels",
        "versions": {"python": platform.python_version()}
        | {n: importlib.metadata.version(n) for n in names},
        "code": fingerprint(),
    }
    print("Triton's compiler (rung 5)")
    report["machine_code"] = rung_5()
    print("XLA's compiler (rung 6)")
    report["xla"] = rung_6()
    report["training_step"] = [{"sm": c} | check_training_step(c) for c in TARGETS]
    print("  training steps:", report["training_step"])
    rows = [*report["machine_code"], *report["xla"], *report["training_step"]]
    report["ok"] = all(row["ok"] for row in rows)
    lines = [f' "{k}": {json.dumps(v)}' for k, v in report.items() if not isinstance(v, list)]
    for key, value in report.items():
        if isinstance(value, list):
            inner = ",\n".join(f"  {json.dumps(row)}" for row in value)
            lines.append(f' "{key}": [\n{inner}\n ]')
    options.output.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print("all as it should be" if report["ok"] else "NOT as it should be")
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
