"""Learn real streams online, in one pass, and hold the results against other methods.

1. 1,797 handwritten digits pass by in one stream, a pixel a timestep (115,000 of them), each once.
   The network names the digit at its last pixel, then learns the label. What tells digits apart is
   up to 63 timesteps back: here memory decides. Of the real series and streams that were tried
   (``bench/needs_memory.py``), this is where it decides most; the network's size and the range of
   its eigenvalues were chosen on the order of images of seed 0.
2. The same stream goes through the same network with rules that carry no trace (truncated,
   spatial), and through simple online methods: the digit before, the commonest, linear regression
   on the last ten pixels, an echo state network of 200 units.
3. A chaotic laser (Santa Fe data set A, 10,093 real samples) is forecast one sample ahead by all of
   these: its next sample is in its last few, so a trace is of no use there.
4. Every learning rule's gradient is compared with that of backpropagation through time (BPTT),
   layer by layer of a deeper network, on a stretch of the laser. The cosine is 1 where the two
   point in the same direction.
5. Pictures show the digits and the share of wrong answers over the pass, and the laser's forecast.

The laser's errors are NRMSE: root mean squared error over the standard deviation of the second half
of the stream, in the data's own units. The mean would score 1; 0 is perfect.
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

import rtrl
from rtrl.cli.demo._cosines import RULES, gradient_cosines, network, print_cosines
from rtrl.cli.demo._digits import (
    FLOORS,
    digit_stream,
    digits_learner,
    learn_digits,
    print_wrong,
)
from rtrl.cli.demo._digits_picture import draw_digits
from rtrl.cli.demo._laser import (
    BASELINES,
    HELD,
    QUICK,
    WITHOUT_TRACE,
    carried_bytes,
    laser_learner,
    learn,
    print_errors,
)
from rtrl.cli.demo._picture import draw
from rtrl.cli.demo._progress import progress
from rtrl.tasks import santafe

QUICK_IMAGES = 256  # with --quick

if TYPE_CHECKING:
    from rich.console import Console


def run(console: "Console", seed: int, out: Path, quick: bool) -> None:
    """Do all that the module's docstring promises; ``out`` is the folder of the picture."""
    from rich.markup import escape

    began = time.perf_counter()
    state = run_digits(console, seed, out, quick)
    stream = santafe(horizon=1)
    length = QUICK if quick else len(stream.xs)
    xs, ys = stream.xs[:length], stream.ys[:length]
    mean, deviation = xs[:HELD].mean(), xs[:HELD].std()
    learner_key, network_key = jax.random.split(jax.random.key(seed))

    console.print(
        f"\n[bold]3. A real laser, {length:,} samples, learned online in one pass[/bold]\n"
        f"Predict the next sample, then learn from it, one timestep at a time.\n"
        f"Scaled as the first {HELD} samples, which count in no error shown."
    )
    start = time.perf_counter()
    with progress(console, "learning", length) as report:
        model, learner = laser_learner(learner_key, rtrl.RTRL())
        _, ours = learn(learner, learner.init(model), xs, ys, report)
    predictions, seconds = {"rtrl": ours}, {"rtrl": time.perf_counter() - start}

    for name, method in BASELINES.items():
        start = time.perf_counter()
        predictions[name] = method(np.concatenate([xs, ys[-1:]]), 1)
        seconds[name] = time.perf_counter() - start
    picture_of = dict(predictions)
    for name, rule in ({} if quick else WITHOUT_TRACE).items():
        start = time.perf_counter()
        model, learner = laser_learner(learner_key, rule)
        _, predictions[name] = learn(learner, learner.init(model), xs, ys, lambda *_: None)
        seconds[name] = time.perf_counter() - start
    print_errors(console, predictions, seconds, ys)

    width, depth, steps, rules = 64, 4, 256, RULES
    if quick:
        width, depth, steps, rules = 16, 1, 64, dict(list(RULES.items())[::3])
    console.print(
        f"\n[bold]4. Every rule's gradient beside that of BPTT[/bold]\n"
        f"{steps} samples of the laser; layers: {depth}, as initialised; K timesteps per chunk."
    )
    stretch = slice(length // 2, length // 2 + steps)
    x, y = (xs[stretch] - mean) / deviation, (ys[stretch] - mean) / deviation
    with progress(console, "comparing", len(rules)) as report:
        deep = network(width, depth, key=network_key)
        cosines = gradient_cosines(deep, x, y, rules, report)
    print_cosines(console, cosines)

    picture = out / "laser.png"
    draw(picture, picture_of, ys)
    shown = f"{out / 'digits.png'}, {picture}"
    sizes = carried_bytes(state)
    parts = ", ".join(f"{name} {size / 1e3:.1f}" for name, size in sizes.items())
    console.print(
        f"\n[bold]5. Pictures:[/bold] {escape(shown)}\n\n"
        f"Memory that the learner of the digits carries, however long the stream: "
        f"{sum(sizes.values()) / 1e3:.1f} kB\n({parts})\n"
        f"Total time: {time.perf_counter() - began:.0f} s",
        soft_wrap=True,
    )


def run_digits(console: "Console", seed: int, out: Path, quick: bool) -> rtrl.LearnerState:
    """Steps 1 and 2; gives the learner's state after the first."""
    images, labels = digit_stream(seed)
    if quick:
        images, labels = images[:QUICK_IMAGES], labels[:QUICK_IMAGES]
    console.print(
        f"[bold]1. {len(images):,} handwritten digits, a pixel a timestep, in one pass[/bold]\n"
        "Name the digit at its last pixel, then learn its label, and never see it again."
    )
    answers: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    learned = None
    rules = {"rtrl": rtrl.RTRL(), **({} if quick else WITHOUT_TRACE)}
    for name, rule in rules.items():
        start = time.perf_counter()
        model, learner = digits_learner(jax.random.key(seed), rule)
        with progress(console, name, len(images)) as report:
            state, answers[name] = learn_digits(
                learner, learner.init(model), images, labels, report
            )
        learned = learned or state
        seconds[name] = time.perf_counter() - start
    console.print("\n[bold]2. The same stream, other online methods[/bold]")
    for name, method in FLOORS.items():
        start = time.perf_counter()
        answers[name] = method(images, labels)
        seconds[name] = time.perf_counter() - start
    print_wrong(console, answers, seconds, labels)
    draw_digits(out / "digits.png", images, answers, labels)
    assert learned is not None
    return learned


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m rtrl.cli.demo",
        description=__doc__,
        epilog="It takes about two minutes on two cores and needs no network access.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the networks' initial parameters (default 0)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("demo_out"),
        help="folder of digits.png and laser.png, made if need be (default ./demo_out)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"only {QUICK_IMAGES} images and {QUICK:,} samples, fewer rules and one layer in "
        "step 4, to see that it runs; the figures mean little",
    )
    options = parser.parse_args(arguments)
    try:
        import matplotlib  # noqa: F401
        import reservoirpy  # noqa: F401
        from rich.console import Console
    except ImportError as error:
        parser.exit(
            1,
            f"The demo needs {error.name}, which is not installed. These extras bring it: "
            'pip install "rtrl[cli,tasks]"\n',
        )
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --out: expected a folder that can be made or exists: {error}")
    run(Console(highlight=False), options.seed, options.out, options.quick)


if __name__ == "__main__":
    main()
