"""Runs of a sweep, one after the other or side by side in processes."""

import multiprocessing
import os
import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rtrl.cli._errors import UsageError
from rtrl.cli._signals import Stop
from rtrl.cli._sweep_run import Job, run


def run_all(jobs: list[Job], folder: Path, side_by_side: int, stop: Stop) -> Iterator[Job]:
    """Make every run; each is handed on when its file is there. Ends early if a stop is requested.

    Raises:
        UsageError: a run can't be made, or a process of one was ended.
    """
    if side_by_side == 1 or len(jobs) < 2:
        for job in jobs:
            if stop.requested or not run(job, folder, stop):
                return
            yield job
        return
    yield from _in_processes(jobs, folder, min(side_by_side, len(jobs)), stop)


def _in_processes(jobs: list[Job], folder: Path, count: int, stop: Stop) -> Iterator[Job]:
    context = multiprocessing.get_context("spawn")  # a fork would share JAX's threads
    waiting, done = context.Queue(), context.Queue()
    for number, job in enumerate(jobs):
        waiting.put((number, job))
    for _ in range(count):
        waiting.put(None)
    workers = [context.Process(target=_work, args=(folder, waiting, done)) for _ in range(count)]
    for worker in workers:
        worker.start()
    left = len(jobs)
    try:
        while left and not stop.requested:
            alive = any(worker.is_alive() for worker in workers)  # before: its last is in `done`
            try:
                number, error = done.get(timeout=0.2)
            except queue.Empty:
                _refuse_ended(workers, alive)
                continue
            if error is not None:
                raise UsageError(error)
            left -= 1
            yield jobs[number]
    finally:
        for worker in workers:
            if left:  # it saves what it has, and ends
                worker.terminate()
            worker.join()


def _refuse_ended(workers: list[Any], alive: bool) -> None:
    """Refuse to wait for runs whose processes were killed, or asked to stop without the others."""
    for worker in workers:
        if worker.exitcode not in (None, 0):
            raise UsageError(
                f"--jobs: the process of a run ended with {worker.exitcode} (out of memory?); the "
                "same command goes on."
            )
    if not alive:
        raise UsageError("--jobs: the process of a run was stopped; the same command goes on.")


def _work(folder: Path, waiting: Any, done: Any) -> None:
    """Make runs until none is left, or a stop is requested; mistakes are handed back."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (what a file holds has been told)
    with Stop() as stop:
        while (item := waiting.get()) is not None:
            number, job = item
            try:
                if not run(job, folder, stop):
                    return
            except UsageError as error:
                done.put((number, str(error)))
                return
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                done.put((number, f"--jobs: {job.name}: {text} (--jobs 1 shows where)"))
                return
            done.put((number, None))
            if stop.requested:
                return


def _end_with_parent() -> None:
    """A parent that was killed leaves none behind to write where its successor does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
