"""``rtrl train FILE --target CLASS`` on real streams of classes beside simple methods.

    python bench/classes.py            run what is missing (about two minutes of one core)
    python bench/classes.py --table    only write the table of the runs that exist

The files are what packages ship (vega_datasets, river, the licence of this one), as CSV with the
classes as text, cut to 4,000 rows:

    pip install vega_datasets river pandas

Accuracy and mean cross entropy (nats) of all rows from the first on, of the second half and of the
first hundred. Beside it, written here or in river, each with what was known when the row was told:
the majority so far, the last class, what came after the last class (a Markov chain of counts), and
softmax regression of river at two rates on standardised columns and the last class. The best of
them is chosen in hindsight, for each file, part and measure. A run is a JSON file in
bench/results/classes/.

What mended a first table (cross entropy up to 8% over the best simple method) was chosen on these
files: the product of experts beside their weighted mean, its rate, the regression on levels alone.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RESULTS = Path(__file__).parent / "results" / "classes"
ROWS = 4000
PARTS = ("all", "second half", "first 100")
SURE = 1e-3  # the least probability that a simple method gives a class: cross entropy is finite
WITHIN = 0.005  # of accuracy: less than the chance of some hundreds of rows


class File(NamedTuple):
    """What makes the table (a frame whose last column is the class), and rows ahead."""

    make: Any
    ahead: int


def _weather():
    import pandas as pd  # type: ignore
    import vega_datasets  # type: ignore

    folder = Path(str(vega_datasets.__file__)).parent / "_data"
    return pd.read_csv(folder / "seattle-weather.csv")


def _moves(name: str, column: str):
    """A series of a package, and whether its value went up, down or stayed."""
    import pandas as pd  # type: ignore
    import vega_datasets  # type: ignore

    frame = pd.read_csv(Path(str(vega_datasets.__file__)).parent / "_data" / name)[[column]]
    step = np.sign(frame[column].diff().fillna(0)).astype(int)
    return frame.assign(move=step.map({-1: "down", 0: "same", 1: "up"}))


def _river(name: str):
    import pandas as pd  # type: ignore
    from river import datasets  # type: ignore

    rows = [
        {**{f"x {k}": v for k, v in x.items()}, "class": f"kind {y}"}
        for x, y in getattr(datasets, name)().take(ROWS)
    ]
    return pd.DataFrame(rows)


def _letters():
    """The letters of a text as vowels, consonants and the rest, as Markov counted Onegin's."""
    import pandas as pd  # type: ignore

    text = (Path(__file__).parents[1] / "LICENSE").read_text().lower()
    text = "".join(c if c.isalpha() else " " for c in text)
    kinds = ["rest" if c == " " else "vowel" if c in "aeiouy" else "consonant"
             for c in " ".join(text.split())]  # fmt: skip
    return pd.DataFrame({"letter": kinds})


FILES = {
    "seattle weather": File(_weather, 1),
    "seattle weather, 7 ahead": File(_weather, 7),
    "seattle weather, same day": File(_weather, 0),
    "san francisco, up or down": File(lambda: _moves("sf-temps.csv", "temp"), 1),
    "seattle, up or down": File(lambda: _moves("seattle-temps.csv", "temp"), 1),
    "employment, up or down": File(lambda: _moves("us-employment.csv", "nonfarm"), 1),
    "vowels and consonants": File(_letters, 1),
    "bananas": File(lambda: _river("Bananas"), 0),
    "phishing": File(lambda: _river("Phishing"), 0),
    "image segments": File(lambda: _river("ImageSegments"), 0),
}


class Known(NamedTuple):
    """A table as simple methods take it: numbers, classes from 0, rows ahead."""

    x: np.ndarray
    y: np.ndarray
    ahead: int
    count: int


def known(frame: Any, ahead: int) -> Known:
    columns = frame.iloc[:, :-1].select_dtypes("number")
    values = sorted(set(frame.iloc[:, -1]))
    y = np.array([values.index(v) for v in frame.iloc[:, -1]])
    return Known(columns.to_numpy(float), y, ahead, len(values))


def majority(data: Known) -> np.ndarray:
    def told(counts, t):
        return (counts + 0.5) / (counts + 0.5).sum()

    return _counted(data, told)


def last_class(data: Known) -> np.ndarray:
    """With the share of rows so far in which it was right as its probability."""

    def told(counts, t):
        now, h = data.y[t], data.ahead
        seen = data.y[: t + 1]
        right = (seen[h:] == seen[:-h]).sum() + 0.5 if t >= h else 0.5
        share = right / (max(t + 1 - h, 0) + 1)
        p = np.full(data.count, (1 - share) / (data.count - 1))
        p[now] = share
        return p

    return _counted(data, told) if data.ahead else np.full((len(data.y), data.count), np.nan)


def after_the_last(data: Known) -> np.ndarray:
    table, h = np.full((data.count, data.count), 0.5), data.ahead

    def told(counts, t):
        if t >= h:
            table[data.y[t - h], data.y[t]] += 1
        return table[data.y[t]] / table[data.y[t]].sum()

    return _counted(data, told) if h else np.full((len(data.y), data.count), np.nan)


def _counted(data: Known, told: Any) -> np.ndarray:
    counts, found = np.zeros(data.count), []
    for t, now in enumerate(data.y):
        counts[now] += data.ahead > 0  # known with its row, unless it is what is to be told
        found.append(told(counts, t))
        counts[now] += data.ahead == 0
    return np.array(found)


