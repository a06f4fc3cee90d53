"""The demo: a quick run ends with the figures and the picture."""

import contextlib
import io
import re
import struct
import sys

import numpy as np
import pytest

from rtrl.cli import demo
from rtrl.tasks import baselines, santafe


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """What a quick run prints, and the bytes of its picture."""
    folder, printed = tmp_path_factory.mktemp("demo"), io.StringIO()
    with contextlib.redirect_stdout(printed):
        demo.main(["--quick", "--out", str(folder / "new")])
    pictures = [(folder / "new" / name).read_bytes() for name in ("laser.png", "digits.png")]
    return printed.getvalue(), pictures, folder


def test_prints_every_method_and_rule(quick):
    text, _, folder = quick
    for name in ("rtrl", *demo.BASELINES):
        row = re.search(rf"^{re.escape(name)} +(\d\.\d+) +(\d+\.\d) +\d+\.\d *$", text, re.M)
        assert row, f"no row of {name} in {text}"
        assert 0 < float(row[1]) < 1.2
    layer = re.search(r"^RTRL, K=1.*? +\d\.\d+ +(\d\.\d+) +1\.000 *$", text, re.M)
    assert layer and float(layer[1]) > 0.99
    assert "timesteps/s" in text and "Total time" in text
    assert str(folder) in text.replace("\n", "")


def test_learns_more_than_the_last_value(quick):
    """Few samples, but the network already beats persistence by far."""
    text, _, _ = quick
    errors = {}
    for name in ("rtrl", "persistence (last value)"):
        row = re.search(rf"^{re.escape(name)} +(\d\.\d+)", text, re.M)
        assert row
        errors[name] = float(row[1])
    assert errors["rtrl"] < 0.8 * errors["persistence (last value)"]


def test_picture_is_a_png_of_1200_pixels(quick):
    for png in quick[1]:
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", png[16:24])
        assert width == 1200 and 600 <= height <= 1200
        assert len(png) > 30_000  # an empty figure compresses to less


def test_digits_are_named_better_than_by_chance(quick):
    text, _, _ = quick
    shares = {}
    for name in ("rtrl", *demo.FLOORS):
        row = re.search(rf"^{re.escape(name)} +(\d+\.\d)% +\d+\.\d *$", text, re.M)
        assert row, f"no row of {name} in {text}"
        shares[name] = float(row[1])
    assert shares["rtrl"] < 80 < shares["the digit seen most"]


def test_the_floors_of_the_digits_are_online():
    """The answer at an image is that of ridge regression on those before it, and of no other."""
    images, labels = demo.digit_stream(0)
    assert images.shape == (1792, 64) and images.min() == -1 and images.max() == 1
    told = demo.regression(images[:300], labels[:300])
    x = np.column_stack([images[:300], np.ones(300)])
    y = np.eye(10)[labels[:299]] - 0.1
    weights = np.linalg.solve(x[:299].T @ x[:299] + 0.01 * np.eye(65), x[:299].T @ y)
    assert told[299] == (x[299] @ weights).argmax()
    changed = demo.regression(images[:300], np.append(labels[:250], 9 - labels[250:300]))
    np.testing.assert_array_equal(changed[:251], told[:251])
    assert (changed != told).any()
    common = demo.FLOORS["the digit seen most"](images, labels)
    assert common[500] == np.bincount(labels[:500], minlength=10).argmax()


def test_running_error_counts_only_what_was_predicted_in_time():
    ys = santafe(1).ys[:1100]
    wrong_while_held = ys.copy()
    wrong_while_held[: demo.HELD] += 1000
    wrong_while_held[-1] += 1
    running = demo.running_nrmse(wrong_while_held, ys)
    assert running.shape == (1100,)
    assert np.isnan(running[: demo.HELD]).all()
    assert (running[demo.HELD : -1] == 0).all() and running[-1] > 0
    mean = np.full_like(ys, ys[-550:].mean())
    constant = demo.running_nrmse(mean, ys)[-1]
    window = ((ys[-demo.WINDOW :] - mean[0]) ** 2).mean()
    assert constant == pytest.approx(np.sqrt(window / ys[-550:].var()), rel=1e-5)


def test_collapse_finds_the_largest_fall():
    time = np.arange(400)
    series = np.where(time < 250, 1 + time / 100, 0.2) * np.sin(time)
    assert abs(demo.collapse(series) - 250) < 10


def test_out_that_is_a_file_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "taken").touch()
    with pytest.raises(SystemExit) as error:
        demo.main(["--out", str(tmp_path / "taken")])
    assert error.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(SystemExit) as error:
        demo.main([])
    assert error.value.code == 1
    message = capsys.readouterr().err
    assert 'pip install "rtrl[cli,tasks]"' in message and "rich" in message


def test_scores_agree_with_the_baselines():
    stream = santafe(1)
    forecast = baselines.persistence(stream.series(1)[:, None], 1)
    assert demo.second_half_nrmse(forecast, stream.ys) == pytest.approx(0.963, abs=5e-4)
