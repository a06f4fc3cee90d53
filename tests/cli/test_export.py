"""``rtrl export``: a stream goes on in C where the command line left it."""

import subprocess

import numpy as np
import pytest

from rtrl.cli import main

ROWS, BEFORE = 60, 40


def rtrl_(capsys, *arguments):
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    shown = capsys.readouterr()
    return (done.value.code or 0), shown.out, shown.err


def test_a_stream_goes_on_in_c(tmp_path, capsys):
    """Forecasts of rows that come after the export are those of ``rtrl stream --resume``."""
    rng = np.random.default_rng(0)
    time = np.arange(ROWS)
    load = 50 + 10 * np.sin(0.3 * time)
    speed = 200 + 30 * np.sin(0.3 * time + 1) + rng.normal(size=ROWS)
    log, out = tmp_path / "log.csv", tmp_path / "run"
    lines = [f"{a:.3f},{b:.3f}" for a, b in zip(load, speed, strict=True)]
    log.write_text("load,speed\n" + "\n".join(lines) + "\n")
    tiny = ["--width", 4, "--hidden", 4, "--warmup", 10, "--horizon", 3, "--out", out]
    stream = ["stream", log, "--target", "speed", *tiny]
    assert rtrl_(capsys, *stream, "--steps", BEFORE)[0] == 0
    code, shown, _ = rtrl_(capsys, "export", out, "--out", tmp_path / "c", "--name", "motor")
    assert code == 0 and "motor.h" in shown
    code, shown, _ = rtrl_(capsys, *stream, "--resume")
    assert code == 0
    expected = [float(line.split(",")[1]) for line in shown.splitlines()]
    assert len(expected) == ROWS - BEFORE

    subprocess.run(["make", "-s", "-C", tmp_path / "c"], check=True)
    rows = "".join(f"{line},{line.split(',')[1]}\n" for line in lines[BEFORE:])
    done = subprocess.run(
        [tmp_path / "c" / "motor"], input=rows, capture_output=True, text=True, check=True
    )
    found = [float(line) for line in done.stdout.splitlines()]
    np.testing.assert_allclose(found, expected, rtol=1e-4)  # targets are 200 in size


def test_mistakes_are_one_line_that_names_the_argument(tmp_path, capsys):
    log = tmp_path / "log.csv"
    log.write_text("a,b\n" + "1,2\n" * 30)
    train = ["stream", log, "--target", "b", "--width", 3, "--hidden", 3, "--out", tmp_path]
    assert rtrl_(capsys, *train, "--chunk", 4)[0] == 0
    wrong = {
        "--chunk 1": ("export", tmp_path, "--out", tmp_path / "c"),
        "--name": ("export", tmp_path, "--out", tmp_path / "c", "--name", "a b"),
        "STATE": ("export", log, "--out", tmp_path / "c"),
        "--out": ("export", tmp_path, "--out", log),
    }
    for named, arguments in wrong.items():
        code, out, err = rtrl_(capsys, *arguments)
        assert code == 2 and out == "" and named in err and "Traceback" not in err, named