def softmax_regression(rate: float) -> Any:
    def method(data: Known) -> np.ndarray:
        from river import linear_model, optim, preprocessing  # type: ignore

        scaler = preprocessing.StandardScaler()
        model = linear_model.SoftmaxRegression(optim.SGD(rate))
        given: list[dict] = []
        found = np.full((len(data.y), data.count), np.nan)
        for t, row in enumerate(data.x):
            x = {f"x{i}": v for i, v in enumerate(row) if np.isfinite(v)}
            scaler.learn_one(x)
            x = scaler.transform_one(x)
            if data.ahead:
                x[f"last {data.y[t]}"] = 1.0
            given.append({**x, "one": 1.0})
            if data.ahead and t >= data.ahead:
                model.learn_one(given[t - data.ahead], int(data.y[t]))
            each = model.predict_proba_one(given[t])
            p = np.array([each.get(c, 0.0) for c in range(data.count)])
            found[t] = p / p.sum() if p.sum() else 1 / data.count
            if not data.ahead:
                model.learn_one(given[t], int(data.y[t]))
        return found

    return method


SIMPLE = {
    "majority": majority,
    "last class": last_class,
    "after the last class": after_the_last,
    "softmax regression, rate .01": softmax_regression(0.01),
    "softmax regression, rate .1": softmax_regression(0.1),
}


def figures(told: np.ndarray, data: Known, least: float) -> dict[str, list[float]]:
    """Accuracy and cross entropy of each part, of the predictions whose class came."""
    rows = len(data.y) - data.ahead
    y, told = data.y[data.ahead :], told[:rows]
    p = np.maximum(told[np.arange(rows), y], least)
    right = told.argmax(1) == y
    parts = zip(PARTS, (slice(None), slice(rows // 2, None), slice(100)), strict=True)
    return {part: [float(right[s].mean()), float(-np.log(p[s]).mean())] for part, s in parts}


def ours(frame: Any, ahead: int, folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The probabilities that ``rtrl train`` told and kept, and what it wrote of the run."""
    path = folder / "log.csv"
    frame.to_csv(path, index=False)
    command = [sys.executable, "-m", "rtrl", "train", str(path), "--target", frame.columns[-1],
               "--horizon", str(ahead), "--out", str(folder), "--task", "classify"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, env=dict(os.environ))
    with zipfile.ZipFile(folder / "state.rtrl") as archive:
        leaves = json.loads(archive.read("header.json"))["leaves"]
        place = [leaf["path"] for leaf in leaves].index("['arrays']['predictions']")
        with archive.open(f"{place:05d}.npy") as member:
            told = np.lib.format.read_array(member)
    return told, json.loads((folder / "result.json").read_text())["runs"][0]


def run(name: str) -> None:
    result = RESULTS / f"{''.join(c if c.isalnum() else '-' for c in name)}.json"
    if result.exists():
        return
    frame = FILES[name].make()[:ROWS]
    data = known(frame, FILES[name].ahead)
    with tempfile.TemporaryDirectory() as temporary:
        told, told_of = ours(frame, data.ahead, Path(temporary))
    # What is a class there is sorted as here; a place that no value ever took is left out.
    told = np.concatenate([told[:, : data.count], np.full((data.ahead, data.count), np.nan)])
    simple = {m: figures(f(data), data, SURE) for m, f in SIMPLE.items()
              if data.ahead or "last" not in m}  # fmt: skip
    found = {
        "file": name, "rows": len(data.y), "classes": data.count, "ahead": data.ahead,
        "ours": figures(told, data, 1e-12), "simple": simple, "as it says": told_of["figures"],
        "experts": told_of["experts"],
    }  # fmt: skip
    result.write_text(json.dumps(found, indent=1) + "\n")
    print(name, found["ours"], flush=True)


def best(one: dict[str, Any], part: str, measure: int) -> tuple[str, float]:
    """The simple method that is best: accuracy is 0, cross entropy 1."""
    each = {m: f[part][measure] for m, f in one["simple"].items() if not math.isnan(f[part][1])}
    method = (max, min)[measure](each, key=lambda m: each[m])
    return method, each[method]


def table() -> str:
    lines, worse = [], []
    for title, measure in (("accuracy", 0), ("cross entropy", 1)):
        heads = " | ".join(f"{part}: ours | best simple" for part in PARTS)
        lines += [f"| {title} | rows | classes | {heads} |", "|---" * (3 + 2 * len(PARTS)) + "|"]
        for name in FILES:
            path = RESULTS / f"{''.join(c if c.isalnum() else '-' for c in name)}.json"
            if not path.exists():
                continue
            one, cells = json.loads(path.read_text()), []
            for part in PARTS:
                method, figure = best(one, part, measure)
                mine = one["ours"][part][measure]
                behind = figure - mine if measure == 0 else mine / figure - 1
                bad = behind > (WITHIN if measure == 0 else 0.03)
                mark = "**" if bad else ""
                worse += [(title, name, part, method)] if bad else []
                cells += [f"{mark}{mine:.3f}{mark}", f"{figure:.3f} ({method})"]
            row = f"| {name} | {one['rows']:,} | {one['classes']} | "
            lines.append(row + " | ".join(cells) + " |")
        lines.append("")
    lines.append("Bold: worse than the best simple method by more than half a point of accuracy, "
                 "or 3% of cross entropy.")  # fmt: skip
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
