"""Generated files in every dialect, with the truth beside them; and bytes that are no files."""

import bz2
import gzip
import io
import math
import random
from datetime import date, timedelta
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_files import NAN, ODD

from rtrl import tables

fuzz = partial(settings, deadline=None, derandomize=True)


class Dialect(NamedTuple):
    """How a generated file is written."""

    separator: str
    decimal: str
    thousands: str
    header: bool
    quoted: bool
    missing: str
    newline: str
    encoding: str
    packed: str


LOCALES = st.sampled_from([(".", ","), (".", "'"), (".", " "), (",", "."), (",", " ")])
DIALECTS = st.builds(
    lambda separator, marks, *rest: Dialect(separator, *marks, *rest),
    st.sampled_from(",;\t|"), LOCALES, st.booleans(), st.booleans(),
    st.sampled_from(["", "NA", "null", ".", "-", "#N/A", "\\N"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
    st.sampled_from(["", "", "gzip", "bzip2"]),
)  # fmt: skip


def number(v: float, d: Dialect, digits: int = 2, thousands: bool = False) -> str:
    text = f"{v:,.{digits}f}" if thousands else f"{v:.{digits}f}"
    return text.replace(",", "\0").replace(".", d.decimal).replace("\0", d.thousands)


def amounts(rng: random.Random, n: int, low: float, high: float, digits: int = 2) -> list[float]:
    # The first one is large, so that there is a mark of thousands, and ends in no zero.
    first = round(high - 1 / 8, digits) if digits else round(high) - 1
    return [float(first), *(round(rng.uniform(low, high), digits) for _ in range(n - 1))]


def _dates(form: str) -> Any:
    def make(rng: random.Random, n: int, d: Dialect):
        start = date(2019, 1, 1) + timedelta(rng.randrange(1500))
        return [(start + timedelta(t)).strftime(form) for t in range(n)], {}

    return make


def _words(rng: random.Random, n: int, d: Dialect):
    words = ["sun", "rain", "snow"][: rng.choice([2, 3])] if not d.quoted else ["a, b", "c;\td|e"]
    drawn = [words[i % len(words)] for i in rng.sample(range(10 * n), n - len(words))] + words
    return drawn, {f"={w}": [float(w == v) for v in drawn] for w in words}


def _numbers(form: Any, low: float, high: float, digits: int = 2) -> Any:
    def make(rng: random.Random, n: int, d: Dialect):
        values = amounts(rng, n, low, high, digits)
        return [form(v, d) for v in values], {"": values}

    return make


def _bracket(v: float, d: Dialect) -> str:
    return f"({number(-v, d, 2, True)})" if v < 0 else number(v, d, 2, True)


def _booleans(rng: random.Random, n: int, d: Dialect):
    yes, no = rng.choice([("true", "false"), ("Yes", "No"), ("ON", "off")])
    values = [True, False, *(rng.random() < 0.5 for _ in range(n - 2))]
    return [yes if v else no for v in values], {"": list(map(float, values))}


def _epochs(per_second: int) -> Any:
    def make(rng: random.Random, n: int, d: Dialect):
        start = rng.randrange(1_000_000_000, 1_900_000_000)
        return [str((start + 60 * t) * per_second) for t in range(n)], {}

    return make


def _counter(rng: random.Random, n: int, d: Dialect):
    values = list(np.cumsum([rng.randrange(1, 99) for _ in range(n)] + [100])[:n].tolist())
    if len(set(np.diff(values))) == 1:
        values[-1] += 1
    return list(map(str, values)), {"": [NAN, *np.diff(values).tolist()]}


# What a column may hold: its kind, and what makes its fields and the numbers that are right.
KINDS: dict[str, tuple[str, Any]] = {
    "plain": ("number", _numbers(number, -99, 99)),
    "whole": ("number", _numbers(lambda v, d: f"{v:.0f}", -99, 99, 0)),
    "tiny": ("number", _numbers(lambda v, d: f"{v:.17e}".replace(".", d.decimal), 1e-9, 9.99, 20)),
    "thousands": ("number", _numbers(lambda v, d: number(v, d, 0, True), 1, 5e6, 0)),
    "thousands and decimals": ("number", _numbers(lambda v, d: number(v, d, 2, True), -9e6, 9e6)),
    "dollars": ("money", _numbers(lambda v, d: "$" + number(v, d, 2, True), 1, 5e6)),
    "euros": ("money", _numbers(lambda v, d: number(v, d) + " €", 1, 500)),
    "percent": ("percentage", _numbers(lambda v, d: number(v, d) + "%", 0, 99)),
    "unit": ("number", _numbers(lambda v, d: number(v, d) + " °C", -20, 40)),
    "accounting": ("number", _numbers(_bracket, -5e4, 5e4)),
    "class": ("class", _words),
    "boolean": ("boolean", _booleans),
    "iso": ("time", _dates("%Y-%m-%d")),
    "day first": ("time", _dates("%d/%m/%Y")),
    "month first": ("time", _dates("%m/%d/%Y")),
    "short": ("time", _dates("%d.%m.%y")),
    "named": ("time", _dates("%B %d, %Y")),
    "epoch": ("time", _epochs(1)),
    "epoch in ms": ("time", _epochs(1000)),
    "constant": ("constant", lambda rng, n, d: (["7"] * n, {})),
    "empty": ("empty", lambda rng, n, d: ([d.missing] * n, {})),
    "counter": ("counter", _counter),
}


class Generated(NamedTuple):
    """A file and its truth."""

    content: bytes
    kinds: list[str]
    values: dict[str, list[float]]


@st.composite
def generated(draw) -> Generated:
    d: Dialect = draw(DIALECTS)
    chosen = draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=4))
    if not chosen and d.decimal == ",":  # without a name 1,5 alone may be two columns
        d = d._replace(header=True)
    rng = random.Random(draw(st.integers(0, 2**32)))
    n = rng.randrange(25, 45)
    kinds, names, cells, values = ["number"], ["température"], [], {}
    targets = amounts(rng, n, -99, 99)
    cells.append([number(v, d) for v in targets])
    for place, what in enumerate(chosen, 1):
        kind, make = KINDS[what]
        fields, truth = make(rng, n, d)
        if kind in ("number", "money", "percentage") and rng.random() < 0.5:
            for t in rng.sample(range(2, n), 3):
                fields[t], truth[""][t] = d.missing, NAN
        name = f"n{place}" if d.header else f"column {place}"
        values |= {name + more: numbers for more, numbers in truth.items()}
        cells.append(fields)
        kinds.append(kind)
        names.append(name)
    values[names[0] if d.header else "column 0"] = targets

    def cell(field: str) -> str:
        needed = any(mark in field for mark in ',;\t|"') and d.separator in field
        needed = needed or (len(names) == 1 and field == "")
        return f'"{field}"' if needed or (d.quoted and rng.random() < 0.5) else field

    rows = [names] * d.header + [list(row) for row in zip(*cells, strict=True)]
    text = d.newline.join(d.separator.join(map(cell, row)) for row in rows) + d.newline
    content = text.encode(d.encoding)
    content = {"": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[d.packed](content)
    return Generated(content, kinds, values)


def check_the_truth_is_read(file: Generated) -> None:
    table = tables.read(io.BytesIO(file.content), 0, hold=False, calendar=False)
    rows = list(table)
    assert [p for p in table.problems if not p.kept] == []
    assert [column.kind for column in table.columns] == file.kinds
    given = dict(zip(table.features, np.array([row.x for row in rows]).T, strict=True))
    assert set(given) == set(file.values)
    for name, expected in file.values.items():
        np.testing.assert_array_equal(given[name], expected, err_msg=name)


@pytest.mark.core
@fuzz(max_examples=100)
@given(generated())
def test_every_dialect_is_read_right(file):
    check_the_truth_is_read(file)


@pytest.mark.slow
@fuzz(max_examples=3000)
@given(generated())
def test_every_dialect_is_read_right_at_length(file):
    check_the_truth_is_read(file)


SPOILS = st.lists(
    st.tuples(
        st.sampled_from(["change", "insert", "remove", "repeat", "end"]),
        st.floats(0, 1, exclude_max=True),
        st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b'"', b",", b"\n", b"\r"])),
    ),
    max_size=6,
)


