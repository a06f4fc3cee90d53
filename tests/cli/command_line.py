"""Running the command line in this process or another, and what it leaves behind."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from rtrl.cli import main as cli_main

TINY = ["--width", "4", "--hidden", "4", "--depth", "1"]


PNG = b"\x89PNG\r\n\x1a\n"


def rtrl_(*arguments: object) -> SimpleNamespace:
    """Run the command in this process: exit code, standard output and standard error."""
    return call([str(a) for a in arguments])


def call(arguments: list[str]) -> SimpleNamespace:
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    code = 0
    try:
        cli_main(arguments)
    except SystemExit as error:
        code = error.code
    finally:
        sys.stdout, sys.stderr = before
    return SimpleNamespace(code=code or 0, out=out.getvalue(), err=err.getvalue())


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def log_file(folder: Path, rows: int = 160) -> Path:
    """Two columns, the target driven by the other; one malformed row and one gap."""
    path = folder / "log.csv"
    speed, lines = 0.0, ["time,speed,load"]
    for t in range(rows):
        load = np.sin(t / 4)
        speed = 0.8 * speed + load
        lines.append(f"{t},{'' if t == 30 else f'{speed:.5f}'},{load:.5f}")
    lines.insert(21, "oops")
    path.write_text("\n".join(lines) + "\n")
    return path


def start(*arguments: object, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "rtrl", *map(str, arguments)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment, bufsize=1, **options,
    )  # fmt: skip


def with_input(text: str, *arguments: object) -> SimpleNamespace:
    before, sys.stdin = sys.stdin, io.StringIO(text)
    try:
        return rtrl_(*arguments)
    finally:
        sys.stdin = before


def leaves(folder: Path) -> list[bytes]:
    """All arrays of a state but what it says about itself (history is reported at other steps)."""
    with np.load(folder / "state.rtrl") as archive:
        return [archive[k].tobytes() for k in sorted(archive) if k not in ("header.json", "00000")]


SMALL = ["--target", "speed", "--horizon", "3", "--warmup", "20", *TINY]


RUNS = {
    "stream": ["henon", "--set", "length=120", "--warmup", "20", *TINY],
    "stream in chunks": ["henon", "--set", "length=120", "--warmup", "20", "--chunk", "7", *TINY],
    "sequences": ["copying", "--set", "pattern=2", "--set", "padding=1", "--batch", "3", *TINY],
    "labelled": ["digits", "--set", "by=rows", "--set", "held_out=0.9", "--batch", "50", *TINY],
}


STEPS = {"stream": 60, "stream in chunks": 60, "sequences": 6, "labelled": 5}


FORECAST = ["--target", "speed", "--horizon", "3"]
