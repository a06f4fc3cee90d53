"""``rtrl sweep``: every combination once, rates chosen where nothing is reported of."""

import dataclasses
import json
import queue
import signal
import sys
import threading
import time

import numpy as np
import pytest
from command_line import PNG, result, rtrl_, start
from test_cli_stops import stop_at

from rtrl import tasks
from rtrl.cli import _data, _setup, _state, _sweep_jobs, _sweep_run, _train
from rtrl.cli._errors import UsageError
from rtrl.cli._learn import Done, Run
from rtrl.cli._signals import Stop
from rtrl.cli._sweep_file import CHOOSING_SEED
from rtrl.cli._sweep_report import rank

SMALL = """
task = "henon"
optimizer = "adam"
width = 4
hidden = 4
depth = 1
warmup = 20
[set]
length = 120
"""
#: Two settings (an overlap is nothing to Spatial), two rates, two seeds.
SWEEP = """
lr = [0.003, 0.01]
seed = [0, 1]
""" + SMALL + """
[[runs]]
chunk = 8
[[runs]]
rule = "spatial"
chunk = 8
overlap = [0, 8]
"""  # fmt: skip

JOB = _sweep_run.Job(_setup.Setup("henon", rule="RTRL", chunk=8), "test", 5, None, 0.25)


def written(folder, text):
    (folder / "small.toml").write_text(text)
    return ["sweep", folder / "small.toml", "--out", folder / "out"]


def runs_of(folder):
    return {f.name: json.loads(f.read_text()) for f in (folder / "out" / "runs").glob("*.json")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("chunks = 3", "got 'chunks'"),
        ("[[runs]]\nsteps = 3", "got 'steps'"),
        ("[[runs]]\nchunk = [16, 0]", "chunk: expected an integer of at least 1, got 0"),
        ("[[runs]]\noverlap = true", "overlap: expected an integer"),
        ("[[runs]]\nlr = [-1.0]", "lr: expected a positive number"),
        ("[[runs]]\nseed = []", "seed: expected at least one value"),
        (f"[[runs]]\nseed = {CHOOSING_SEED}", "seed: expected another one"),
        ("[[runs]]\nrule = 'RTLR'", "rule: expected one of BPTT"),
        ("[[runs]]\ncell = 'LRV'", "cell: expected one of BlockDiagonal"),
        ("[[runs]]\ncell = 3", "cell: expected a name"),
        ("[runs]\nchunk = 3", "runs: expected tables"),
        ("[[runs]", "is no TOML"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(text, says, tmp_path):
    # A key outside tables goes before those.
    body = text + "\n" + SMALL if "[" not in text else SMALL + text
    done = rtrl_(*written(tmp_path, body))
    assert done.code == 2 and says in done.err, done.err
    assert not (tmp_path / "out" / "runs").exists()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("task = 3", "task: expected a name"),
        ("task = 'hennon'", "TASK: expected one of"),
        ("task = 'henon'\nsteps = 0", "steps: expected an integer"),
        ("task = 'henon'\nvalidation = 0.7", "validation: expected a share"),
        ("task = 'henon'\ntarget = 3", "target: expected a column"),
        ("task = 'henon'\nset = 3", "set: expected a table"),
        ("task = 'henon'\nsteps = 100000", "at most"),
        ("task = 'henon'\nlr = [0.1, 0.2]\nsteps = 1_000_000_000", "--steps: expected at most"),
        ("task = 'henon'\nlr = [0.1, 0.2]\nsteps = 15", "of 15 timesteps fewer than 3 are left"),
        ("task = 'henon'\n[set]\nlength = 1979-05-27", "set.length: expected a number"),
        ("task = 'henon'\n[set]\nlength = [[07:32:00]]", "set.length: expected a number"),
    ],
)
def test_keys_of_the_whole_are_checked(line, says, tmp_path):
    done = rtrl_(*written(tmp_path, line))
    assert done.code == 2 and says in done.err, done.err
    assert not (tmp_path / "out" / "runs").exists()  # nothing was learned before


class Killed(BaseException):
    pass


@pytest.fixture
def trained(monkeypatch):
    """A training that only counts; the larger rate does better where rates are chosen."""
    calls = []

    def train(setup, data, steps, folder, *, about, **rest):
        calls.append((setup.rule, setup.lr, setup.seed, steps))
        validation = setup.seed == CHOOSING_SEED
        value = (setup.lr if not validation else 1 / setup.lr) + (setup.seed % 10)
        run = Run(None, steps, [{"step": steps, "nrmse": value}])
        return Done(setup, run, {"nrmse": value}, True)

    monkeypatch.setattr(_sweep_run, "train", train)
    return calls


