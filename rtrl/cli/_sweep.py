"""``rtrl sweep``: rates chosen on one part of the data, every seed judged on another."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rtrl.cli._lock import sole_use
from rtrl.cli._names import find_rule
from rtrl.cli._progress import Bar, error_console, output_console, progress
from rtrl.cli._setup import Setup, complete
from rtrl.cli._signals import Stop
from rtrl.cli._sweep_file import CHOOSING_SEED, Plan, read_plan
from rtrl.cli._sweep_jobs import run_all
from rtrl.cli._sweep_report import close_sweep, figure_of, rank
from rtrl.cli._sweep_run import (
    RUNS,
    TEST,
    VALIDATION,
    Job,
    data_of,
    digest_of,
    file_of,
    length_of,
    part_of,
)


class Setting(NamedTuple):
    """What is compared: a setup but for rate and seed, with those that it is run with."""

    setup: Setup
    rates: list[float | None]
    seeds: list[int]

    def choosing(self, plan: Plan, digest: str) -> list[Job]:
        """The runs that choose a rate; none where there is one rate only."""
        if len(self.rates) < 2:
            return []
        return [self._job(plan, digest, rate, CHOOSING_SEED, VALIDATION) for rate in self.rates]

    def judging(self, plan: Plan, digest: str, rate: float | None) -> list[Job]:
        """The runs that are reported, with the rate chosen."""
        return [self._job(plan, digest, rate, seed, TEST) for seed in self.seeds]

    def _job(self, plan, digest, rate, seed, part) -> Job:
        setup = replace(self.setup, lr=rate, seed=seed)
        return Job(setup, part, plan.steps, plan.epochs, plan.validation, digest)


def sweep(file: Path, folder: Path, side_by_side: int, line: str) -> None:
    """Make every run that is missing, then the table and the picture of all that are there."""
    plan = read_plan(file)
    console = error_console()
    with sole_use(folder), Stop() as stop:
        _remove_abandoned(folder)
        settings = settings_of(plan)
        digest = digest_of(settings[0].setup.task)
        choosing = [job for s in settings for job in s.choosing(plan, digest)]
        for s in settings:
            refuse_lengths([*s.choosing(plan, digest)[:1],
                            *s.judging(plan, digest, s.rates[0])[:1]])  # fmt: skip
        wanted = len(choosing) + sum(len(s.seeds) for s in settings)
        with progress(console, file.stem, wanted, 0, "runs") as bar:
            made = _make(choosing, folder, side_by_side, stop, bar, 0)
            judged = []
            if made == len(choosing):
                judged = [s.judging(plan, digest, best_rate(s.choosing(plan, digest), folder, s))
                          for s in settings]  # fmt: skip
                every = [job for jobs in judged for job in jobs]
                made = _make(every, folder, side_by_side, stop, bar, made)
        if made < wanted:
            console.print(
                f"Stopped after {made} of {wanted} runs, which are in {folder}. To go on: the same "
                "command",
                soft_wrap=True,
            )
            return
        close_sweep(output_console(), line, file.stem, folder, judged)


def settings_of(plan: Plan) -> list[Setting]:
    """What is compared, each once, with all defaults filled in.

    An overlap is left out where a rule has nothing to do with one. Where no optimizer is given it
    is one that all can use, so that only what was asked for differs.
    """
    whole = [_completed(setup) for setup in plan.setups]
    if len({setup.optimizer for setup in whole}) > 1:
        whole = [_completed(replace(s, optimizer=s.optimizer or "adam")) for s in plan.setups]
    found: list[Setting] = []
    for setup in whole:
        common = replace(setup, lr=None, seed=None)
        setting = next((s for s in found if s.setup == common), None)
        if setting is None:
            setting = Setting(common, [], [])
            found.append(setting)
        if setup.lr not in setting.rates:
            setting.rates.append(setup.lr)
        if (seed := setup.seed or 0) not in setting.seeds:
            setting.seeds.append(seed)
    return found


def _completed(setup: Setup) -> Setup:
    rule, data = find_rule(setup.rule or "RTRL"), data_of(setup)
    one_pass = rule.whole_sequence and setup.chunk is None and data.kind != "stream"
    if one_pass or not rule.reaches_back():
        setup = replace(setup, overlap=None)
    return complete(setup, data)


def refuse_lengths(jobs: list[Job]) -> None:
    """Refuse a length that the data have not, before anything is learned."""
    for job in jobs:
        length_of(job, part_of(job))


def best_rate(choosing: list[Job], folder: Path, setting: Setting) -> float | None:
    """The rate whose run on the validation part did best."""
    if not choosing:
        return setting.rates[0]
    return min(choosing, key=lambda job: rank(*figure_of(file_of(folder, job)))).setup.lr


def _make(jobs: list[Job], folder: Path, side_by_side: int, stop: Stop, bar: Bar, made: int) -> int:
    """Make what is missing; how many runs are there then, counted from ``made``."""
    missing = [job for job in jobs if not file_of(folder, job).exists()]
    made += len(jobs) - len(missing)
    bar.update(made, "")
    for job in run_all(missing, folder, side_by_side, stop):
        made += 1
        bar.update(made, job.name.rpartition("-")[0])
    return made


def _remove_abandoned(folder: Path) -> None:
    """What a kill left of a file that was being written."""
    for half in (folder / RUNS).glob(".*.json.*"):
        half.unlink()
