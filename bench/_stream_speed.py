"""How fast the command line forecasts, beside river's pipeline in Python: `streams.py --speed`.

By the clock, rows a second of `rtrl stream` are those after the first block, as it prints them. By
the processor's time they are the difference of a run on all rows and one on a tenth of them; with
500 columns most of it is to decide what the columns are, from the first 1,000 rows.
"""

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROWS = 20_000
LIVE = 300
COMMAND = (sys.executable, "-m", "rtrl", "stream")


def measure(path: Path) -> None:
    """Measure, print, and write a JSON file."""
    found: dict[str, float] = {"load before": os.getloadavg()[0], "cores": os.cpu_count() or 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for columns, rows in ((2, ROWS), (500, 2000)):
            log = _log(folder / f"{columns}.csv", columns, rows)
            wall, used = _river(log)
            found[f"river, {columns} columns, rows/s"] = wall
            found[f"river, {columns} columns, rows per processor second"] = used
            out = folder / f"out{columns}"
            command = [*COMMAND, "--target", "c0", "--out", str(out)]
            # Once on a tenth of the rows: what is left is what the other rows take, no start in it.
            short = _log(folder / f"short{columns}.csv", columns, rows // 10)
            _seconds([*command, str(short)])
            start, cpu = _seconds([*command, str(short)]), _processor()
            whole = _seconds([*command, str(log)])
            more = _processor() - cpu
            cpu = _processor()
            _seconds([*command, str(short)])
            more -= _processor() - cpu
            found[f"rtrl, {columns} columns, rows per processor second"] = 0.9 * rows / more
            result = json.loads((out / "result.json").read_text())
            figures = result["runs"][0]["figures"]
            found[f"rtrl, {columns} columns, rows/s"] = figures["rows_per_second"]
            found[f"rtrl, {columns} columns, whole command, s"] = whole
            found[f"rtrl, {columns} columns, a tenth of the rows, s"] = start
        for start in ("first", "second"):
            cache = folder / "cache"
            found |= {f"{start} start: {k}": v for k, v in _live(folder, cache).items()}
        found["help, s"] = _seconds([*COMMAND[:-1], "--help"])
        found |= _step()
        found["load after"] = os.getloadavg()[0]
    for name, value in found.items():
        print(f"{name:45s} {value:,.4g}")
    path.write_text(json.dumps(found, indent=1) + "\n")


def measure_starts(path: Path) -> None:
    """Only the time to start and to answer a row, by the clock and by the processor's time."""
    found: dict[str, float] = {"load before": os.getloadavg()[0], "cores": os.cpu_count() or 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _log(folder / "2.csv", 2, LIVE + 1)
        for start in ("first", "second"):
            each = _live(folder, folder / "cache")
            found |= {f"{start} start: {k}": v for k, v in each.items()}
    found |= _step() | {"load after": os.getloadavg()[0]}
    for name, value in found.items():
        print(f"{name:55s} {value:,.4g}")
    path.write_text(json.dumps(found, indent=1) + "\n")


def _used(pid: int) -> float:
    """Seconds of the processor that a running process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _log(path: Path, columns: int, rows: int) -> Path:
    rng = np.random.default_rng(0)
    waves = np.sin(np.arange(rows)[:, None] * rng.uniform(0.02, 0.3, columns))
    table = waves + 0.1 * rng.normal(size=waves.shape)
    with open(path, "w") as file:
        file.write(",".join(f"c{i}" for i in range(columns)) + "\n")
        np.savetxt(file, table, fmt="%.5f", delimiter=",")
    return path


def _processor() -> float:
    """Seconds of all processes that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _river(log: Path) -> tuple[float, float]:
    """Rows a second of ``StandardScaler | LinearRegression``: CSV in, predictions out.

    By the clock, and by the processor's time.
    """
    from river import linear_model, preprocessing  # type: ignore

    model = preprocessing.StandardScaler() | linear_model.LinearRegression()
    start, cpu, before, rows = time.perf_counter(), time.process_time(), None, 0
    with open(log) as file, open(os.devnull, "w") as out:
        for row in csv.DictReader(file):
            x = {name: float(value) for name, value in row.items()}
            if before is not None:
                model.learn_one(before, x["c0"])
            out.write(f"{model.predict_one(x)}\n")
            before, rows = x, rows + 1
    return rows / (time.perf_counter() - start), rows / (time.process_time() - cpu)


def _live(folder: Path, cache: Path) -> dict[str, float]:
    """Rows written into a pipe one at a time, each answer waited for."""
    lines = (folder / "2.csv").read_text().splitlines(keepends=True)[: LIVE + 1]
    start, cpu = time.perf_counter(), _processor()
    process = subprocess.Popen(
        [*COMMAND, "-", "--target", "c0", "--out", str(folder / "live")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(lines[0] + lines[1])
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.readline()
    first, each = time.perf_counter() - start, []
    used = _used(process.pid)
    for line in lines[2:]:
        start = time.perf_counter()
        process.stdin.write(line)
        process.stdin.flush()
        process.stdout.readline()
        each.append(time.perf_counter() - start)
    more = _used(process.pid) - used
    process.stdin.close()
    process.wait()
    return {
        "first prediction, s": first, "processor time of the run, s": _processor() - cpu,
        "first prediction, processor time, s": used,
        "each further, median ms": 1e3 * float(np.median(each)),
        "each further, tenth ms": 1e3 * float(np.quantile(each, 0.1)),
        "each further, processor time, ms": 1e3 * more / len(each),
    }  # fmt: skip


def _step() -> dict[str, float]:
    """A row from Python, and the compiled program alone, with its arguments at hand."""
    import jax

    from rtrl.streams import Forecaster
    from rtrl.streams._pair import split
    from rtrl.streams._rows import packed, run

    one = Forecaster(2, own=(0,))
    state, x = one.init(), np.zeros(2)
    each, bare = [], []
    row = split(x[None])
    rows = packed(x[None], row[:, :1], np.ones(1), np.zeros(1), one.block)
    for _ in range(3 * LIVE):
        start = time.perf_counter()
        state, _ = one.step(state, x, x[:1])
        each.append(time.perf_counter() - start)
    inside = state.inside
    program = run.lower(one, rows, inside).compile()
    rest = [a for a in jax.tree.leaves((one, rows)) if hasattr(a, "shape")]
    arrays = jax.tree.leaves(inside)
    for _ in range(3 * LIVE):
        start = time.perf_counter()
        out = jax.block_until_ready(program(rest, arrays))
        bare.append(time.perf_counter() - start)
        arrays = out[: len(arrays)]
    quantiles = {"median": 0.5, "tenth": 0.1}
    return {
        f"{name}, {what} ms": 1e3 * float(np.quantile(times, q))
        for name, times in (("a row from Python", each), ("its compiled program alone", bare))
        for what, q in quantiles.items()
    }


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start