def test_rates_are_chosen_on_validation_and_every_run_is_made_once(tmp_path, trained):
    done = rtrl_(*written(tmp_path, SWEEP))
    assert done.code == 0, done.err
    # The first quarter of the timesteps, as far as its targets lie in it.
    steps = 120 // 4 - 1
    expected = {
        (rule, *rest)
        for rule in ("RTRL", "Spatial")
        for rest in [(0.003, CHOOSING_SEED, steps), (0.01, CHOOSING_SEED, steps), (0.01, 0, 120),
                     (0.01, 1, 120)]
    }  # fmt: skip
    assert set(trained) == expected and len(trained) == len(expected)
    settings = result(tmp_path / "out")["settings"]
    assert [(s["rate"], s["figures"]) for s in settings] == [(0.01, [0.01, 1.01])] * 2
    assert settings[0]["mean"] == pytest.approx(0.51)
    assert settings[0]["spread"] == pytest.approx(np.std([0.01, 1.01], ddof=1))
    text = (tmp_path / "out" / "table.md").read_text()
    assert "0.5100" in text and "0.7071" in text and text in done.out
    assert (tmp_path / "out" / "sweep.png").read_bytes()[:8] == PNG
    trained.clear()
    assert rtrl_(*written(tmp_path, SWEEP)).code == 0 and trained == []
    # Another rate asks for two more runs, and for no other one, as it is worse.
    assert rtrl_(*written(tmp_path, SWEEP.replace("[0.003,", "[0.001, 0.003,"))).code == 0
    assert {(lr, seed) for _, lr, seed, _ in trained} == {(0.001, CHOOSING_SEED)}


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_write_loses_no_run_and_makes_none_twice(
    after, tmp_path, trained, monkeypatch
):
    write, killed = _sweep_run._report.write_json, set()

    def dying(path, content):
        first = path.parent.name == "runs" and path.name not in killed
        killed.add(path.name)
        if first and not after:
            path.with_name(f".{path.name}.1").write_text("{")  # half a file
            raise Killed
        write(path, content)
        if first:
            raise Killed

    monkeypatch.setattr(_sweep_run._report, "write_json", dying)
    deaths = 0
    while True:
        try:
            done = rtrl_(*written(tmp_path, SWEEP))
            break
        except Killed:
            deaths += 1
    assert done.code == 0 and deaths == 8 == len(runs_of(tmp_path))
    assert len(trained) == (8 if after else 16) and len(set(trained)) == 8
    assert not list((tmp_path / "out" / "runs").glob(".*"))


