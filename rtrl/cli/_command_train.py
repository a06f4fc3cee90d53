"""``rtrl train``: its options."""

from typing import Any

from rtrl.cli._given import command_line, refuse_of_files, setup_of
from rtrl.cli._options import ALONE, BOARD, FOLDER, NETWORK, READING, TASK, TaskName, taking


@taking(NETWORK, ALONE, TASK, READING, FOLDER, BOARD)
def train(task: TaskName, **options: Any) -> None:
    """Learn a task online, and hold the result against its floors.

    \b
    rtrl train laser                              predict, then learn, in one pass
    rtrl train laser --horizon 5 --cell MinGRU    another horizon, another cell
    rtrl train log.csv --target speed --horizon 3 a file of your own
    rtrl train log.csv --target state             text: which class comes next
    rtrl train digits --epochs 20 --seed 1        test accuracy after every epoch
    rtrl train copying --steps 2000 --batch 50    fresh sequences without end
    rtrl train digits --epochs 40 --resume        go on where it stopped

    A stream is learned in a single pass, every target revealed only when its time has come. Ctrl-C
    saves and ends; --resume goes on, bit for bit. The folder --out gets state.rtrl, result.json
    and curve.png.
    """
    from rtrl.cli._experiment import command

    setup = setup_of({**options, "task": task})
    refuse_of_files(setup, options)
    command(setup, options, command_line())
