"""Malformed, poor and odd files: no row is lost without a word."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import TINY, rtrl_
from hypothesis import given, settings
from table_files import File, files

from rtrl.cli import (
    _closing,
    _state,
)
from rtrl.cli import _stream as cli_stream


class Echo:
    """A learner that predicts zeros: the reader and the plumbing are what is tested."""

    def stream(self, state, source, chunk, delay) -> Iterator:
        for x, *_ in source:
            yield {"items": np.int64(0)}, SimpleNamespace(prediction=np.zeros(1) * x.size)


def check_no_row_is_lost(file: File, folder: Path) -> None:
    path = folder / "any.csv"
    path.write_text(file.text, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_stream, "begin", lambda setup, source: (Echo(), {"items": np.int64(0)}))
        patch.setattr(_closing, "draw", lambda *_, **__: None)
        names = ["--header" if file.options["header"] else "--no-header"]
        kinds = [f"--as={i}=number" for i in range(file.columns)]
        inputs = ",".join(map(str, file.options["features"]))
        done = rtrl_("stream", path, "--target", 0, "--horizon", 1, "--features", inputs, *names,
                     *kinds, "--out", folder / "out")  # fmt: skip
    if not file.good:
        assert (done.code, done.out) == (2, "") and "rtrl: FILE: " in done.err
        return
    assert done.code == 0, done.err
    rows = done.out.splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, len(file.good) + 1))
    reported = [int(n) for n in re.findall(r"(?m)^rtrl: line (\d+): ", done.err)]
    assert reported == file.bad


@settings(max_examples=60, deadline=None, derandomize=True)
@given(file=files())
def test_malformed_files_lose_no_row_and_have_no_traceback(file, tmp_path_factory):
    check_no_row_is_lost(file, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, derandomize=True)
@given(file=files())
def test_malformed_files_at_length(file, tmp_path_factory):
    check_no_row_is_lost(file, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "a,b\n", "a,speed\nx,y\n", "\0\0\0", "speed,a\n1e308,1\n-1e308,2\n1e308,nan\n"],
)
def test_poor_files_end_well(text, tmp_path):
    (tmp_path / "poor.csv").write_text(text)
    out = tmp_path / "out"
    done = rtrl_("stream", tmp_path / "poor.csv", "--target", "speed", *TINY, "--out", out)
    assert done.code == 0 or re.match(r"rtrl: (--target|FILE):[^\n]*\n$", done.err)
    assert done.code in (0, 2) and "Traceback" not in done.err


def test_columns_are_told_and_kept_and_can_be_overruled(tmp_path):
    lines = ['when;"speed,\n(m/s)";sky;"a, b"']
    for t in range(56):
        day, sky = f"{t % 28 + 1:02d}.{t // 28 + 1:02d}.2024", "sun" if t % 3 else "rain"
        lines.append(f"{day};{(t * 7 % 11) / 4:.2f};{sky};{t}")
    path = tmp_path / "log.csv"
    path.write_bytes("\n".join(lines).replace("speed", "tempo \xfc").encode("latin-1"))
    options = ["--target", "1", "--warmup", "5", *TINY, "--gaps", "hold", "--no-calendar"]
    done = rtrl_("stream", path, *options, "--steps", 30, "--out", tmp_path / "a")
    assert done.code == 0 and done.out.startswith('row,"tempo \xfc,\n(m/s) +1"\n')
    for said in (r"when +time, day first,.* time ", r"\xfc, \(m/s\) +number +target, feature",
                 r"sky +class of 2 +feature", r"a, b +counter, numbers .* left out",
                 r"encoding cp1252"):  # fmt: skip
        assert re.search(said, done.err), (said, done.err)
    kept = _state.read_about(tmp_path / "a" / "state.rtrl")["columns"]
    assert [column[2] for column in kept["columns"]] == ["time", "number", "class", "counter"]
    more = rtrl_("stream", path, "--out", tmp_path / "a", "--resume")
    whole = rtrl_("stream", path, *options, "--out", tmp_path / "whole")
    assert done.out + more.out == whole.out and "class of" not in more.err

    other = rtrl_("stream", path, *options, "--as", "3=number", "--drop", "sky", "--encoding",
                  "iso8859-2", "--out", tmp_path / "b")  # fmt: skip
    assert other.code == 0 and re.search(r"sky +class of 2, dropped +left out", other.err)
    assert re.search(r"a, b +number +feature", other.err)
    options += ["--features", "1", "--look", 5]
    trained = rtrl_("train", path, *options, "--out", tmp_path / "c")
    assert trained.code == 0 and re.search(r"sky +text, only 5 rows seen +left", trained.err)


def test_rows_that_fill_a_gap_are_learned_and_not_printed(tmp_path):
    hours = [t for t in range(130) if not 100 <= t < 104]
    lines = ["time,speed", *(f"{1_700_000_000 + 3600 * t},{(t * 7 % 11) / 4}" for t in hours)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(lines))
    options = ["--target", "speed", "--warmup", "5", *TINY]
    whole = rtrl_("stream", path, *options, "--out", tmp_path / "whole")
    assert [int(r.split(",")[0]) for r in whole.out.splitlines()[1:]] == list(range(1, 127))
    assert "a gap: 5 hours" in whole.err and "126 rows learned" in whole.err
    assert _state.read_about(tmp_path / "whole" / "state.rtrl")["done"] == 130
    parts = [rtrl_("stream", path, *options, "--steps", n, "--out", tmp_path / "p", *more)
             for n, more in ((100, []), (1, ["--resume"]), (99, ["--resume"]))]  # fmt: skip
    assert "".join(p.out for p in parts) == whole.out


def test_many_odd_rows_are_counted(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("a,speed\n" + "".join(f"{t % 7},{t % 5}\noops\n" for t in range(40)))
    done = rtrl_("stream", path, "--target", "speed", *TINY, "--out", tmp_path / "out")
    assert done.code == 0 and len(re.findall("row left out", done.err)) == 20
    assert "rtrl: 20 more rows left out" in done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,note\n" + b"".join(b"%d,word %d\n" % (t, t) for t in range(60)), "--target: .*note"),
        (b"PK\x03\x04 and so on", "FILE: .*Excel"),
        (b"note,a\n" + b"x,y\n" * 60, "--target: expected numbers in 'a'"),
        (b"a,note\n" + b"1,2,3\n" * 3, "FILE: expected rows that fit"),
    ],
)
def test_a_file_of_no_use_ends_before_learning(content, said, tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    target = 1 if b"note,a" in content or b"word" in content else 0
    done = rtrl_("stream", path, "--target", target, "--out", tmp_path / "out")
    assert done.code == 2 and done.out == "" and re.search(said, done.err), done.err
    assert len(done.err.splitlines()) == 1
