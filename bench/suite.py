"""What the tests cost: seconds of processor time of every test, file by file (`make test-times`).

This file is two things: a plugin of pytest, which measures each test with the processes that it
starts and ends, and the script that makes a table of it. Processor time, since that of a clock says
what else the machine did; what is shared (a fixture, a program compiled once) counts where it came
first.
"""

import json
import os
import resource
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

NAME = "RTRL_TEST_TIMES"  # the environment variable with the file that all workers append to
RESULT = Path(__file__).parent / "results" / "suite.json"
compiled = {"programs": 0}


def pytest_configure(config: pytest.Config) -> None:
    import jax

    def count(event: str, duration_secs: float, **_: Any) -> None:
        compiled["programs"] += event.endswith("backend_compile_duration")

    jax.monitoring.register_event_duration_secs_listener(count)


def spent() -> float:
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None):
    seconds, programs = spent(), compiled["programs"]
    result = yield
    row = [item.nodeid, round(spent() - seconds, 3), compiled["programs"] - programs]
    with open(os.environ[NAME], "a") as file:
        file.write(json.dumps(row) + "\n")
    return result


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['tests']} tests, {result['seconds']:,.0f} seconds of processor time, "
        f"{result['programs']:,} compiled programs, {result['longest'][0][1]:.0f} seconds the "
        "longest test.",
        "",
        "| file | tests | seconds | a test | programs |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in result["files"].items():
        each = row["seconds"] / row["tests"]
        lines.append(
            f"| `{name}` | {row['tests']} | {row['seconds']:.1f} | {each:.2f} "
            f"| {row['programs']:,} |"
        )
    lines += ["", "| the longest tests | seconds |", "|---|---:|"]
    lines += [f"| `{name}` | {seconds:.1f} |" for name, seconds in result["longest"]]
    lines += ["", f"`make test-times`: {result['versions']}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    import jax

    measured = Path(os.environ[NAME])
    rows = [json.loads(line) for line in measured.read_text().splitlines()]
    files: dict[str, dict[str, float]] = defaultdict(lambda: dict(tests=0, seconds=0, programs=0))
    for name, seconds, programs in rows:
        row = files[name.split("::")[0]]
        for key, value in dict(tests=1, seconds=seconds, programs=programs).items():
            row[key] = round(row[key] + value, 3)
    result = {
        "tests": len(rows),
        "seconds": round(sum(row[1] for row in rows), 1),
        "programs": sum(row[2] for row in rows),
        "longest": sorted(([n, s] for n, s, _ in rows), key=lambda r: -r[1])[:12],
        "files": dict(sorted(files.items(), key=lambda item: -item[1]["seconds"])),
        "versions": f"{len(os.sched_getaffinity(0))} cores, jax {jax.__version__}",
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    RESULT.with_suffix(".md").write_text(table(result))
    print(table(result))


if __name__ == "__main__":
    main()
