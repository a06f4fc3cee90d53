"""``rtrl stream``: rows in, predictions out, whatever happens in between."""

import os
import re
import signal

import numpy as np
import pytest
from command_line import FORECAST, PNG, SMALL, log_file, result, rtrl_, start, with_input

from rtrl import tables
from rtrl.cli import (
    _data,
    _state,
)


def test_sigterm_at_a_random_row_of_a_pipe_and_resuming_gives_one_run(tmp_path):
    """Also: every prediction comes before the next row is there, so that it lives in a pipe."""
    log = log_file(tmp_path)
    whole = rtrl_("stream", log, *SMALL, "--out", tmp_path / "whole")
    assert whole.code == 0 and whole.out.startswith("row,speed +3\n1,")
    lines = log.read_text().splitlines(keepends=True)
    rows = int(np.random.default_rng(os.getpid()).integers(5, 150))

    process = start("stream", "-", *SMALL, "--out", tmp_path / "parts")
    assert process.stdin and process.stdout
    got = []
    process.stdin.write(lines[0])
    for line in lines[1:]:
        process.stdin.write(line)
        process.stdin.flush()
        if line.startswith("oops"):
            continue
        got += [process.stdout.readline()] if got else [process.stdout.readline() for _ in "hr"]
        if len(got) == rows + 1:
            break
    process.send_signal(signal.SIGTERM)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 0 and rest == "", rows
    assert f"Stopped; the state after row {rows} is in" in err and "--resume" in err
    assert "Traceback" not in err and ("line 22" in err) == (rows > 20)

    # What comes after goes on in this process; on a live pipe the header does not come again.
    seen = rows + 1 + (rows > 20)
    pieces = "".join(got)
    for name, options, text in (
        ("live", [], "".join(lines[seen:])),
        ("replayed", ["--replay"], "".join(lines)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "state.rtrl").write_bytes((tmp_path / "parts" / "state.rtrl").read_bytes())
        after = with_input(text, "stream", "-", *SMALL, "--out", folder, "--resume", *options)
        assert after.code == 0, (rows, after.err)
        assert pieces + after.out == whole.out, rows
        assert result(folder)["runs"][0]["figures"]["nrmse"] == pytest.approx(
            result(tmp_path / "whole")["runs"][0]["figures"]["nrmse"], rel=1e-12
        )


@pytest.mark.parametrize("layout", ["", "no header", "semicolons"])
def test_a_live_pipe_goes_on_where_its_first_row_is_malformed(layout, tmp_path):
    text = log_file(tmp_path).read_text().splitlines(keepends=True)
    target = "speed"
    if layout == "no header":
        text, target = text[1:], "1"
    if layout == "semicolons":
        text = [line.replace(",", ";") for line in text]
    (tmp_path / "log.csv").write_text("".join(text))
    options = [*SMALL[2:], "--target", target]
    whole = rtrl_("stream", tmp_path / "log.csv", *options, "--out", tmp_path / "whole")
    assert whole.code == 0 and len(whole.out.splitlines()) == 161
    cut = text.index("oops\n")
    out = ["--out", tmp_path / "parts"]
    first = with_input("".join(text[:cut]), "stream", "-", *options, *out)
    second = with_input("".join(text[cut:]), "stream", "-", *out, "--resume")
    assert second.code == 0 and first.out + second.out == whole.out
    assert re.findall(r"line \d+", second.err) == ["line 1"]


def test_a_reader_that_leaves_ends_it_without_a_word(tmp_path):
    log = log_file(tmp_path, 3000)
    process = start("stream", log, *SMALL, "--out", tmp_path / "out")
    assert process.stdin and process.stdout and process.stderr
    assert process.stdout.readline() == "row,speed +3\n"
    process.stdout.close()
    process.stdin.close()
    with process.stderr:
        err = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert "Traceback" not in err and "Broken" not in err and "Exception" not in err
    assert 0 < _state.read_about(tmp_path / "out" / "state.rtrl")["done"] < 3000


def test_a_listing_may_be_cut_off():
    process = start("tasks")
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stdin.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0


def test_the_forecaster_takes_rows_in_any_blocks_and_tells_of_its_experts(tmp_path):
    log, parts = log_file(tmp_path), tmp_path / "parts"
    text = log.read_text().splitlines(keepends=True)
    whole = rtrl_("stream", log, *FORECAST, "--out", tmp_path / "whole")
    assert whole.code == 0 and len(whole.out.splitlines()) == 161
    assert whole.out.startswith("row,speed +3\n1,0.0\n")  # the last value
    first = rtrl_("stream", log, *FORECAST, "--steps", 60, "--out", parts)
    second = with_input("".join(text), "stream", "-", "--out", parts, "--resume", "--replay")
    assert second.code == 2 and "TASK" in second.err  # a file is no pipe
    second = rtrl_("stream", log, "--out", parts, "--resume")
    assert first.out + second.out == whole.out
    # Lines that come one by one: an iterator of lines is never ready beforehand.
    piped = with_input("".join(text), "stream", "-", *FORECAST, "--out", tmp_path / "piped")
    assert piped.out == whole.out
    run = result(tmp_path / "whole")["runs"][0]
    assert run["label"] == "forecaster" and "network, RTRL" in " ".join(run["experts"])
    assert sum(one["weight"] for one in run["experts"].values()) == pytest.approx(1, abs=1e-3)
    assert run["experts"]["last value"]["nrmse"] == pytest.approx(
        result(tmp_path / "whole")["floors"]["last value"],
        rel=0.01,  # which leaves the gap out
    )
    shown = re.sub(r" +", " ", whole.err)
    assert "floor, expert, weight" in shown and "forecaster" in shown
    inspected = rtrl_("inspect", tmp_path / "whole")
    assert inspected.code == 0 and "last value" in inspected.out and "Memory" in inspected.out
    exported = rtrl_("export", tmp_path / "whole", "--out", tmp_path / "c")
    assert exported.code == 2 and "--learner network" in exported.err
    trained = rtrl_("train", log, *FORECAST, "--out", tmp_path / "train")
    figures = result(tmp_path / "train")["runs"][0]
    assert trained.code == 0 and figures["label"] == "forecaster" and figures["experts"]
    refused = rtrl_("stream", log, *FORECAST, "--learner", "forecaster", "--chunk", 4)
    assert refused.code == 2 and "--chunk" in refused.err


def test_a_file_resumes_after_the_rows_done_and_only_once(tmp_path):
    log, out = log_file(tmp_path), tmp_path / "out"
    whole = rtrl_("stream", log, *SMALL, "--out", tmp_path / "whole")
    first = rtrl_("stream", log, *SMALL, "--steps", 60, "--out", out)
    second = rtrl_("stream", log, "--out", out, "--resume")  # its options are in the state
    assert first.out + second.out == whole.out
    assert "line 22" in first.err and "line 22" not in second.err
    third = rtrl_("stream", log, "--out", out, "--resume")
    assert (third.code, third.out) == (0, "")
    anew = rtrl_("stream", log, *SMALL, "--steps", 2, "--out", out)
    assert "previous-state.rtrl" in anew.err
    assert _state.read_about(out / "previous-state.rtrl")["done"] == 160


def test_predictions_do_not_depend_on_how_the_run_is_scored(tmp_path):
    """The figure is that of the lines on standard output."""
    log, out = log_file(tmp_path), tmp_path / "out"
    done = rtrl_("stream", log, *SMALL, "--out", out)
    given_ = np.array([float(line.split(",")[1]) for line in done.out.splitlines()[1:]])
    ys = tables.read(log, "speed", horizon=3).arrays().ys
    figure = result(out)["runs"][0]["figures"]
    assert figure["nrmse"] == pytest.approx(_data.nrmse(given_[:-3, None], ys))
    assert figure["nrmse_last_500"] == pytest.approx(figure["nrmse"])
    assert (out / "curve.png").read_bytes()[:8] == PNG
    series = tables.read(log, "speed", horizon=0, features=["load"]).arrays().ys
    naive = _data.nrmse(series[3:-3], series[6:])
    assert result(out)["floors"]["last value"] == pytest.approx(naive)
