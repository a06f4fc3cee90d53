"""``rtrl train`` and ``rtrl compare``: from options to the closing table and the picture."""

from pathlib import Path
from typing import Any

import numpy as np

from rtrl.cli import _compare, _report, _state
from rtrl.cli._classes import complete_for
from rtrl.cli._closing import close_runs
from rtrl.cli._closing_classes import close_class_run
from rtrl.cli._data import load
from rtrl.cli._lock import sole_use
from rtrl.cli._progress import error_console, output_console
from rtrl.cli._setup import CLASSIFIER, Setup
from rtrl.cli._signals import Stop
from rtrl.cli._train import resume, run_length, train


def command(
    given: Setup,
    options: dict[str, Any],
    line: str,
    variants: tuple[str | None, str | None] | None = None,
) -> None:
    """``rtrl train``, or with rules and chunks ``rtrl compare``, from options to the picture."""
    go_on, tensorboard = options["resume"], options["tensorboard"]
    steps, epochs = options["steps"], options["epochs"]
    console = error_console()
    folder = _state.folder(options["out"], given.task)
    with sole_use(folder):
        path, about = folder / _state.STATE, None
        setup = given
        if variants is None and go_on:
            setup, about = resume(path, given)
        batch = setup.batch or 16
        data = load(
            setup.task, horizon=setup.horizon, target=setup.target, batch=batch,
            settings=setup.settings,
        )  # fmt: skip
        with Stop() as stop, np.errstate(all="ignore"):
            if variants is not None:
                setups = _compare.variants(setup, data, *variants)
                done = _compare.compare(
                    setups, data, steps, epochs, folder, go_on=go_on, stop=stop, console=console,
                    tensorboard=tensorboard,
                )  # fmt: skip
            else:
                setup, data = complete_for(setup, data)
                length = run_length(data, setup, steps, epochs)
                scalars = _report.Scalars(folder if tensorboard else None)
                if about is None and (previous := _state.keep_previous(path)):
                    _report.note(f"rtrl: the state of an earlier run is now {previous}")
                try:
                    done = [train(setup, data, length, folder, about=about, stop=stop,
                                  console=console, scalars=scalars)]  # fmt: skip
                finally:
                    scalars.close()
        if done[0].setup.learner == CLASSIFIER:
            close_class_run(output_console(), line, data, done[0], folder)
        else:
            close_runs(output_console(), line, data, done, folder, Path(given.task).name)
        if stop.requested:
            console.print(
                f"Stopped; the state is in {folder}. To go on: the same command with --resume",
                soft_wrap=True,
            )
