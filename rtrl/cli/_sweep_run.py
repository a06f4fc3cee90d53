"""One run of a sweep: learned, judged on its part of the data, written as JSON."""

import dataclasses
import functools
import hashlib
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rtrl.cli import _report, _state
from rtrl.cli._data import Data, load
from rtrl.cli._errors import refuse
from rtrl.cli._names import is_file
from rtrl.cli._setup import Setup, as_dict, label
from rtrl.cli._signals import Stop
from rtrl.cli._train import resume, run_length, train
from rtrl.tasks import Examples, Split, Stream

RUNS, WORK = "runs", "work"
TEST, VALIDATION = "test", "validation"
LEAST = 3  # timesteps to choose on: an error of their second half needs two


class Job(NamedTuple):
    """A run to be made.

    Attributes:
        setup: complete.
        part: `TEST`, or `VALIDATION` for one that chooses a rate.
        steps, epochs: its length, as given.
        share: of the data that is for validation.
        digest: of a file that is learned from, else "".
    """

    setup: Setup
    part: str
    steps: int | None
    epochs: int | None
    share: float
    digest: str = ""

    def identity(self) -> dict[str, Any]:
        """Everything that decides what comes out."""
        share = self.share if self.part == VALIDATION else None
        return {
            "setup": as_dict(self.setup),
            "part": self.part,
            "steps": self.steps,
            "epochs": self.epochs,
            "validation": share,
            "data": self.digest,
        }

    @property
    def name(self) -> str:
        """Of its file: what a person looks for, and a digest of all that decides what comes out."""
        text = json.dumps(self.identity(), sort_keys=True)
        words = [label(self.setup), self.setup.cell, f"lr {self.setup.lr}" if self.setup.lr else "",
                 f"seed {self.setup.seed}", self.part]  # fmt: skip
        plain = re.sub(r"[^a-z0-9.]+", "-", " ".join(map(str, filter(None, words))).lower())
        return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def file_of(folder: Path, job: Job) -> Path:
    return folder / RUNS / f"{job.name}.json"


def data_of(setup: Setup) -> Data:
    """What a setup learns from; the last one is kept."""
    return _loaded(json.dumps([setup.task, setup.horizon, setup.target, setup.batch or 16,
                               setup.settings]))  # fmt: skip


@functools.lru_cache(maxsize=1)
def _loaded(text: str) -> Data:
    task, horizon, target, batch, settings = json.loads(text)
    return load(task, horizon=horizon, target=target, batch=batch, settings=settings)


def digest_of(task: str) -> str:
    """Of a file's bytes, so that another file of the same name is learned anew."""
    return hashlib.sha256(Path(task).read_bytes()).hexdigest() if is_file(task) else ""


def part_of(job: Job) -> Data:
    """What a run learns and is judged on."""
    data = data_of(job.setup)
    return data if job.part == TEST else validation_part(data, job.share, job.steps)


def validation_part(data: Data, share: float, steps: int | None) -> Data:
    """What rates are chosen on, of which nothing is reported.

    Of the timesteps of a stream that are learned the first, as far as all targets lie in them (the
    second half of those that are learned is reported); of a labelled set a share of the
    sequences to learn from (every so many), or the part that the set itself names; of fresh
    sequences the same: by the seed that rates are chosen with they are other ones.
    """
    if data.kind == "stream":
        learned = min(steps or len(data.content.xs), len(data.content.xs))
        length = int(share * learned) - data.horizon
        if length < LEAST:
            refuse("lr", f"one rate, as of {learned} timesteps fewer than {LEAST} are left to "
                   "choose on", "several")  # fmt: skip
        part: Any = Stream(data.content.xs[:length], data.content.ys[:length])
    elif data.kind == "labelled":
        train, named = data.content.train, data.content.validation
        held = np.arange(len(train)) % max(round(1 / share), 2) == 0
        part = Split(_some(train, ~held), _some(train, held)) if named is None else Split(
            train, named)  # fmt: skip
    else:
        part = data.content
    return data._replace(content=part)


def _some(examples: Examples, chosen: np.ndarray) -> Examples:
    numbers = np.flatnonzero(chosen)
    return dataclasses.replace(
        examples,
        labels=examples.labels[numbers],
        lengths=examples.lengths[numbers],
        read=lambda i: examples.read(int(numbers[i])),
    )


def length_of(job: Job, data: Data) -> int:
    """How long a run is; rates are chosen on the whole of the part for it."""
    steps = job.steps
    if job.part == VALIDATION and data.kind == "stream":
        steps = len(data.content.xs)
    return run_length(data, job.setup, steps, job.epochs)


def run(job: Job, folder: Path, stop: Stop) -> bool:
    """Make a run that is not there yet; whether it is there now.

    The file of it comes into being whole, and last: before, there is a state to go on from.
    """
    file, work = file_of(folder, job), folder / WORK / job.name
    data = part_of(job)
    work.mkdir(parents=True, exist_ok=True)
    about, earlier = None, 0.0
    if (work / _state.STATE).exists():
        about = resume(work / _state.STATE, job.setup)[1]
        earlier = about.get("seconds", 0.0)
    began, scalars = time.monotonic(), _report.Scalars(None)
    with np.errstate(all="ignore"):
        done = train(job.setup, data, length_of(job, data), work, about=about, stop=stop,
                     console=_silent(), scalars=scalars)  # fmt: skip
    if not done.finished:
        return False
    file.parent.mkdir(exist_ok=True)
    _report.write_json(
        file,
        {
            **job.identity(),
            "label": label(job.setup),
            "metric": data.metric,
            "figures": done.figures,
            "seconds": earlier + time.monotonic() - began,
            "versions": _report.versions(),
            "history": done.run.history,
        },
    )
    shutil.rmtree(work)
    return True


def _silent() -> Any:
    from rich.console import Console

    return Console(quiet=True)
