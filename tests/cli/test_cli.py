"""The command line: from options to files, pipes, signals, and mistakes without a traceback."""

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from table_files import File, files
from typer.testing import CliRunner

import rtrl
from rtrl import tables, tasks
from rtrl.cli import (
    _app,
    _closing,
    _data,
    _inspect,
    _known,
    _names,
    _progress,
    _report,
    _score,
    _setup,
    _state,
    _train,
)
from rtrl.cli import _stream as cli_stream
from rtrl.cli import main as cli_main
from rtrl.cli._errors import UsageError
from rtrl.cli._signals import Stop

TINY = ["--width", "4", "--hidden", "4", "--depth", "1"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def share_programs(monkeypatch):
    """Learners of the same kind are the same object, so that they are compiled once."""
    build = _setup.build_learner

    def shared(setup, kind, loss, model, scaled=()):
        same = dataclasses.replace(setup, seed=0, task="", settings=None, target=None)
        key = repr((same, kind, loss, model.in_size, model.out_size, scaled))
        if key not in BUILT:
            BUILT[key] = build(setup, kind, loss, model, scaled)
        return BUILT[key]

    for module in (_train, cli_stream, _inspect):
        monkeypatch.setattr(module, "build_learner", shared)


BUILT: dict = {}


def rtrl_(*arguments: object) -> SimpleNamespace:
    """Run the command in this process: exit code, standard output and standard error."""
    return call([str(a) for a in arguments])


def call(arguments: list[str]) -> SimpleNamespace:
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    code = 0
    try:
        cli_main(arguments)
    except SystemExit as error:
        code = error.code
    finally:
        sys.stdout, sys.stderr = before
    return SimpleNamespace(code=code or 0, out=out.getvalue(), err=err.getvalue())


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def log_file(folder: Path, rows: int = 160) -> Path:
    """Two columns, the target driven by the other; one malformed row and one gap."""
    path = folder / "log.csv"
    speed, lines = 0.0, ["time,speed,load"]
    for t in range(rows):
        load = np.sin(t / 4)
        speed = 0.8 * speed + load
        lines.append(f"{t},{'' if t == 30 else f'{speed:.5f}'},{load:.5f}")
    lines.insert(21, "oops")
    path.write_text("\n".join(lines) + "\n")
    return path


# Help, names, tasks -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["tasks", "train", "compare", "stream", "inspect", "export"])
def test_help_teaches_by_example(command):
    done = CliRunner().invoke(_app.app, [command, "--help"])
    assert done.exit_code == 0
    examples = re.findall(rf"(?m)^ +(?:.*\| )?rtrl {command}\b.*$", done.output)
    assert len(examples) >= 2, done.output


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["stream", "--help"]])
def test_help_comes_without_loading_anything_heavy(arguments):
    program = (
        "import sys, rtrl.cli\n"
        f"try: rtrl.cli.main({arguments})\n"
        "except SystemExit as error: print(error.code, file=sys.stderr)\n"
        "print(sorted({'jax', 'numpy', 'matplotlib', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.split("\n")[:2] == ["0", "[]"], done.stderr
    assert ("rtrl 0" if arguments == ["--version"] else "Usage: rtrl") in done.stdout


def test_names_in_help_are_those_there_are():
    assert _known.CELLS == tuple(_names.cell_names())
    assert _known.RULES == tuple(_names.rule_names())


def test_every_option_of_the_front_door_is_there():
    shown = CliRunner().invoke(_app.app, ["train", "--help"]).output
    names = "seed cell rule chunk depth hidden width lr steps out resume tensorboard horizon"
    for name in names.split():
        assert f"--{name}" in shown


def test_cells_and_rules_are_those_of_their_modules(monkeypatch):
    assert {"LRU", "MinGRU", "LIF"} <= set(_names.cell_names())
    assert {"RTRL", "BPTT", "Truncated", "Spatial", "ExactRTRL"} <= set(_names.rule_names())
    assert "Cell" not in _names.cell_names() and "Rule" not in _names.rule_names()

    class Brand(rtrl.Spatial):
        pass

    class Needy(rtrl.Spatial):
        depth: int

        def label(self, chunk=None):
            return f"Needy({self.depth})"

    monkeypatch.setattr(rtrl.rules, "Brand", Brand, raising=False)
    monkeypatch.setattr(rtrl.rules, "Needy", Needy, raising=False)
    assert isinstance(_names.find_rule("brand"), Brand)
    assert "Needy:depth" in _names.rule_names()
    assert _names.find_rule("needy:3").label() == "Needy(3)"
    assert _names.find_rule("RTRL:timestep") == rtrl.RTRL("timestep")
    with pytest.raises(UsageError, match="--rule: expected a value for depth"):
        _names.find_rule("Needy")
    with pytest.raises(UsageError, match="--rules: RTRL: errors"):
        _names.find_rule("RTRL:nonsense", "--rules")


def test_every_cell_builds_and_every_rule_labels():
    for name in _names.cell_names():
        setup = _setup.Setup("digits", cell=name, width=4, hidden=4, depth=1)
        model = eqx.filter_eval_shape(_setup.build_model, setup, 3, 2)  # shapes alone
        assert type(model.layers[0].cell).__name__ == name
    for full in _names.rule_names():
        name, colon, _ = full.partition(":")
        rule = name + (":2" if colon else "")
        assert _setup.label(_setup.Setup("digits", rule=rule, chunk=16))


def test_tasks_are_listed_in_their_own_words():
    listed = rtrl_("tasks")
    assert listed.code == 0 and "laser" in listed.out
    for task in tasks.summary():
        assert re.search(rf"(?m)^{task.name}\b", listed.out), task.name
    one = rtrl_("tasks", "laser").out
    assert "0.963" in one and "Source" in one and "Shapes" in one


def test_published_floors_are_those_of_the_docstrings():
    words = {task.name: task.floors for task in tasks.summary()}
    for name, floors in _data.PUBLISHED.items():
        numbers = [float(n) for n in re.findall(r"\d+\.\d+", words[name])]
        for label, value in floors.items():
            assert value in numbers, (name, label)
    chance = {name: f["chance"] for name, f in _data.PUBLISHED.items() if "chance" in f}
    assert chance == {"scifar": 1 / 10, "imdb": 1 / 2, "shd": 1 / 20}
    unpublished = {t.name for t in tasks.summary() if t.kind != "stream"} - set(_data.PUBLISHED)
    assert unpublished == {"modular_sum"}  # depends on the modulus: 1 / m
    thirds = _data.load("modular_sum", settings={"modulus": 3})
    assert _data.floors(thirds, 1) == {"uniform answer": 1 / 3}


def test_figures_of_the_readme_are_those_measured():
    root = Path(__file__).parents[2]
    table = re.search(r"(?s)\| laser, five samples.*?\n\n", (root / "README.md").read_text())
    assert table
    rows = [re.split(r" *\| *", row.strip("| ")) for row in table[0].splitlines()[2:] if row]
    for column, name in ((1, "laser_horizon"), (4, "digits")):
        measured = (root / "bench" / "results" / f"{name}.md").read_text()
        figures = [row[column] for row in rows]
        assert len(figures) == 8
        for figure in figures:
            assert f"| {figure} |" in measured, (name, figure)


# Train and compare ------------------------------------------------------------------------------


def test_train_learns_a_file_and_reports(tmp_path):
    log, out = log_file(tmp_path, 260), tmp_path / "out"
    done = rtrl_("train", log, "--target", "speed", "--horizon", "2", *TINY, "--out", out)
    assert done.code == 0
    found = result(out)
    (run,) = found["runs"]
    about = _state.read_about(out / "state.rtrl")
    assert about["done"] == run["steps"] == 258 and run["finished"]
    assert found["seed"] == 0 and found["command"].startswith("rtrl train ")
    assert found["versions"]["jax"] == jax.__version__

    # The figure and the floors, computed again from what the file holds.
    stream = tables.read(log, "speed", horizon=2).arrays()
    with np.load(out / "state.rtrl") as archive:
        arrays = [archive[key] for key in archive if key != "header.json"]
    predictions = next(a for a in arrays if a.shape == (258, 1))
    expected = _data.nrmse(predictions[129:], stream.ys[129:])
    assert run["figures"]["nrmse"] == pytest.approx(expected)
    speed = stream.xs[:, 0]
    known = np.isfinite(speed) & np.isfinite(stream.ys[:, 0])
    late = known & (np.arange(258) >= 129)
    error = np.sqrt(np.mean((speed - stream.ys[:, 0])[late] ** 2)) / stream.ys[late, 0].std()
    assert found["floors"]["last value"] == pytest.approx(error)
    assert run["figures"]["nrmse"] < 0.7 * error

    assert (out / "curve.png").read_bytes()[:8] == PNG
    assert "timesteps/s" in done.err and f"{expected:.3f}" not in done.err  # progress
    assert "last value" in done.out and "floor" in done.out and "timesteps/s" in done.out
    assert f"{expected:.3f}" in done.out


def test_floors_of_the_laser_are_those_of_its_docstring():
    data = _data.load("laser")
    found = _data.floors(data, len(data.content.xs))
    assert found["last value"] == pytest.approx(0.963, abs=5e-4)
    assert found["regression on 10 lags (online)"] == pytest.approx(0.453, abs=5e-4)
    assert found["echo state network (200)"] == pytest.approx(0.058, abs=5e-3)


RUNS = {
    "stream": ["henon", "--set", "length=120", "--warmup", "20", *TINY],
    "stream in chunks": ["henon", "--set", "length=120", "--warmup", "20", "--chunk", "7", *TINY],
    "sequences": ["copying", "--set", "pattern=2", "--set", "padding=1", "--batch", "3", *TINY],
    "labelled": ["digits", "--set", "by=rows", "--set", "held_out=0.9", "--batch", "50", *TINY],
}
STEPS = {"stream": 60, "stream in chunks": 60, "sequences": 6, "labelled": 5}


@pytest.mark.parametrize("kind", RUNS)
def test_resuming_a_run_changes_no_bit(kind, tmp_path):
    """A labelled run stops in the middle of a pass (3 batches)."""
    whole, parts, steps = tmp_path / "whole", tmp_path / "parts", STEPS[kind]
    assert rtrl_("train", *RUNS[kind], "--steps", steps, "--out", whole).code == 0
    assert rtrl_("train", *RUNS[kind], "--steps", steps // 2, "--out", parts).code == 0
    halfway = result(parts)["runs"][0]["steps"]
    assert halfway == steps // 2
    again = rtrl_("train", RUNS[kind][0], "--steps", steps, "--out", parts, "--resume")
    assert again.code == 0, again.err
    assert leaves(whole) == leaves(parts)
    figures = [result(f)["runs"][0]["figures"] for f in (whole, parts)]
    for one in figures:
        del one["steps_per_second"]
        assert all(value is not None for value in one.values())
    assert figures[0] == pytest.approx(figures[1], rel=1e-6)


def leaves(folder: Path) -> list[bytes]:
    """All arrays of a state but what it says about itself (history is reported at other steps)."""
    with np.load(folder / "state.rtrl") as archive:
        return [archive[k].tobytes() for k in sorted(archive) if k not in ("header.json", "00000")]


def test_a_seed_decides_everything(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        arguments = ["--steps", 4, "--seed", seed, "--out", tmp_path / name]
        assert rtrl_("train", *RUNS["sequences"], *arguments).code == 0
    assert leaves(tmp_path / "a") == leaves(tmp_path / "b") != leaves(tmp_path / "c")


def test_figures_of_sequences_are_those_of_their_batches(tmp_path):
    """With rate zero in effect nothing is learned: the floor of a linear readout is known."""
    arguments = ["adding", "--set", "length=6", "--batch", "64", "--lr", "1e-30", *TINY]
    assert rtrl_("train", *arguments, "--steps", 2, "--out", tmp_path).code == 0
    data = _data.load("adding", batch=64, settings={"length": 6})
    setup = _setup.Setup(**result(tmp_path)["runs"][0]["setup"])
    model = _setup.build_model(setup, 2, 1)
    errors = []
    for number in range(2):
        xs, ys, _ = data.content([0, number], 64)
        carry = rtrl.init_carry(model, rtrl.BPTT(), 64)
        predictions, _ = model(jnp.asarray(xs), carry, rule=rtrl.BPTT())
        errors.append(float(np.mean((np.asarray(predictions)[-1] - ys[-1]) ** 2)))
    figure = result(tmp_path)["runs"][0]["figures"]["loss"]
    assert figure == pytest.approx(np.mean(errors), rel=1e-4)


def test_test_accuracy_is_that_of_the_whole_set():
    from rtrl.cli import _learn

    split = tasks.digits("rows")
    setup = _setup.Setup("digits", width=4, hidden=4, depth=1)
    model = _setup.build_model(setup, 8, 10)
    batch = split.test.all()
    logits = _learn._predict(model, jnp.asarray(batch.xs))
    expected = tasks.sequence_accuracy(np.asarray(logits), batch)
    assert _learn.test_accuracy(model, split.test) == pytest.approx(expected)


def test_compare_puts_rules_side_by_side_and_resumes(tmp_path):
    arguments = ["compare", *RUNS["stream"], "--rules", "rtrl,BPTT", "--chunks", "8"]
    done = rtrl_(*arguments, "--steps", 60, "--out", tmp_path)
    assert done.code == 0, done.err
    found = {run["label"]: run for run in result(tmp_path)["runs"]}
    assert list(found) == ["RTRL, chunk errors, K=8", "TBPTT(8)"]
    assert {run["setup"]["optimizer"] for run in found.values()} == {"adam"}
    for name in (*found, "last value"):
        assert name in done.out
    assert (tmp_path / "curve.png").read_bytes()[:8] == PNG
    assert len({run["figures"]["nrmse"] for run in found.values()}) == 2

    assert len(list(tmp_path.glob("*/state.rtrl"))) == 2
    again = rtrl_(*arguments, "--steps", 60, "--out", tmp_path, "--resume")
    assert again.code == 0, again.err
    assert [r["figures"]["nrmse"] for r in result(tmp_path)["runs"]] == [
        run["figures"]["nrmse"] for run in found.values()
    ]


def test_the_whole_sequence_rule_comes_once(tmp_path):
    from rtrl.cli import _compare

    data = _data.load("parity")
    setups = _compare.variants(_setup.Setup("parity"), data, "RTRL,BPTT", "1,16")
    labels = [(_setup.label(s), s.chunk) for s in setups]
    assert labels == [("RTRL, K=1", 1), ("RTRL, chunk errors, K=16", 16), ("BPTT", None)]
    kalman = _compare.variants(_setup.Setup("laser"), _data.load("laser"), None, None)
    assert [(s.rule, s.optimizer) for s in kalman] == [
        ("RTRL", "kalman"), ("Truncated", "kalman"), ("Spatial", "kalman"),
    ]  # fmt: skip


def test_scalars_go_to_tensorboard_if_it_is_there(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, name, value, step):
            written.append((self.folder, name, step, value))

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    out = tmp_path / "out"
    done = rtrl_("train", *RUNS["sequences"], "--steps", 2, "--out", out, "--tensorboard")
    assert done.code == 0
    assert written.pop() == "closed"
    assert [w[:3] for w in written] == [
        (str(out), name, step) for step in (1, 2) for name in ("loss", "accuracy")
    ]
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    missing = rtrl_("train", *RUNS["sequences"], "--out", out, "--tensorboard")
    assert missing.code == 2 and "--tensorboard" in missing.err and "pip install" in missing.err


# Stream -----------------------------------------------------------------------------------------


def start(*arguments: object, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "rtrl", *map(str, arguments)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment, bufsize=1, **options,
    )  # fmt: skip


SMALL = ["--target", "speed", "--horizon", "3", "--warmup", "20", *TINY]


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


def with_input(text: str, *arguments: object) -> SimpleNamespace:
    before, sys.stdin = sys.stdin, io.StringIO(text)
    try:
        return rtrl_(*arguments)
    finally:
        sys.stdin = before


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


FORECAST = ["--target", "speed", "--horizon", "3"]


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


# Signals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_breaks_off_the_waiting_and_nothing_else(number):
    def rows():
        yield "first"
        os.kill(os.getpid(), number)  # while the next is waited for
        time.sleep(10)
        yield "never"

    before = signal.getsignal(number)
    with Stop() as stop:
        assert list(stop.items(rows())) == ["first"] and stop.requested
    with Stop() as stop:
        got = []
        for item in stop.items(iter("abc")):
            if item == "b":
                os.kill(os.getpid(), number)  # in the middle of the work on an item
            got.append(item)
        assert got == ["a", "b"] and stop.requested
    assert signal.getsignal(number) is before


def test_a_stopped_training_is_saved_and_goes_on(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert rtrl_("train", *RUNS["sequences"], "--steps", 6, "--out", whole).code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_train, "live", lambda data, run: stop_at(run.done == 3))
        done = rtrl_("train", *RUNS["sequences"], "--steps", 6, "--out", parts)
    assert done.code == 0 and "--resume" in done.err
    assert result(parts)["runs"][0]["steps"] == 3 and not result(parts)["runs"][0]["finished"]
    assert rtrl_("train", *RUNS["sequences"], "--steps", 6, "--out", parts, "--resume").code == 0
    assert leaves(whole) == leaves(parts)


def stop_at(now: bool) -> str:
    if now:
        os.kill(os.getpid(), signal.SIGTERM)
    return ""


# Inspect ----------------------------------------------------------------------------------------


def test_inspect_shows_what_is_in_a_state(tmp_path):
    assert rtrl_("train", *RUNS["sequences"], "--steps", 2, "--out", tmp_path).code == 0
    shown = rtrl_("inspect", tmp_path)
    assert shown.code == 0
    setup = _setup.Setup(**result(tmp_path)["runs"][0]["setup"])
    model = _setup.build_model(setup, 8, 14)
    total = sum(a.size for a in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    assert f"Parameters: {total:,}" in shown.out
    for word in ("Timescales of layer 1 (LRU)", "traces", "optimizer", "hidden states", "kB"):
        assert word in shown.out
    bars = re.findall(r"timesteps .*?(\d+)$", shown.out, re.M)
    assert sum(map(int, bars)) == 4  # one for each module


def test_inspect_diagnoses_on_the_data_that_was_learned(tmp_path):
    file = log_file(tmp_path)
    arguments = ["stream", file, "--target", "speed", *TINY, "--out", tmp_path]
    assert rtrl_(*arguments).code == 0
    shown = rtrl_("inspect", tmp_path, "--data", file, "--window", 64)
    assert shown.code == 0, shown.err
    for word in ("Diagnosis on", "Window: 64 timesteps", "best constant", "layers[0] (LRU) over"):
        assert word in shown.out
    assert "window elsewhere" not in shown.out  # it ends where the state is
    assert (tmp_path / "diagnosis.png").read_bytes().startswith(PNG)
    refused = rtrl_("inspect", tmp_path, "--data", tmp_path / "none.csv")
    assert refused.code == 2 and "Traceback" not in refused.err
    refused = rtrl_("inspect", tmp_path, "--data", "copying")  # not what it learned
    assert refused.code == 2 and "copying" in refused.err, refused.err


def test_timescales_are_those_of_the_decays():
    lru = rtrl.cells.LRU(3, 6, r_min=0.5, r_max=0.99, key=jax.random.key(0))
    found = _inspect.timescales(lru, lru.initial(), 3)
    expected = np.sort(1 / np.exp(np.asarray(lru.nu_log)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    leaky = rtrl.cells.LeakyIntegrator(2, 5, key=jax.random.key(1))
    slow = _inspect.timescales(leaky, leaky.initial(), 2)
    assert slow.shape == (5,) and (0 < slow).all() and np.isfinite(slow).all()
    batched = jnp.tile(leaky.initial(), (3, 1))
    np.testing.assert_array_equal(_inspect.timescales(leaky, batched, 2), slow)
    counts = _inspect.histogram(np.array([0.5, 1.0, 2.9, 5000.0, np.inf]))
    assert [n for _, n in counts] == [1, 2, 0, 0, 0, 0, 0, 2]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_a_bar_with_the_metric_and_the_speed(width):
    from rich.console import Console

    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width)
    with _progress.progress(console, "digits, RTRL, K=16", 10, 0, "batches") as bar:
        for done in range(1, 11):
            bar.update(done, f"accuracy 0.{done}")
            time.sleep(0.002)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue()).strip().splitlines()[-1]
    assert "10/10" in last and "accuracy 0.10" in last and re.search(r"  [\d,]+/s", last)
    assert 0 < bar.speed(10) < 1 / 0.002


# Scores, tables, pictures -----------------------------------------------------------------------


def test_the_score_stays_small_and_survives_a_file():
    rng = np.random.default_rng(0)
    ys, ps = rng.normal(size=(2, 5000, 1))
    whole, parts = _score.Score(2, 100), _score.Score(2, 100)
    for t in range(5000):
        y = ys[t] if t >= 2 else None
        whole.add(t + 1, ps[t], y)
        if t == 1234:
            saved = {k: np.array(v) for k, v in parts.arrays().items()}
            parts = _score.Score.restore(2, 100, saved, list(parts.history), parts.every)
        parts.add(t + 1, ps[t], y)
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


# Mistakes ---------------------------------------------------------------------------------------


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
