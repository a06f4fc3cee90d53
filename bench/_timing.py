"""What the benchmarks of speed share: fair timing, and results as JSON that resume.

Competitors run in one process and take turns, so that a busy machine is busy for all of them; what
is reported of a comparison is the median of the ratios of single rounds.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"


def pin(cores: int) -> None:
    """Keep this process on the first ``cores`` cores; starts it again, as JAX counts them once."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) > cores:
        os.sched_setaffinity(0, allowed[:cores])
        os.execv(sys.executable, [sys.executable, *sys.argv])


def alternate(
    competitors: Mapping[str, Callable[[], Any]],
    rounds: int,
    seconds: float = 60.0,
    processor: dict[str, list[float]] | None = None,
) -> dict[str, list[float]]:
    """Run competitors in turn, each waiting for its result; seconds of every round.

    The first run of each is not counted. Stops after ``rounds`` rounds, or after three if they have
    taken longer than ``seconds``. Into ``processor`` go the seconds that all cores together worked.
    """
    import jax

    for run in competitors.values():
        jax.block_until_ready(run())
    times: dict[str, list[float]] = {name: [] for name in competitors}
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, run in competitors.items():
            start, worked = time.perf_counter(), time.process_time()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
            if processor is not None:
                processor.setdefault(name, []).append(time.process_time() - worked)
    return times


def summary(values: list[float], scale: float = 1.0) -> dict[str, float]:
    """Median, least and most, to four digits."""
    return {
        name: digits(scale * function(values))
        for name, function in (("median", median), ("min", min), ("max", max))
    }


def ratios(times: Mapping[str, list[float]], name: str, *baseline: str) -> list[float]:
    """The time of a competitor over the sum of the baseline's, round by round."""
    below = zip(*(times[b] for b in baseline), strict=True)
    return [a / sum(b) for a, b in zip(times[name], below, strict=True)]


def faster(times: Mapping[str, list[float]], *names: str) -> str:
    return min(names, key=lambda name: median(times[name]))


def digits(value: float, significant: int = 4) -> float:
    return float(f"{value:.{significant}g}")


def provenance() -> dict[str, Any]:
    """How a result came about: command, versions, device, load of the machine."""
    import jax

    packages = ("jax", "jaxlib", "equinox", "optax", "numpy")
    return {
        "command": " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "versions": {"python": sys.version.split()[0]} | {p: version(p) for p in packages},
        "device": jax.devices()[0].device_kind,  # "cpu", or the name of a GPU
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
    }


def read(name: str) -> dict[str, Any]:
    file = RESULTS / name
    return json.loads(file.read_text()) if file.exists() else {}


def merge(name: str, key: str, result: dict[str, Any]) -> None:
    """Write one part of a result, leaving the others as they are."""
    RESULTS.mkdir(exist_ok=True)
    everything = read(name) | {key: result}
    (RESULTS / name).write_text(json.dumps(everything, indent=1) + "\n")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
