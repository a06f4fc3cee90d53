"""A million rows through ``rtrl stream``: memory over the run, and a run that is killed on the way.

    python bench/stream_memory.py [ROWS]
    python bench/stream_memory.py [ROWS] --whole    the first of the two alone

Writes bench/results/stream_memory.json: the resident memory of the process at every tenth of the
file, rows a second, and whether a run that was killed (SIGKILL) twice and resumed left the same
predictions, byte for byte. Two columns of numbers, one field in a hundred empty.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULT = Path(__file__).parent / "results" / "stream_memory.json"


def write_log(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    table = np.sin(np.arange(rows)[:, None] * [0.05, 0.21]) + 0.1 * rng.normal(size=(rows, 2))
    with open(path, "w") as file:
        file.write("a,b\n")
        for a, b in table.tolist():
            file.write(f"{a:.5f}," + (f"{b:.5f}\n" if rng.random() > 0.01 else "\n"))


def start(log: Path, folder: Path, *more: str) -> subprocess.Popen:
    out = ["--to", str(folder / "forecast.csv"), "--out", str(folder)]
    command = [sys.executable, "-m", "rtrl", "stream", str(log), "--target", "a", *out, *more]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def lines(path: Path) -> int:
    """Lines of a file that is being written, by its size and its last one."""
    if not path.exists() or path.stat().st_size < 100:
        return 0
    with open(path, "rb") as file:
        file.seek(-80, os.SEEK_END)
        whole = file.read().split(b"\n")[-2]
    return int(whole.split(b",")[0]) if whole[:1].isdigit() else 0


def resident(pid: int) -> float:
    """Megabytes."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    whole_only = sys.argv[-1] == "--whole"
    given = [argument for argument in sys.argv[1:] if argument != "--whole"]
    rows = int(given[0]) if given else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        log, whole, cut = (Path(name) / part for part in ("log.csv", "whole", "cut"))
        write_log(log, rows)
        for folder in (whole, cut):
            folder.mkdir()
        began, memory = time.perf_counter(), {}
        process = start(log, whole)
        while process.poll() is None:
            done = lines(whole / "forecast.csv")
            tenth = done * 10 // rows
            if done and tenth not in memory:
                memory[tenth] = resident(process.pid)
            time.sleep(0.2)
        seconds = time.perf_counter() - began
        figures = json.loads((whole / "result.json").read_text())["runs"][0]["figures"]
        print({k: round(v) for k, v in memory.items()}, f"{seconds:.0f} s", flush=True)
        if whole_only:
            write(rows, {"resident memory at every tenth, MB": memory,
                         "whole command, s": seconds, "load": os.getloadavg()[0]})  # fmt: skip
            return
        killed = []
        for share, more in ((0.3, ()), (0.7, ("--resume",))):
            process = start(log, cut, *more)
            while process.poll() is None and lines(cut / "forecast.csv") < share * rows:
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed.append(lines(cut / "forecast.csv"))
        assert start(log, cut, "--resume").wait() == 0
        same = (cut / "forecast.csv").read_bytes() == (whole / "forecast.csv").read_bytes()
    found = {
        "resident memory at every tenth, MB": memory,
        "rows a second": figures["rows_per_second"],
        "whole command, s": seconds,
        "killed at rows": killed,
        "predictions the same after both kills": same,
        "load": os.getloadavg()[0],
    }
    write(rows, found)


def write(rows: int, found: dict) -> None:
    """Beside what is known of other numbers of rows."""
    before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps(before | {f"{rows:,} rows": found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