def spoil(content: bytes, how: list) -> bytes:
    for what, where, by in how:
        at = math.floor(where * (len(content) + 1))
        if what == "change":
            content = content[:at] + by + content[at + len(by) :]
        elif what == "insert":
            content = content[:at] + by + content[at:]
        elif what == "remove":
            content = content[:at] + content[at + 9 :]
        elif what == "repeat":
            content = content[:at] + content[at // 2 :]
        else:
            content = content[:at]
    return content


def check_any_bytes_end_well(content: bytes) -> None:
    try:
        table = tables.read(io.BytesIO(content), 0)
    except ValueError as error:  # in words, naming what is wrong
        assert str(error).startswith(("source: ", "target: ", "features: "))
        return
    rows = list(table)
    assert all(row.x.shape == (table.in_size,) and row.x.dtype == np.float64 for row in rows)
    assert not any(np.isinf(row.x).any() for row in rows)
    assert table.rows == len(rows) and tables.describe(table)


@fuzz(max_examples=100)
@given(st.one_of(st.binary(max_size=80), st.builds(
    spoil, st.sampled_from([odd.content for odd in ODD.values()]), SPOILS)))  # fmt: skip
def test_any_bytes_end_well(content):
    check_any_bytes_end_well(content)


@pytest.mark.slow
@fuzz(max_examples=5000)
@given(st.one_of(st.binary(max_size=80), st.builds(
    spoil, st.sampled_from([odd.content for odd in ODD.values()]), SPOILS)))  # fmt: skip
def test_any_bytes_end_well_at_length(content):
    check_any_bytes_end_well(content)
