"""``rtrl train`` and ``rtrl compare``: runs, resumed and reported."""

import sys
from types import SimpleNamespace

import injected_faults as faults
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import PNG, RUNS, STEPS, TINY, leaves, log_file, result, rtrl_

import rtrl
from rtrl import tables, tasks
from rtrl.cli import (
    _data,
    _setup,
    _state,
)


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


@pytest.mark.parametrize("optimizer", ["adam", "kalman"])
def test_a_stream_by_either_optimizer_goes_back_to_good_parameters(optimizer):
    """Measured with every fault of a stream: `bench/results/faults_divergence.json`."""
    guard = faults.command_line(optimizer, width=4, hidden=4).learner.learner.guard
    assert guard.divergence == 100
    model = rtrl.SequenceModel(1, 1, 4, 1, lambda n, key: rtrl.cells.LRU(n, 4, key=key),
                               key=jax.random.key(0))  # fmt: skip
    others = _setup.build_learner(_setup.Setup("digits"), "labelled", _data.cross_entropy, model)
    assert others.guard.divergence is None


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
    chunks = "RTRL, chunk errors, K=16, overlap 16"
    assert labels == [("RTRL, K=1", 1), (chunks, 16), ("BPTT", None)]
    setups = _compare.variants(_setup.Setup("parity", overlap=4), data, "RTRL,Truncated,BPTT", "8")
    labels = [(_setup.label(s), s.overlap) for s in setups]
    assert labels == [
        ("RTRL, chunk errors, K=8, overlap 4", 4), ("Truncated, K=8", 0), ("BPTT", 0),
    ]  # fmt: skip
    kalman = _compare.variants(_setup.Setup("laser"), _data.load("laser"), None, None)
    assert [(s.rule, s.optimizer) for s in kalman] == [
        ("RTRL", "kalman"), ("Truncated", "kalman"), ("Spatial", "kalman"),
    ]  # fmt: skip


def test_an_overlap_is_the_default_where_it_gives_credit():
    stream = _data.load("henon", settings={"length": 120})
    rows = _data.load("digits", settings={"by": "rows"})  # sequences of 8 timesteps
    parity = _data.load("parity")

    def overlap(data, **given):
        return _setup.complete(_setup.Setup(data.task.name, **given), data).overlap

    assert overlap(stream, lr=0.01) == 16 == overlap(stream, chunk=64) == overlap(parity)
    assert overlap(stream, chunk=5) == 5
    assert overlap(stream, rule="BPTT") == 16  # rolling, so that rules compare at one window
    assert overlap(rows, chunk=7) == 7
    nothing = [(stream, {}), (stream, {"chunk": 1, "lr": 0.01}), (stream, {"depth": 1, "lr": 0.01}),
               (stream, {"rule": "Truncated", "lr": 0.01}), (parity, {"rule": "BPTT"}),
               (rows, {}), (rows, {"chunk": 8}), (stream, {"overlap": 0, "lr": 0.01})]  # fmt: skip
    assert [overlap(data, **given) for data, given in nothing] == [0] * len(nothing)
    assert overlap(rows, overlap=3) == 3  # what is given stays


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
