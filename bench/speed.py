"""How fast and how small: online learning against backpropagation through time, row by row.

    python bench/speed.py                    everything, about ten minutes on two quiet cores
    python bench/speed.py --only gradient    one row (several: --only gradient online)
    python bench/speed.py --quick            a look at every row in two minutes, nothing written
    python bench/speed.py --cores 1          on one core: what the arithmetic alone costs
    python bench/speed.py --table            measure nothing, write speed.md from speed.json

Every ratio comes from competitors that take turns in one process: it is the median of the ratios
of single rounds. float32. BPTT is this library's or one written by hand in plain JAX, whichever is
faster: layer by layer, everything without memory done for all timesteps at once. Results are merged
row by row into bench/results/speed.json, so a row can be measured again by itself; on another
number of cores into a file of its own, such as speed-1-core.json.

The floor is not a time: bench/floor.py counts, in the compiled programs, what the passes over the
traces and the matrix products cost beyond what they must.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from _timing import RESULTS, merge, pin, provenance, read, say

NAMES = ("carried", "importing", "first_step", "dispatch", "bandwidth", "wide", "online",
         "products", "gradient", "published", "braintrace")  # fmt: skip


def name_of(cores: int) -> str:
    return "speed" if cores == 2 else f"speed-{cores}-core{'s' if cores > 1 else ''}"


def measure(name: str, quick: bool, file: str) -> list[Any]:
    import _against_bptt
    import _against_others
    from _row import timed

    function: Callable = getattr(_against_bptt, name, None) or getattr(_against_others, name)
    say(f"{name}: {function.__doc__}")
    rows, seconds = timed(function, quick)
    if not quick:
        saved = [row._asdict() | {"met": row.met} for row in rows]
        merge(file, name, provenance() | {"seconds": round(seconds, 1), "rows": saved})
    return rows


def table(results: dict[str, Any]) -> str:
    lines = [
        "Ratios are medians over rounds in which the competitors take turns; below, the numbers "
        "behind them.",
        "",
        "| what | measured | bar | met |",
        "|---|---:|---:|---|",
    ]
    behind = []
    for name in (n for n in NAMES if n in results):
        result = results[name]
        for row in result["rows"]:
            sign = ">=" if row["least"] else "<="
            unit = f" {row['unit']}" if row["unit"] else ""
            met = "yes" if row["met"] else "**no**"
            bar = f"{sign} {row['bar']}{unit}"
            if row["bar"] is None:
                met, bar = "", ""
            lines.append(f"| {row['what']} | {row['value']:.3g}{unit} | {bar} | {met} |")
        behind += ["", f"## {name}", "", f"`{result['command']}`: {result['cores']} cores, load "
                   f"{result['load']} at the end, {result['seconds']} s, "
                   + ", ".join(f"{k} {v}" for k, v in result["versions"].items()), ""]  # fmt: skip
        shown = None
        for row in result["rows"]:
            detail = {k: v for k, v in row["detail"].items() if k != "ratio"}
            if detail != shown:
                shown = detail
                behind += [f"- {row['what']}"]
                behind += [f"  - {key}: {_words(value)}" for key, value in detail.items()]
            if "ratio" in row["detail"]:
                behind.append(f"  - ratio: {_words(row['detail']['ratio'])}")
    return "\n".join(lines + behind) + "\n"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        if set(value) == {"median", "min", "max"}:
            return f"{value['median']:g} ({value['min']:g} to {value['max']:g})"
        return ", ".join(f"{key} {_words(v)}" for key, v in value.items())
    return f"{value:,}" if isinstance(value, int) and value is not True else str(
        f"{value:.3g}" if isinstance(value, float) else value
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="ROW", default=NAMES,
                        help=f"rows to measure: {', '.join(NAMES)}")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="small and rough; writes nothing")
    parser.add_argument("--table", action="store_true", help="measure nothing, rewrite the table")
    parser.add_argument("--cores", type=int, default=2, help="cores to run on, default 2")
    options = parser.parse_args()
    if not options.table:
        pin(options.cores)
        for name in options.only:
            measure(name, options.quick, f"{name_of(options.cores)}.json")
    if options.quick:
        return
    results = read(f"{name_of(options.cores)}.json")
    (RESULTS / f"{name_of(options.cores)}.md").write_text(table(results))
    missed = [row["what"] for r in results.values() for row in r["rows"] if not row["met"]]
    print(table(results).split("\n## ")[0])
    print("\n".join(f"not met: {what}" for what in missed) or "every bar is met")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
