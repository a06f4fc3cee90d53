"""Scores, tables and files of results."""

import io
import json
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest

from rtrl.cli import (
    _class_score,
    _data,
    _report,
    _score,
)


def test_the_score_stays_small_and_survives_a_file():
    rng = np.random.default_rng(0)
    ys, ps = rng.normal(size=(2, 5000, 1))
    whole, parts = _score.Score(2, 100), _score.Score(2, 100)
    given = np.where(np.arange(5000)[:, None] < 2, np.nan, ys)
    whole.add(ps, given)
    first = 0
    for count in (1, 1, 1, 7, 500, 1, 724, 3000, 765):  # however rows are cut into blocks
        rows = slice(first, first + count)
        parts.add(ps[rows], given[rows])
        first += count
        if first == 1235:
            saved = {k: np.array(v) for k, v in parts.arrays().items()}
            parts = _score.Score.restore(2, 100, saved, list(parts.history), parts.every)
    assert first == 5000
    early = _score.Score(2, 100)
    early.add(ps[:5], given[:5])
    assert len(early.pairs()) == 3  # nothing has come for the first two
    assert whole.recent() == _data.nrmse(ps[4898:4998], ys[4900:]) == parts.recent()
    assert whole.overall() == pytest.approx(_data.nrmse(ps[:4998], ys[2:]))
    assert whole.overall() == parts.overall() and whole.last_value() == parts.last_value()
    assert whole.history == parts.history and len(whole.history) <= _score.POINTS


def test_the_table_ranks_results_among_floors():
    from rich.console import Console

    printed = io.StringIO()
    console = Console(file=printed, width=80)
    ours, floors = {"ours": 0.9, "lost": float("nan")}, {"chance": 0.1, "flat": 0.97}
    _report.print_table(console, "title", "accuracy", ours, floors, {})
    order = re.findall(r"(?m)^(ours|lost|chance|flat)", printed.getvalue())
    assert order == ["flat", "ours", "chance", "lost"]


def test_results_are_json_whatever_the_figures(tmp_path):
    _report.write_json(tmp_path / "r.json", {"a": float("nan"), "b": [float("inf"), 1.5]})
    assert json.loads((tmp_path / "r.json").read_text()) == {"a": None, "b": [None, 1.5]}
    assert os.listdir(tmp_path) == ["r.json"]


def test_figures_of_classes_are_those_of_the_rows_however_they_are_cut():
    rng = np.random.default_rng(0)
    rows, h = 900, 3
    ys = rng.integers(0, 3, rows).astype(float)
    ys[rng.random(rows) < 0.1] = np.nan
    given = np.where(np.arange(rows) < h, np.nan, ys)
    told = rng.dirichlet(np.ones(3), size=(rows, 2))
    meant = rng.random(rows) < 0.95

    def out(part):
        return SimpleNamespace(
            probabilities=told[part, 0].copy(), experts=told[part, 1:].copy(),
            weights=np.ones((len(told[part]), 1)),
        )  # fmt: skip

    whole = _class_score.ClassScore(("one",), 3, h, 100)
    parts = _class_score.ClassScore(("one",), 3, h, 100)
    whole.add(out(slice(None)), given, meant)
    for first, last in ((0, 1), (1, 2), (2, 400), (400, 401), (401, rows)):
        part = slice(first, last)
        parts.add(out(part), given[part], meant[part])
        if last == 400:
            saved = {k: np.array(v) for k, v in parts.arrays().items()}
            fresh = _class_score.ClassScore(("one",), 3, h, 100)
            parts = fresh.restore(saved, list(parts.history), parts.every)
    known = [t for t in range(h, rows) if np.isfinite(given[t]) and meant[t - h]]
    right = np.mean([told[t - h, 0].argmax() == ys[t] for t in known])
    surprise = -np.mean([np.log(told[t - h, 1, int(ys[t])]) for t in known])
    last, same = np.nan, []
    filled = [last := y if np.isfinite(y) else last for y in given]
    same = np.mean([filled[t - h] == ys[t] for t in known])
    for score in (whole, parts):
        assert score.accuracy()[""] == pytest.approx(right)
        assert score.cross_entropy()["one"] == pytest.approx(surprise)
        assert score.last_class() == pytest.approx(same)
        assert score.history == whole.history and score.recent() == whole.recent()
