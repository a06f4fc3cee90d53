"""Predictions written by ``--to``, each row once whatever ends a run; one process in a folder."""

import errno
import io
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rtrl.cli import _lock, _state
from rtrl.cli import main as cli_main
from rtrl.cli._errors import UsageError

NETWORK = ["--target", "speed", "--horizon", "3", "--warmup", "20", "--learner", "network"]
OPTIONS = [*NETWORK, "--width", "4", "--hidden", "4", "--depth", "1"]

#: ``rtrl``, saving its state many times a second.
OFTEN = """
import sys
from rtrl.cli import _stream, main
_stream.SAVE_SECONDS = 0.1
main(sys.argv[1:])
"""


def rtrl_(*arguments: object) -> SimpleNamespace:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli_main([str(a) for a in arguments])
        except SystemExit as error:
            code = error.code or 0
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def log_file(folder: Path, rows: int, target: str = "speed") -> Path:
    """Two columns, the target driven by the other; one malformed row."""
    speed, lines = 0.0, [f"{target},load"]
    for t in range(rows):
        load = np.sin(t / 4)
        speed = 0.8 * speed + load
        lines.append(f"{speed:.5f},{load:.5f}")
    lines.insert(21, "oops")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    return folder / "log.csv"


def test_a_kill_at_a_random_moment_and_resuming_give_the_bytes_of_one_run(tmp_path, monkeypatch):
    out, to = tmp_path / "out", tmp_path / "forecast.csv"
    log = log_file(tmp_path, 1000)
    text = log.read_text()
    arguments = ["stream", "-", *OPTIONS, "--out", out, "--to", to]
    process = subprocess.Popen(
        [sys.executable, "-c", OFTEN, *map(str, arguments)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert process.stdin
    random = np.random.default_rng(os.getpid())
    lines = int(random.integers(30, 800))
    process.stdin.write("".join(text.splitlines(keepends=True)[:lines]))
    process.stdin.flush()  # and it stays open, so the process waits for more
    whole = rtrl_("stream", log, *OPTIONS, "--out", tmp_path / "whole")
    assert whole.code == 0 and whole.out.count("\n") == 1001
    for _ in range(10_000):
        if process.poll() is not None or to.exists() and to.read_bytes().count(b"\n") > lines - 2:
            break
        time.sleep(0.01)

    # While it lives, no other one is let in, with a state to go on from or anew.
    for more in ([], ["--resume"]):
        refused = rtrl_(*arguments, *more)
        assert refused.code == 2 and "--out" in refused.err and str(out) in refused.err
    refused = rtrl_("train", "copying", "--steps", 1, "--out", out)
    assert refused.code == 2 and str(out) in refused.err and not (out / "result.json").exists()

    process.stdin.write("".join(text.splitlines(keepends=True)[lines:]))
    process.stdin.flush()
    time.sleep(random.uniform(0, 0.5))
    assert process.poll() is None  # else nothing is killed
    process.send_signal(signal.SIGKILL)
    assert process.communicate(timeout=60)[0] == ""
    written, saved = to.read_bytes(), _state.read_about(out / "state.rtrl")["done"]
    assert whole.out.encode().startswith(written) and written.count(b"\n") > saved
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    rest = rtrl_(*arguments, "--resume", "--replay")
    assert rest.code == 0 and rest.out == "", rest.err
    assert to.read_bytes() == whole.out.encode(), (lines, saved)
    assert ("later rows cut off" in rest.err) == (len(written.splitlines()) - 1 > saved)


@pytest.mark.parametrize("target", ["speed", "speed,\nkm/h é"])
def test_what_is_ahead_of_the_state_is_cut_off(target, tmp_path):
    """Also: a header may have lines of its own."""
    out, to = tmp_path / "out", tmp_path / "forecast.csv"
    log = log_file(tmp_path, 150, target if target == "speed" else f'"{target}"')
    options = ["--target", target, *OPTIONS[2:], "--out"]
    whole = rtrl_("stream", log, *options, tmp_path / "whole")
    first = rtrl_("stream", log, *options, out, "--steps", 60, "--to", to)
    assert (first.code, first.out) == (0, "") and whole.out.startswith(to.read_text())
    with to.open("a") as file:
        file.write("61,0.5\n62,0.25\n63,0.")
    second = rtrl_("stream", log, "--out", out, "--resume", "--to", to)
    assert (second.code, second.out) == (0, "") and to.read_bytes() == whole.out.encode()
    assert "after row 60" in second.err and "cut off: 3" in second.err
    third = rtrl_("stream", log, "--out", out, "--resume", "--to", to)
    assert third.code == 0 and to.read_bytes() == whole.out.encode()
    assert "cut off" not in third.err


def test_a_state_is_there_before_the_first_line(tmp_path, monkeypatch):
    """So that a run can go on wherever it was killed; and a state never runs ahead of the file."""
    out, to, log = tmp_path / "out", tmp_path / "forecast.csv", log_file(tmp_path, 40)
    whole = rtrl_("stream", log, *OPTIONS, "--out", tmp_path / "whole")
    kept: list[bytes] = []
    save = _state.save

    def recorded(path: Path, *given) -> None:
        save(path, *given)
        kept.append(path.read_bytes())

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_state, "save", recorded)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        failed = rtrl_("stream", log, *OPTIONS, "--out", out, "--to", to)
    assert failed.code == 2 and not kept
    assert failed.err.splitlines()[-1] == f"rtrl: --to: can't write {to}: No space left on device."
    assert rtrl_("stream", log, *OPTIONS, "--steps", 5, "--out", out, "--to", to).code == 0
    at_first, _ = kept
    for begun in (None, b"", b"row,spe", b"row,speed +3\n", b"row,speed +3\n1,"):
        (out / "state.rtrl").write_bytes(at_first)
        to.unlink() if begun is None else to.write_bytes(begun)
        done = rtrl_("stream", log, "--out", out, "--to", to, "--resume")
        assert done.code == 0 and to.read_bytes() == whole.out.encode(), begun


def test_a_file_that_is_not_that_of_the_run_is_left_as_it_is(tmp_path):
    out, log = tmp_path / "out", log_file(tmp_path, 40)
    to, state = tmp_path / "forecast.csv", out / "state.rtrl"
    assert rtrl_("stream", log, *OPTIONS, "--steps", 9, "--out", out, "--to", to).code == 0
    lines, saved = to.read_bytes().splitlines(keepends=True), state.read_bytes()
    for content, said in (
        (b"".join(lines[:5]), "has 4 whole rows in order, but the state .* after row 9"),
        (b"".join(lines)[:-1], "has 8 whole rows .* row 9"),
        (b"".join(lines[:3] + lines[4:] + [b"10,0.5\n"]), "has 2 whole rows .* row 9"),
        (log.read_bytes(), r"of another stream: it begins not with row,speed \+3"),
        (None, "has 0 whole rows .* row 9"),
    ):
        to.unlink() if content is None else to.write_bytes(content)
        done = rtrl_("stream", log, "--out", out, "--to", to, "--resume")
        assert (done.code, done.out) == (2, "") and done.err.startswith(f"rtrl: --to: {to} ")
        assert re.search(said, done.err), done.err
        assert state.read_bytes() == saved and (to.exists() and to.read_bytes()) == (content or 0)
    for file, said in (
        (log, "is there and not empty"),
        (tmp_path, "expected a file"),
        (tmp_path / "no" / "forecast.csv", "No such file or directory"),
    ):
        done = rtrl_("stream", log, *OPTIONS, "--out", out, "--to", file)
        assert done.code == 2 and str(file) in done.err and said in done.err
        assert done.err.count("\n") == 1 and state.read_bytes() == saved


def test_a_folder_is_of_one_process_while_that_works(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError), _lock.sole_use(tmp_path):
        with pytest.raises(UsageError, match=f"^--out: .* in {tmp_path};"):  # noqa: SIM117
            with _lock.sole_use(tmp_path):
                pass
        (tmp_path / "other").mkdir()
        with _lock.sole_use(tmp_path / "other"):
            pass
        raise RuntimeError
    with _lock.sole_use(tmp_path):  # whatever ended the one before
        with monkeypatch.context() as patch:
            patch.setattr(_lock, "fcntl", None)
            with _lock.sole_use(tmp_path):  # Windows
                pass
        with pytest.raises(UsageError, match="--out"), _lock.sole_use(tmp_path):
            pass

    def unknown(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_lock.fcntl, "flock", unknown)
    with _lock.sole_use(tmp_path), _lock.sole_use(tmp_path):
        pass
    with pytest.raises(UsageError, match="--out: can't write"), _lock.sole_use(tmp_path / "no"):
        pass
