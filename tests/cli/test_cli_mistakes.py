"""Mistakes of the user: one line that names the argument, no traceback."""

import subprocess
import sys

import pytest
from command_line import RUNS, SMALL, log_file, rtrl_

import rtrl
from rtrl.cli import (
    _state,
)
from rtrl.cli import main as cli_main
from rtrl.cli._errors import UsageError


def test_a_cell_and_a_rule_that_do_not_go_together_are_named(tmp_path, monkeypatch):
    def refuse(self, cell, parameters, batch_size):
        raise ValueError("rule: expected a cell of another kind, got this one.")

    monkeypatch.setattr(rtrl.Truncated, "init_trace", refuse)
    log = log_file(tmp_path)
    for command in (["train", "parity"], ["stream", log, *SMALL], ["compare", "parity"]):
        options = ["--rules" if command[0] == "compare" else "--rule", "Truncated"]
        done = rtrl_(*command, *options, "--out", tmp_path / "out")
        assert done.code == 2 and "Traceback" not in done.err
        assert done.err.strip().splitlines()[-1].startswith("rtrl: --cell LRU and --rule Truncated")


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["train", "digts"], "TASK"),
        (["train", "laser", "--cell", "Foo"], "--cell"),
        (["train", "laser", "--rule", "Foo"], "--rule"),
        (["train", "laser", "--lr", "-1"], "--lr"),
        (["train", "laser", "--lr", "1", "--optimizer", "kalman"], "--lr"),
        (["train", "laser", "--chunk", "4", "--optimizer", "kalman"], "--optimizer"),
        (["train", "laser", "--optimizer", "sgd"], "--optimizer"),
        (["train", "laser", "--steps", "99999"], "--steps"),
        (["train", "laser", "--epochs", "3"], "--epochs"),
        (["train", "laser", "--target", "a"], "--target"),
        (["train", "laser", "--horizon", "0"], "laser: horizon"),
        (["train", "digits", "--horizon", "2"], "--horizon"),
        (["train", "digits", "--batch", "9999"], "--batch"),
        (["train", "digits", "--set", "colour=red"], "--set"),
        (["train", "digits", "--set", "by"], "--set"),
        (["train", "digits", "--set", "by=columns"], "digits: by"),
        (["train", "laser", "--resume"], "--resume"),
        (["train", "no.csv", "--target", "a"], "no.csv"),
        (["train", "-", "--target", "a"], "TASK"),
        (["train", "log.csv"], "--target"),
        (["train", "log.csv", "--target", "sped"], "--target"),
        (["train", "laser", "--chunk", "0"], "--chunk"),
        (["train", "laser", "--overlap", "4", "--rule", "Truncated"], "overlap: expected 0"),
        (["train", "laser", "--trace-dtype", "float16"], "--trace-dtype: expected 'float32', "),
        (["train", "laser", "--trace-dtype", "int8", "--rule", "BPTT"], "--trace-dtype: expected"),
        (["train", "laser", "--out", "log.csv"], "--out"),
        (["compare", "parity", "--rules", "Foo"], "--rules"),
        (["compare", "parity", "--rules", ","], "--rules"),
        (["compare", "parity", "--chunks", "1,x"], "--chunks"),
        (["stream", "log.csv"], "--target"),
        (["stream", "log.csv", "--target", "sped"], "--target"),
        (["stream", "log.csv", "--target", "speed", "--features", "x"], "--features"),
        (["stream", "log.csv", "--target", "speed", "--separator", "ab"], "--separator"),
        (["stream", "no.csv", "--target", "speed"], "FILE"),
        (["stream", "log.csv", "--target", "speed", "--as", "load"], "--as"),
        (["stream", "log.csv", "--target", "speed", "--as", "load=colour"], "--as"),
        (["stream", "log.csv", "--target", "speed", "--drop", "x"], "--drop"),
        (["stream", "log.csv", "--target", "speed", "--encoding", "klingon"], "--encoding"),
        (["stream", "log.csv", "--target", "speed", "--gaps", "leap"], "--gaps"),
        (["train", "laser", "--drop", "x"], "--drop"),
        (["stream", "log.csv", "--resume"], "--resume"),
        (["inspect", "log.csv"], "STATE"),
        (["inspect", "no.rtrl"], "STATE"),
    ],
)
def test_mistakes_are_one_line_that_names_the_argument(arguments, named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log_file(tmp_path)
    done = rtrl_(*arguments)
    assert done.code == 2 and done.out == ""
    lines = done.err.strip().splitlines()
    assert named in lines[-1] and "Traceback" not in done.err
    assert len(lines) == 1 or lines[0].startswith("Usage:")


def test_resuming_another_run_is_refused_by_name(tmp_path):
    assert rtrl_("train", *RUNS["sequences"], "--steps", 1, "--out", tmp_path).code == 0
    for arguments, named in (
        (["train", *RUNS["sequences"], "--seed", 3], "--seed"),
        (["train", "parity"], "TASK"),
        (["train", "copying", "--cell", "MinGRU"], "--cell"),
        (["stream", "copying", "--target", "a"], "--resume"),
    ):
        done = rtrl_(*arguments, "--out", tmp_path, "--resume")
        assert done.code == 2 and done.err.startswith(f"rtrl: {named}: "), done.err
    with pytest.raises(UsageError, match="damaged"):
        (tmp_path / "state.rtrl").write_bytes(b"PK nonsense")
        _state.read_about(tmp_path / "state.rtrl")


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as error:
        cli_main(["tasks"])
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "pip install 'rtrl[cli]'" in message and "typer" in message


def test_importing_the_library_imports_no_part_of_the_command_line():
    program = (
        "import sys, rtrl, rtrl.tasks; from rtrl import *; "
        "print(sorted({'typer', 'rich', 'matplotlib', 'rtrl.cli'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