def test_what_decides_a_run_is_in_its_name(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    digests = [_sweep_run.digest_of(str(tmp_path / "a.csv")), _sweep_run.digest_of("henon")]
    (tmp_path / "a.csv").write_text("x\n2\n")
    digests.append(_sweep_run.digest_of(str(tmp_path / "a.csv")))
    assert len(set(digests)) == 3 and digests[1] == ""
    others = [JOB._replace(digest="a"), JOB._replace(steps=6), JOB._replace(part="validation"),
              JOB._replace(setup=dataclasses.replace(JOB.setup, width=3))]  # fmt: skip
    assert len({one.name for one in [JOB, *others]}) == 5
    assert JOB._replace(share=0.5).name == JOB.name  # of what is reported it decides nothing


def test_the_best_is_the_most_accurate_or_the_least_wrong():
    nan = float("nan")
    assert sorted([0.3, nan, 0.2], key=lambda v: rank(v, "nrmse"))[:2] == [0.2, 0.3]
    assert sorted([0.3, nan, 0.2], key=lambda v: rank(v, "accuracy"))[:2] == [0.3, 0.2]


def test_a_run_that_is_stopped_goes_on_and_is_that_of_train(tmp_path):
    options = SMALL.replace("[set]", "chunk = 8\noverlap = 8\nlr = 0.01\n[set]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_train, "live", lambda data, run: stop_at(run.done == 50))
        done = rtrl_(*written(tmp_path, options))
    assert done.code == 0 and "0 of 1 runs" in done.err and "the same command" in done.err
    assert runs_of(tmp_path) == {}
    (work,) = (tmp_path / "out" / "work").iterdir()
    stopped = _state.read_about(work / _state.STATE)["seconds"]
    assert rtrl_(*written(tmp_path, options)).code == 0
    (run,) = runs_of(tmp_path).values()
    one = "henon --chunk 8 --overlap 8 --lr 0.01 --width 4 --hidden 4 --depth 1 --warmup 20"
    arguments = [*one.split(), "--optimizer", "adam", "--set", "length=120"]
    assert rtrl_("train", *arguments, "--out", tmp_path / "alone").code == 0
    alone = result(tmp_path / "alone")["runs"][0]
    assert run["figures"]["nrmse"] == alone["figures"]["nrmse"]
    assert run["history"] == alone["history"] and run["setup"] == alone["setup"]
    assert run["seconds"] > stopped > 0
    assert not list((tmp_path / "out" / "work").iterdir())


def test_processes_that_are_killed_leave_whole_runs(tmp_path):
    text = "chunk = 8\noverlap = 8\nlr = 0.01\nseed = [0, 1, 2]\n" + SMALL
    command = written(tmp_path, text)
    process = start(*command, "--jobs", 2)
    runs = tmp_path / "out" / "runs"
    for _ in range(600):
        if list(runs.glob("*.json")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(0.5)  # its processes end with it
    before = {file: file.stat().st_mtime_ns for file in runs.glob("*.json")}
    assert before
    done = rtrl_(*command)
    assert done.code == 0, done.err
    assert {file: file.stat().st_mtime_ns for file in before} == before
    found = runs_of(tmp_path)
    assert sorted(run["setup"]["seed"] for run in found.values()) == [0, 1, 2]
    assert len(result(tmp_path / "out")["settings"][0]["figures"]) == 3


def test_processes_that_end_without_their_runs_are_not_waited_for(tmp_path, monkeypatch):
    # As one does that alone was asked to stop: it ends with 0, and hands nothing back.
    monkeypatch.setattr(_sweep_jobs, "_work", print)
    stop = Stop()
    end = threading.Timer(30, setattr, [stop, "requested", True])
    end.start()
    with pytest.raises(UsageError, match="--jobs: the process of a run was stopped; the same"):
        list(_sweep_jobs.run_all([JOB, JOB._replace(steps=6)], tmp_path, 2, stop))
    end.cancel()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (UsageError("chunk: no"), "chunk: no"),
        (
            MemoryError("of 3 GB"),
            f"--jobs: {JOB.name}: MemoryError: of 3 GB (--jobs 1 shows where)",
        ),
    ],
)
def test_what_goes_wrong_in_a_process_is_handed_back(error, says, tmp_path, monkeypatch):
    def run(job, folder, stop):
        raise error

    monkeypatch.setattr(_sweep_jobs, "run", run)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    waiting, done = queue.Queue(), queue.Queue()
    waiting.put((7, JOB))
    _sweep_jobs._work(tmp_path, waiting, done)
    sys.stderr.close()  # the process has its own
    assert done.get_nowait() == (7, says)


@pytest.mark.parametrize("steps", [200, 201, 2_000, None])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_rates_are_chosen_on_timesteps_before_those_reported(steps, share):
    setup = _setup.Setup("henon", settings={"length": 2_000})
    job = _sweep_run.Job(setup, "test", steps, None, share)
    judged = _sweep_run.part_of(job)
    chosen = _sweep_run.part_of(job._replace(part="validation"))
    learned = _sweep_run.length_of(job, judged)
    assert learned == (steps or 2_000)
    length = _sweep_run.length_of(job._replace(part="validation"), chosen)
    assert length == len(chosen.content.xs) == int(share * learned) - 1
    reported = judged.content.series(1)[learned // 2 : learned + 1]
    assert not np.isin(chosen.content.ys, reported).any()
    assert not np.isin(chosen.content.xs, reported).any()


def test_rates_are_chosen_on_data_that_are_not_reported_of():
    data = _data.load("henon", settings={"length": 120})
    part = _sweep_run.validation_part(data, 0.25, None)
    series = data.content.series(1)
    # Of the series only the first quarter is in it, inputs and targets.
    assert np.isin(part.content.ys, series[: 120 // 4]).all()
    assert np.isin(part.content.xs, series[: 120 // 4]).all()
    assert len(part.content.xs) == 120 // 4 - 1  # what is judged is the second half

    data = _data.load("digits", settings={"by": "rows"})
    part = _sweep_run.validation_part(data, 0.25, None).content
    train = data.content.train

    def contents(examples):
        return [examples.read(i).tobytes() for i in range(len(examples))]

    assert sorted(contents(part.train) + contents(part.test)) == sorted(contents(train))
    assert len(part.test) == -(-len(train) // 4)
    assert contents(part.test) == [train.read(i).tobytes() for i in range(0, len(train), 4)]
    assert part.test.labels.tolist() == train.labels[::4].tolist()
    split = data.content._replace(validation=dataclasses.replace(train))  # a part named so
    chosen = _sweep_run.validation_part(data._replace(content=split), 0.25, None).content
    assert chosen == tasks.Split(train, split.validation)

    data = _data.load("copying", batch=2, settings={"pattern": 2, "padding": 1})
    assert _sweep_run.validation_part(data, 0.25, None).content is data.content
    drawn = [data.content([seed, 0], 64).xs for seed in (0, 0, CHOOSING_SEED)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
