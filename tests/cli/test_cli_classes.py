"""``rtrl stream`` and ``rtrl train`` on a target that is text."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import leaves, result, rtrl_, with_input

from rtrl.cli import _state

SKIES = ("fog", "rain", "sun")
PREDICTIONS = "['arrays']['predictions']"
ASKED = ["--target", "sky", "--probabilities"]
AFTER = np.array([[0.4, 0.4, 0.2], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]])


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """A chain of three skies, and a temperature that goes with them; a few fields are empty."""
    rng = np.random.default_rng(0)
    path, sky = tmp_path_factory.mktemp("classes") / "sky.csv", 0
    lines = ["temp,sky"]
    for t in range(400):
        sky = rng.choice(3, p=AFTER[sky])
        lines.append(f"{5 * sky + rng.normal():.2f},{'' if t in (50, 51) else SKIES[sky]}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def done(log, tmp_path_factory):
    """A run on the whole file, with its folder."""
    folder = tmp_path_factory.mktemp("out")
    return rtrl_("stream", log, "--target", "sky", "--out", folder), folder


@pytest.fixture(scope="module")
def probable(log, tmp_path_factory):
    """The same with probabilities."""
    folder = tmp_path_factory.mktemp("probable")
    return rtrl_("stream", log, *ASKED, "--out", folder), folder


def test_text_is_classified_beside_its_floors_and_said_so(log, done):
    run, folder = done
    assert run.code == 0 and "is text, so it is classified" in run.err
    rows = list(csv.DictReader(io.StringIO(run.out)))
    assert [int(row["row"]) for row in rows] == list(range(1, 401))
    told = [row["sky +1"] for row in rows]
    assert set(told) <= set(SKIES)
    truth = [row["sky"] for row in csv.DictReader(io.StringIO(log.read_text()))]
    known = [(a, b) for a, b in zip(told, truth[1:], strict=False) if b]
    figures = result(folder)["runs"][0]["figures"]
    assert figures["accuracy"] == pytest.approx(np.mean([a == b for a, b in known]))
    floors = result(folder)["floors"]
    last, before = [], ""
    for now, after in zip(truth, truth[1:], strict=False):
        before = now or before
        last += [before == after] if after else []
    assert floors["last class"] == pytest.approx(np.mean(last))
    assert floors["majority class"] < figures["accuracy"]
    assert any("logistic" in name for name in floors) and "cross entropy" in run.err
    assert figures["cross_entropy"] < 0.95  # log 3 = 1.1; of the law itself .83


def test_probabilities_on_request_and_resumed_bit_for_bit(log, done, probable, tmp_path):
    run, (whole, folder) = done[0], probable
    table = [line.split(",") for line in whole.out.splitlines()]
    assert table[0] == ["row", *(f"sky={sky} +1" for sky in SKIES)]
    each = np.array([row[1:] for row in table[1:]], float)
    np.testing.assert_allclose(each.sum(1), 1, atol=1e-6)
    best = [SKIES[place] for place in each.argmax(1)]
    assert best == [line.split(",")[1] for line in run.out.splitlines()[1:]]
    first = rtrl_("stream", log, *ASKED, "--steps", 150, "--out", tmp_path / "parts")
    second = rtrl_("stream", log, "--out", tmp_path / "parts", "--resume")
    assert first.out + second.out == whole.out
    piped = with_input(log.read_text(), "stream", "-", *ASKED, "--out", tmp_path / "piped",
                       "--look", 50)  # fmt: skip
    assert piped.out == whole.out
    assert _state.read_about(folder / "state.rtrl")["setup"]["learner"] == "classifier"
    inspected = rtrl_("inspect", folder)
    assert inspected.code == 0 and "after the last class" in inspected.out


def test_train_classifies_too_from_the_same_rows_and_resumes(log, probable, tmp_path):
    asked = ["train", log, "--target", "sky", "--out"]
    trained = rtrl_(*asked, tmp_path / "whole")
    assert trained.code == 0 and "is text, so it is classified" in trained.err
    with np.load(tmp_path / "whole" / "state.rtrl") as archive:
        header = json.loads(bytes(archive["header.json"]))
        names = [leaf["path"] for leaf in header["leaves"]]
        told = archive[f"{names.index(PREDICTIONS):05d}"]
    rows = [row["sky"] for row in csv.DictReader(io.StringIO(log.read_text()))]
    known = [(p, SKIES.index(sky)) for p, sky in zip(told, rows[1:], strict=True) if sky]
    second = known[len(known) - sum(bool(sky) for sky in rows[1:][199:]) :]
    (run,) = result(tmp_path / "whole")["runs"]
    figures, floors = run["figures"], result(tmp_path / "whole")["floors"]
    assert figures["accuracy"] == pytest.approx(np.mean([p.argmax() == k for p, k in second]))
    assert figures["cross_entropy"] == pytest.approx(-np.mean([np.log(p[k]) for p, k in second]))
    same = [a == b for a, b in zip(rows[199:], rows[200:], strict=False)]
    assert floors["last class"] == pytest.approx(np.mean(same))
    assert floors["majority class"] < figures["accuracy"] and "rate 0.05" in str(floors)
    assert (tmp_path / "whole" / "curve.png").exists()
    # The live command tells the same of the same rows, bit for bit.
    each = [row.split(",")[1:] for row in probable[0].out.splitlines()[1:400]]
    np.testing.assert_array_equal(told, np.array(each, float))
    assert rtrl_(*asked, tmp_path / "parts", "--steps", 130).code == 0
    half = result(tmp_path / "parts")["runs"][0]
    assert half["steps"] == 130 and half["experts"]["after the last class"]["accuracy"] > 0.3
    assert rtrl_(*asked, tmp_path / "parts", "--resume").code == 0
    assert leaves(tmp_path / "parts") == leaves(tmp_path / "whole")
    assert result(tmp_path / "parts")["runs"][0]["experts"] == run["experts"]


def test_it_can_be_overruled_and_mistakes_are_named(log, tmp_path):
    out = ["--out", tmp_path]
    for arguments, named in (
        (["--target", "temp", "--task", "classify"], "--task"),
        (["--target", "sky", "--target", "temp", "--task", "classify"], "--task"),
        (["--target", "sky", "--task", "guess"], "--task"),
        (["--target", "sky", "--task", "classify", "--rule", "RTRL"], "--rule"),
        (["--target", "temp", "--probabilities"], "--probabilities"),
        (["--target", "sky", "--target", "temp"], "--target"),  # not forecast without a word
    ):
        refused = rtrl_("stream", log, *arguments, *out)
        assert refused.code == 2, refused.err
        assert refused.err.strip().splitlines()[-1].startswith(f"rtrl: {named}: ")
        if "--probabilities" not in arguments:
            again = rtrl_("train", log, *arguments, *out)
            assert again.code == 2 and again.err.splitlines()[-1] == refused.err.splitlines()[-1]
    assert "run once for each" in refused.err and "--task forecast" in refused.err
    assert "column of a file" in rtrl_("train", "laser", "--task", "classify", *out).err
