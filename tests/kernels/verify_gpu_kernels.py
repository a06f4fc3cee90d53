"""What GPU compilers make of the kernel, on a machine without a GPU: ``make verify-gpu-kernels``.

Rungs 5 and 6 of the ladder in ``kernels/README.md``: `verify_machine_code`, `verify_memory`. Writes
``bench/results/kernels_verify.json`` and a table beside it; exits with 1 if anything is not as it
should be.
"""

import argparse
import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from gpu_targets import TARGETS
from verify_machine_code import bundled, check_machine_code
from verify_memory import check_memory, check_training_step
from verify_table import table

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "bench/results/kernels_verify.json"
ENVIRONMENT = {
    "JAX_PLATFORMS": "",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "XLA_FLAGS": "--xla_gpu_autotune_level=0",
    "TRITON_DEFAULT_FP_FUSION": "1",
}


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    options = parser.parse_args()
    report: dict[str, Any]
    if options.table:
        report = json.loads(options.output.read_text())
        options.output.with_suffix(".md").write_text(table(report))
        return 0
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        program = [sys.executable, *sys.argv]  # JAX reads these as it is imported
        os.execve(sys.executable, program, os.environ | ENVIRONMENT)
    os.environ["PATH"] = f"{bundled('ptxas').parent}:{os.environ['PATH']}"
    names = "jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda13-pjrt", "triton"
    report = {
        "command": "make verify-gpu-kernels",
        "versions": {"python": platform.python_version()}
        | {n: importlib.metadata.version(n) for n in names},
        "code": fingerprint(),
    }
    print("Triton's compiler (rung 5)")
    report["machine_code"] = check_machine_code()
    print("XLA's compiler (rung 6)")
    report["xla"] = check_memory()
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
    options.output.with_suffix(".md").write_text(table(report))
    print("all as it should be" if report["ok"] else "NOT as it should be")
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
