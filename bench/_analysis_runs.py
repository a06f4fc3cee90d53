"""What the experiments of the analysis share: figures kept as JSON, run by run, to resume."""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "analysis"


def kept(name: str, measure: Callable[[], Any], command: str) -> Any:
    """Read a measurement, or make and write it: one that exists is never made again."""
    path = RESULTS / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())["result"]
    start = time.perf_counter()
    result = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "command": command,
        "versions": {"python": sys.version.split()[0]}
        | {n: version(n) for n in ("jax", "jaxlib", "equinox", "optax", "numpy")},
        "seconds": round(time.perf_counter() - start, 1),
        "result": result,
    }
    part = path.with_suffix(".part")
    part.write_text(json.dumps(about) + "\n")
    part.rename(path)  # whole or not at all
    print(f"{name}: {about['seconds']} s", flush=True)
    return json.loads(path.read_text())["result"]
