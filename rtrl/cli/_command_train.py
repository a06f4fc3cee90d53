"""``rtrl train``: its options."""

from rtrl.cli._given import command_line, refuse_of_files, setup_of
from rtrl.cli._options import (
    As,
    Batch,
    Board,
    Calendar,
    Cell,
    Chunk,
    Decimal,
    Depth,
    Drop,
    Elapsed,
    Encoding,
    Epochs,
    Features,
    Gaps,
    Goal,
    Header,
    Hidden,
    Horizon,
    Learner,
    Look,
    Missing,
    Optimizer,
    Out,
    Overlap,
    Rate,
    Resume,
    Rule,
    Seed,
    Separator,
    Settings,
    Steps,
    Target,
    TaskName,
    Time,
    Warmup,
    Width,
)


def train(
    task: TaskName,
    seed: Seed = None,
    cell: Cell = None,
    rule: Rule = None,
    chunk: Chunk = None,
    overlap: Overlap = None,
    depth: Depth = None,
    hidden: Hidden = None,
    width: Width = None,
    optimizer: Optimizer = None,
    lr: Rate = None,
    batch: Batch = None,
    steps: Steps = None,
    epochs: Epochs = None,
    horizon: Horizon = None,
    warmup: Warmup = None,
    learner: Learner = None,
    goal: Goal = None,
    target: Target = None,
    features: Features = None,
    drop: Drop = None,
    kinds: As = None,
    header: Header = None,
    encoding: Encoding = None,
    separator: Separator = None,
    decimal: Decimal = None,
    missing: Missing = None,
    time: Time = None,
    calendar: Calendar = None,
    elapsed: Elapsed = False,
    gaps: Gaps = None,
    look: Look = None,
    settings: Settings = None,
    out: Out = None,
    resume: Resume = False,
    tensorboard: Board = False,
) -> None:
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

    setup = setup_of(locals())
    refuse_of_files(setup, locals())
    command(setup, settings, out, resume, tensorboard, steps, epochs, command_line())
