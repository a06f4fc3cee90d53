"""Files as a new user would give them: ``rtrl stream FILE --target COLUMN``, nothing chosen.

    python bench/as_a_stranger.py            run what is missing
    python bench/as_a_stranger.py --table    only write the table of the runs that exist

The files are those of an early report on this command line, as the packages ship them (dates, text
and gaps included), and two that are made: a sine around 100, a law that turns its sign halfway.
NRMSE of all rows, of the second half and of the first hundred rows, of what the command printed;
beside it the best simple method of bench/streams.py, chosen in hindsight for each file and column.
The packages are those of bench/streams.py. A run is one JSON file in bench/results/as_a_stranger/.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _stream_series import Series
from streams import PARTS, SIMPLE, figures, simple

RESULTS = Path(__file__).parent / "results" / "as_a_stranger"


class File(NamedTuple):
    """A file of a package, what is to be forecast, and its season by the calendar."""

    package: str
    path: str
    targets: tuple[str, ...]
    ahead: int
    period: int | None = None


FILES = {
    "laser, 5 ahead": File("laser", "", ("intensity",), 5),
    "sf-temps": File("vega_datasets", "_data/sf-temps.csv", ("temp",), 1, 24),
    "seattle-temps, 24 ahead": File("vega_datasets", "_data/seattle-temps.csv", ("temp",), 24, 24),
    "co2": File("statsmodels", "datasets/co2/co2.csv", ("co2",), 1, 52),
    "seattle-weather": File("vega_datasets", "_data/seattle-weather.csv", ("temp_max",), 1, 365),
    "seattle-weather, both": File(
        "vega_datasets", "_data/seattle-weather.csv", ("temp_max", "temp_min"), 1, 365
    ),
    "us-employment": File("vega_datasets", "_data/us-employment.csv", ("nonfarm",), 1, 12),
    "macrodata": File("statsmodels", "datasets/macrodata/macrodata.csv", ("unemp",), 1, 4),
    "sunspots": File("statsmodels", "datasets/sunspots/sunspots.csv", ("SUNACTIVITY",), 1),
    "sine around 100": File("sine", "", ("y",), 1),
    "a law that turns its sign": File("law", "", ("y",), 1),
}


def made(name: str, folder: Path) -> Path:
    """A file that no package ships as CSV."""
    path, rng = folder / f"{name}.csv", np.random.default_rng(0)
    if name == "laser":
        from rtrl.tasks import santafe

        columns = {"intensity": santafe(1).series(1)[:4000]}
    elif name == "sine":
        columns = {"y": 100 + np.sin(np.arange(2000) / 8) + 0.05 * rng.normal(size=2000)}
    else:
        x, y = rng.normal(size=4000), np.zeros(4000)
        for t in range(1, 4000):
            y[t] = 0.5 * y[t - 1] + (1 if t < 2000 else -1) * x[t - 1] + 0.1 * rng.normal()
        columns = {"x": x, "y": y}
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def path_of(file: File, folder: Path) -> Path:
    if not file.path:
        return made(file.package, folder)
    return Path(str(__import__(file.package).__file__)).parent / file.path


def run(name: str) -> None:
    result = RESULTS / f"{name.replace(' ', '-').replace(',', '')}.json"
    if result.exists():
        return
    import pandas as pd  # type: ignore

    file = FILES[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = path_of(file, folder)
        targets = [part for target in file.targets for part in ("--target", target)]
        horizon = ["--horizon", str(file.ahead)] if file.ahead != 1 else []
        out = ["--to", str(folder / "told.csv"), "--out", str(folder)]
        command = ["rtrl", "stream", path.name, *targets, *horizon]
        subprocess.run(
            [sys.executable, "-m", "rtrl", "stream", str(path), *targets, *horizon, *out],
            check=True, capture_output=True, env=dict(os.environ),
        )  # fmt: skip
        told = np.loadtxt(folder / "told.csv", delimiter=",", skiprows=1, ndmin=2)
        speed = json.loads((folder / "result.json").read_text())["runs"][0]["figures"]
        frame = pd.read_csv(path)
    numbers = frame.select_dtypes("number")
    x = numbers.to_numpy(float)
    places = tuple(list(numbers.columns).index(target) for target in file.targets)
    # What stands in the file: rows that fill gaps in its times are not printed.
    series = Series(x, places, file.ahead, file.period)
    predictions = np.full((len(x), len(places)), np.nan)
    predictions[told[:, 0].astype(int) - 1] = told[:, 1:]
    each = {m: figures(p, series) for m in SIMPLE if (p := simple(m, series)) is not None}
    found = {
        "command": " ".join(command), "rows": len(x), "ours": figures(predictions, series),
        "simple": each, "rows a second": speed["rows_per_second"],
    }  # fmt: skip
    result.write_text(json.dumps(found, indent=1) + "\n")
    print(name, found["ours"], flush=True)


def table() -> str:
    head = " | ".join(f"{part}: ours | best simple | over" for part in PARTS)
    lines = [f"| command | rows | {head} |", "|---" * (2 + 3 * len(PARTS)) + "|"]
    overs = []
    for name in FILES:
        path = RESULTS / f"{name.replace(' ', '-').replace(',', '')}.json"
        if not path.exists():
            continue
        one = json.loads(path.read_text())
        cells = []
        for part in PARTS:
            known = {m: f[part] for m, f in one["simple"].items() if f[part] == f[part]}
            best = min(known, key=lambda m: known[m])
            over = one["ours"][part] / known[best]
            cells += [f"{one['ours'][part]:.3f}", f"{known[best]:.3f} ({best})", f"{over:.2f}"]
        overs.append([float(cells[i]) for i in (2, 5, 8)])
        lines.append(f"| `{one['command']}` | {one['rows']:,} | " + " | ".join(cells) + " |")
    means = np.exp(np.log(np.array(overs)).mean(0))
    worst = np.max(overs, 0)
    for title, row in (("geometric mean", means), ("worst", worst)):
        lines.append(f"| {title} | | " + " | ".join(f"| | {value:.2f}" for value in row) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in () if given.table else FILES:
        run(name)
    RESULTS.with_suffix(".md").write_text(table())
    print(table())


if __name__ == "__main__":
    main()
