"""What a gap in the times, a missing value and the calendar should do, on real series.

Hourly, daily, weekly and monthly series that packages ship, cut short. Gaps are made into them
(stretches of rows taken out), or values are taken out one by one. Each is learned in one pass by
what `rtrl stream` uses, every target predicted before it is revealed. The error is that of rows
whose target lies on the same side of the gap, and of the 24 first rows behind a gap by themselves:
RMSE over the deviation of the series.

    python bench/table_times.py --output bench/results/table_times.json

It needs vega_datasets and statsmodels (packages of their own, in no extra of this project).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore

import rtrl
from rtrl import tables

CHOOSING = ("sf-temps", "seattle-weather", "co2")
REPORTED = ("seattle-temps", "elnino", "macrodata", "sunspots")
AFTER = 24  # rows behind a gap


def load(name: str) -> pd.Series:
    """A series with evenly spaced times."""
    if name in ("sf-temps", "seattle-temps", "seattle-weather"):
        from vega_datasets import data  # type: ignore

        frame = pd.read_csv(data.sf_temps.filepath if name == "sf-temps" else
                            getattr(data, name.replace("-", "_")).filepath)  # fmt: skip
        value = "temp_max" if name == "seattle-weather" else "temp"
        times = pd.to_datetime(frame["date"])
        series = pd.Series(frame[value].to_numpy(float), times)
        return series[~series.index.duplicated()].iloc[:1500]
    from statsmodels import datasets  # type: ignore

    if name == "co2":
        return datasets.co2.load_pandas().data["co2"].interpolate().iloc[:1500]
    if name == "sunspots":
        values = datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(float)
        return pd.Series(values, pd.date_range("1700", periods=len(values), freq="YS"))
    if name == "elnino":
        months = datasets.elnino.load_pandas().data.iloc[:, 1:].to_numpy(float).ravel()
        return pd.Series(months, pd.date_range("1950", periods=len(months), freq="MS"))
    values = datasets.macrodata.load_pandas().data["unemp"].to_numpy(float)
    return pd.Series(values, pd.date_range("1959", periods=len(values), freq="QS"))


def with_gaps(series: pd.Series, rng: np.random.Generator) -> pd.Series:
    """Stretches of 2 to 30 rows taken out, about a fifth of all, none in the first sixth."""
    keep = np.ones(len(series), bool)
    at = max(len(series) // 6, 60)
    while at < len(series) - 30:
        length = int(rng.integers(2, 31))
        keep[at : at + length] = False
        at += length + int(rng.integers(40, 160))
    return series[keep]


LEARNERS: dict = {}


def learner_for(table: tables.Table, seed: int):
    import jax

    model = rtrl.SequenceModel(
        table.in_size, 1, 16, 1, lambda size, key: rtrl.cells.LRU(size, 32, key=key),
        key=jax.random.key(seed), norm=None, glu="half1",
    )  # fmt: skip
    inputs = tuple(bool(not s) for s in table.scaled)
    if inputs not in LEARNERS:  # the same object, so that it is compiled once
        kalman = rtrl.kalman()
        inner = rtrl.OnlineLearner(lambda p, y: 0.5 * ((p - y) ** 2).sum(), kalman)
        LEARNERS[inputs] = rtrl.Standardized(inner, inputs=inputs, warmup=50)
    learner = LEARNERS[inputs]
    return learner, learner.init(model)


def errors(series: pd.Series, horizon: int, seed: int, **options):
    """Errors of the rows that can be scored: all, and those soon behind a gap."""
    pairs = zip(pd.DatetimeIndex(series.index), series.tolist(), strict=True)
    text = ["time,value", *(f"{t.isoformat()},{v!r}" for t, v in pairs)]
    table = tables.read(text, "value", horizon=horizon, **options)
    learner, state = learner_for(table, seed)
    kinds, targets, predictions = [], [], []

    def rows():
        since = AFTER
        for row in table:
            long = any(p.line == table.line for p in table.problems[-1:]) and not table.filled
            since = 0 if long else since + (not table.filled)
            kinds.append(-1 if table.filled else since)
            targets.append(np.nan if row.y is None else row.y[0])
            yield row

    for _, out in learner.stream(state, rows(), chunk=1, delay=horizon):
        predictions.append(float(out.prediction[0]))
    since = np.array(kinds[horizon:])
    error = np.array(predictions[: -horizon or None]) - np.array(targets[horizon:])
    error[np.arange(len(error)) < len(series) // 6] = np.nan  # the beginning is another question
    inside = (since >= horizon) & np.isfinite(error)  # made on this side of the gap
    deviation = series.std()
    soon = inside & (since < AFTER + horizon) & (np.arange(len(error)) > 60)
    rmse = [np.sqrt(np.mean(error[which] ** 2)) / deviation for which in (inside, soon)]
    return [float(r) for r in rmse]


def rows_of(names, seeds):
    rng_of = lambda name, seed: np.random.default_rng([seed, len(name)])  # noqa: E731
    for name in names:
        whole = load(name)
        for horizon in (1, 3):
            for seed in range(seeds):
                gappy = with_gaps(whole, rng_of(name, seed))
                for gaps in tables.GAPS:
                    for elapsed in (False, True) if gaps == "hold" else (False,):
                        found = errors(
                            gappy, horizon, seed, gaps=gaps, elapsed=elapsed, calendar=False
                        )
                        label = gaps + (", elapsed" if elapsed else "")
                        yield dict(what="gaps", series=name, horizon=horizon, seed=seed,
                                   option=label, all=found[0], after=found[1])  # fmt: skip
                holes = whole.copy()
                holes[rng_of(name, seed).random(len(whole)) < 1 / 7] = np.nan
                for hold in (False, True):
                    found = errors(holes, horizon, seed, hold=hold, calendar=False)
                    yield dict(what="missing", series=name, horizon=horizon, seed=seed,
                               option="last value" if hold else "NaN", all=found[0])  # fmt: skip
                for calendar in (False, True):
                    found = errors(whole, horizon, seed, calendar=calendar)
                    yield dict(what="calendar", series=name, horizon=horizon, seed=seed,
                               option="with" if calendar else "without", all=found[0])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--series", default=",".join((*CHOOSING, *REPORTED)))
    given = parser.parse_args()
    found = []
    for row in rows_of(given.series.split(","), given.seeds):
        found.append(row)
        print(row, flush=True)
        if given.output:
            given.output.write_text(json.dumps({"chosen_on": CHOOSING, "rows": found}, indent=1))


if __name__ == "__main__":
    main()
