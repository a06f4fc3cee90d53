"""Other machines, emulated: compilers and emulators from Debian's packages (`PACKAGES`)."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np

import rtrl

TARGETS_FOLDER = Path(__file__).parent / "targets"
PACKAGES = (
    "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm qemu-user-static "
    "gcc-riscv64-linux-gnu libc6-dev-riscv64-cross gcc-s390x-linux-gnu libc6-dev-s390x-cross"
)


class Target(NamedTuple):
    """A machine: how to compile for it and how to run what comes out.

    ``bare``: size of flash and RAM of a board without an operating system.
    """

    compiler: str
    flags: tuple[str, ...]
    run: tuple[str, ...]
    bare: tuple[str, str] | None = None
    hidden: int = 16


_QEMU = ("-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config",
         "enable=on,target=native", "-icount", "shift=0", "-kernel")  # fmt: skip
M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-Os")
M0 = ("-mcpu=cortex-m0", "-mthumb", "-mfloat-abi=soft", "-Os")
TARGETS = {
    "host": Target("gcc", ("-O2",), ()),
    "cortex-m4": Target(
        "arm-none-eabi-gcc", M4, ("qemu-system-arm", "-M", "mps2-an386", *_QEMU), ("4M", "4M")
    ),
    # A micro:bit: 256 kB of flash, 16 kB of RAM, no floating-point unit.
    "cortex-m0": Target(
        "arm-none-eabi-gcc", M0, ("qemu-system-arm", "-M", "microbit", *_QEMU), ("256K", "16K"), 8
    ),
    "riscv64": Target("riscv64-linux-gnu-gcc", ("-O2", "-static"), ("qemu-riscv64-static",)),
    "s390x, big-endian": Target("s390x-linux-gnu-gcc", ("-O2", "-static"), ("qemu-s390x-static",)),
}


class Run(NamedTuple):
    loaded: int
    predictions: np.ndarray
    state: bytes


def missing() -> list[str]:
    """Programs that the targets need and this machine lacks."""
    needed = {t.compiler for t in TARGETS.values()} | {t.run[0] for t in TARGETS.values() if t.run}
    return sorted(name for name in needed if shutil.which(name) is None)


def export_case(learner, state, xs, ys, folder: Path) -> None:
    """A learner, and beside it rows to learn and its state packed."""
    rtrl.device.export(learner, state, folder)
    packed = rtrl.device.pack(state)
    lines = [f"enum {{ ROWS = {len(xs)} }};"]
    for name, values in (("xs", xs), ("ys", ys)):
        numbers = ", ".join(f"{float(v)!r}f" for v in np.ravel(values))
        lines.append(f"static const float {name}[] = {{{numbers}}};")
    data = ", ".join(map(str, packed))
    lines.append(f"static const unsigned char packed[] = {{{data}}};")
    (folder / "case.h").write_text("\n".join(lines) + "\n")


def build(target: Target, folder: Path, *extra: str) -> Path:
    """Compile the program that learns the case."""
    program = folder / "program"
    command = [target.compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-fno-math-errno",
               "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", *target.flags, *extra,
               "-I", folder, TARGETS_FOLDER / "program.c", folder / "learner.c"]  # fmt: skip
    if target.bare is not None:
        flash, ram = target.bare
        script = (TARGETS_FOLDER / "cortex_m.ld").read_text()
        script = script.replace("FLASH_SIZE", flash).replace("RAM_SIZE", ram)
        (folder / "board.ld").write_text(script)
        command += [TARGETS_FOLDER / "cortex_m.c", "--specs=rdimon.specs", "-nostartfiles",
                    "-T", folder / "board.ld"]  # fmt: skip
    subprocess.run([*command, "-lm", "-o", program], check=True)
    return program


def output(target: Target, program: Path) -> list[list[str]]:
    done = subprocess.run(
        [*target.run, program], capture_output=True, text=True, timeout=300, check=True
    )
    return [line.split() for line in done.stdout.splitlines()]


def run(target: Target, folder: Path) -> Run:
    lines = output(target, build(target, folder))
    found = [int(words[1], 16) for words in lines if words[0] == "prediction"]
    return Run(
        int(lines[0][1]),
        np.array(found, np.uint32).view(np.float32),
        bytes.fromhex(lines[-1][1]),
    )


def instructions(folder: Path) -> int:
    """Of a step on a Cortex-M4F."""
    target = TARGETS["cortex-m4"]
    lines = output(target, build(target, folder, "-DCOUNT"))
    return int(next(words[1] for words in lines if words[0] == "instructions"))
