"""Learn a real stream online, in one pass, and hold the result against other methods.

1. The intensity of a chaotic laser (Santa Fe data set A, 10,093 real samples) is forecast one
   sample ahead: the network predicts, then learns from the sample that arrives, and meets no
   sample twice. Its scale is that of the first 500 samples, as for the methods of step 2: these
   samples are held until it is known, then go first, and count in no error that is shown.
2. The same stream goes through simple online predictors: the last value, linear regression on 10
   lags, and an echo state network of 200 units; and through the same network with rules that
   carry no trace.
3. Every learning rule's gradient is compared with that of backpropagation through time (BPTT),
   layer by layer of a deeper network, on a stretch of the laser. The cosine is 1 where the two
   point in the same direction.
4. A picture shows prediction against truth, and the error over the pass.

Errors are NRMSE: root mean squared error over the standard deviation of the second half of the
stream, in the data's own units. The mean would score 1; 0 is perfect.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

import rtrl
from rtrl.tasks import baselines, santafe

if TYPE_CHECKING:
    from rich.console import Console

HELD = baselines.WARMUP  # samples that set the scale
SLICE = 348  # timesteps per call: 29 calls make the 10,092 of the laser, so only one compilation
WINDOW = 500  # timesteps in the running error
QUICK = 3 * SLICE  # timesteps with --quick

BASELINES: dict[str, Callable[..., np.ndarray]] = {
    "persistence (last value)": baselines.persistence,
    "online RLS on 10 lags": baselines.rls_lags,
    "echo state network, 200 units": baselines.esn,
}
RULES: dict[str, tuple[rtrl.rules.Rule, int]] = {  # rule, timesteps per chunk
    "RTRL, K=1 (the paper)": (rtrl.RTRL(), 1),
    "RTRL, chunk errors, K=16": (rtrl.RTRL(errors="chunk"), 16),
    "RTRL, chunk errors, K=64": (rtrl.RTRL(errors="chunk"), 64),
    "truncated to one step": (rtrl.Truncated(), 1),
    "spatial": (rtrl.Spatial(), 1),
    "TBPTT(16), no trace": (rtrl.BPTT(), 16),
}
WITHOUT_TRACE: dict[str, rtrl.rules.Rule] = {
    "the same network, truncated": rtrl.Truncated(),
    "the same network, spatial": rtrl.Spatial(),
}


def squared_error(prediction: Array, target: Array) -> Array:
    return 0.5 * jnp.sum((prediction - target) ** 2)


def network(width: int, depth: int, key: PRNGKeyArray) -> rtrl.SequenceModel:
    return rtrl.SequenceModel(
        in_size=1,
        out_size=1,
        width=width,
        depth=depth,
        cell=lambda size, key: rtrl.cells.LRU(size, width, key=key),
        key=key,
    )


def laser_learner(
    key: PRNGKeyArray, rule: rtrl.rules.Rule
) -> tuple[rtrl.SequenceModel, rtrl.OnlineLearner]:
    """Give the network and the learner of the laser, for standardised inputs and targets.

    A single layer of 16 modules; its gradient goes to a Kalman filter over all parameters, which
    has no learning rate to choose and makes the most of a single pass.
    """
    model = rtrl.SequenceModel(
        in_size=1,
        out_size=1,
        width=16,
        depth=1,
        cell=lambda size, key: rtrl.cells.LRU(size, 16, key=key),
        norm=None,
        glu="half1",
        key=key,
    )
    optimizer = rtrl.kalman(lambda grads: grads.decoder.bias[0])
    return model, rtrl.OnlineLearner(squared_error, optimizer, rule=rule)


def learn(
    learner: rtrl.OnlineLearner,
    state: rtrl.LearnerState,
    xs: np.ndarray,
    ys: np.ndarray,
    report: Callable[[int, str], None],
) -> tuple[rtrl.LearnerState, np.ndarray]:
    """Predict and learn a stream ``(time, 1)`` in one pass, timestep by timestep.

    No prediction has seen its own target or a later one.

    Returns the learner's state after the pass and the predictions in the data's units.
    """
    mean, deviation = xs[:HELD].mean(), xs[:HELD].std()
    predictions = np.zeros_like(ys)
    rate, first_call = np.nan, 0.0
    for start in range(0, len(xs), SLICE):
        now = slice(start, start + SLICE)
        x, y = (xs[now] - mean) / deviation, (ys[now] - mean) / deviation
        state, out = learner.scan(state, x, y)
        predictions[now] = np.asarray(out.prediction) * deviation + mean
        done = start + len(x)
        if start == 0:
            first_call = time.perf_counter()
        elif len(x) == SLICE:  # a shorter last call compiles again
            rate = (done - SLICE) / (time.perf_counter() - first_call)
        if done > HELD:
            error = running_nrmse(predictions, ys)[done - 1]
            report(done, f"NRMSE {error:.3f}  {rate:,.0f} timesteps/s")
    return state, predictions


def running_nrmse(predictions: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """NRMSE of the last `WINDOW` predictions at every timestep; NaN while samples are held."""
    targets = ys[len(ys) // 2 :].astype(np.float64)
    squared = (predictions.astype(np.float64) - ys)[HELD:, 0] ** 2 / targets.var()
    total = np.concatenate([[0], np.cumsum(squared)])
    last = np.arange(1, len(total))
    first = np.maximum(last - WINDOW, 0)
    running = np.sqrt((total[last] - total[first]) / (last - first))
    return np.concatenate([np.full(HELD, np.nan), running])


def second_half_nrmse(predictions: np.ndarray, ys: np.ndarray) -> float:
    half = len(ys) // 2
    return baselines.nrmse(predictions[half:], ys[half:])


def gradient_cosines(
    model: rtrl.SequenceModel,
    xs: np.ndarray,
    ys: np.ndarray,
    rules: dict[str, tuple[rtrl.rules.Rule, int]],
    report: Callable[[int, str], None],
) -> dict[str, dict[str, float]]:
    """Cosine of every rule's gradient to that of BPTT, by layer; the stream standardised."""
    _, exact = rtrl.sequence_gradient(model, squared_error, xs, ys, rule=rtrl.BPTT())
    cosines = {}
    for done, (name, (rule, chunk)) in enumerate(rules.items(), start=1):
        _, grads = rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rule, chunk=min(chunk, len(xs))
        )
        layers = rtrl.analysis.cosine_by_layer(grads, exact)
        cosines[name] = {layer: float(cosine) for layer, cosine in layers.items()}
        report(done, name)
    return cosines


def carried_bytes(state: rtrl.LearnerState) -> dict[str, int]:
    """Bytes that the learner takes from one timestep to the next."""

    def size(tree: Any) -> int:
        return sum(a.nbytes for a in jax.tree.leaves(eqx.filter(tree, eqx.is_array)))

    return {
        "parameters": size(state.model),
        "optimizer": size((state.opt_state, state.window)),
        "traces": size([carry.trace for carry in state.carry]),
        "hidden states": size([carry.state for carry in state.carry]),
    }


def collapse(series: np.ndarray) -> int:
    """The timestep at which the oscillation of a series ``(time,)`` collapses most."""
    span = 40
    windows = np.lib.stride_tricks.sliding_window_view(series, span)
    swing = np.ptp(windows, axis=1)
    return span + int(np.argmax(swing[:-span] - swing[span:]))


def draw(path: Path, predictions: dict[str, np.ndarray], ys: np.ndarray) -> None:
    """Draw prediction against truth around a collapse, and the error over the pass.

    ``predictions`` of the targets ``ys``, both ``(time, 1)``, by method, ours first.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ours, *others = predictions
    half = len(ys) // 2
    centre = half + collapse(ys[half:, 0])
    stretch = np.arange(max(half, centre - 140), min(len(ys), centre + 80))

    figure = Figure(figsize=(12, 9), layout="constrained")
    top, bottom = figure.subplots(2, 1)
    top.plot(stretch, ys[stretch, 0], color="0.7", lw=5, label="measured")
    top.plot(
        stretch, predictions[ours][stretch, 0], color="C3", lw=1.5,
        label="forecast by rtrl, one sample ahead",
    )  # fmt: skip
    top.set_title("A collapse of the laser in the second half of the stream", size=14)
    top.set_ylabel("intensity (0 to 255)")
    top.set(xlim=(stretch[0], stretch[-1]), ylim=(-20, 310))

    bottom.axvspan(half, len(ys), color="0.95")
    error = second_half_nrmse(predictions[ours], ys)
    settled = np.arange(HELD + WINDOW // 10, len(ys))  # before that too few forecasts to average
    bottom.plot(
        settled, running_nrmse(predictions[ours], ys)[settled], color="C3", lw=2,
        label=f"rtrl: {error:.3f}",
    )  # fmt: skip
    for name, style, colour in zip(others, (":", "--", "-."), ("0.3", "C0", "C2"), strict=True):
        error = second_half_nrmse(predictions[name], ys)
        bottom.axhline(error, color=colour, ls=style, lw=2, label=f"{name}: {error:.3f}")
    bottom.set_title(
        f"Error of rtrl over the last {WINDOW} forecasts as it learns; "
        "numbers and lines: second half (shaded)",
        size=14,
    )
    bottom.set_ylabel("NRMSE (log)")
    bottom.set(xlim=(0, len(ys)), yscale="log")
    bottom.set_ylim(min(0.04, bottom.get_ylim()[0]), 5)
    bottom.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bottom.yaxis.set_minor_locator(NullLocator())
    bottom.grid(axis="y", color="0.85")
    for axes in (top, bottom):
        axes.set_xlabel("sample")
        axes.legend(loc="upper right", ncols=2, fontsize=12)
        axes.tick_params(labelsize=12)
        axes.xaxis.label.set_size(13)
        axes.yaxis.label.set_size(13)
    figure.savefig(path, dpi=100)


@contextmanager
def progress(console: "Console", title: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A live bar on a terminal; elsewhere a line for every tenth of the way."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    note = TextColumn("{task.fields[note]}")
    columns = (TextColumn(title), BarColumn(24), MofNCompleteColumn(), note)
    if console.is_terminal:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total, note="compiling")
            yield lambda done, note: bar.update(task, completed=done, note=note)
        return
    console.print(f"{title}: compiling")
    tenths = 0

    def line(done: int, note: str) -> None:
        nonlocal tenths
        if done * 10 // total > tenths:
            tenths = done * 10 // total
            console.print(f"{title}: {done:,} of {total:,}  {note}")

    yield line


def print_errors(
    console: "Console",
    predictions: dict[str, np.ndarray],
    seconds: dict[str, float],
    ys: np.ndarray,
) -> None:
    from rich.table import Table

    table = Table(title="Forecasting the laser", title_justify="left", box=None, pad_edge=False)
    table.add_column("method")
    for heading in ("NRMSE, second half", "RMSE, raw units", "seconds"):
        table.add_column(heading, justify="right")
    for name, forecast in predictions.items():
        error = second_half_nrmse(forecast, ys)
        raw = error * ys[len(ys) // 2 :].std()
        table.add_row(name, f"{error:.3f}", f"{raw:.1f}", f"{seconds[name]:.1f}")
    console.print(table)
    console.print("(networks that learn: compilation included)")


def print_cosines(console: "Console", cosines: dict[str, dict[str, float]]) -> None:
    from rich.table import Table

    table = Table(
        title="Cosine of each rule's gradient to that of BPTT",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("rule", no_wrap=True)
    for layer in next(iter(cosines.values())):
        index = layer.removeprefix("layers[").removesuffix("]")
        table.add_column(f"layer {int(index) + 1}" if index != layer else layer, justify="right")
    for name, row in cosines.items():
        table.add_row(name, *(f"{cosine:.3f}" for cosine in row.values()))
    console.print(table)


def run(console: "Console", seed: int, out: Path, quick: bool) -> None:
    """Do all that the module's docstring promises; ``out`` is the folder of the picture."""
    from rich.markup import escape

    began = time.perf_counter()
    stream = santafe(horizon=1)
    length = QUICK if quick else len(stream.xs)
    xs, ys = stream.xs[:length], stream.ys[:length]
    mean, deviation = xs[:HELD].mean(), xs[:HELD].std()
    learner_key, network_key = jax.random.split(jax.random.key(seed))

    console.print(
        f"[bold]1. A real laser, {length:,} samples, learned online in one pass[/bold]\n"
        f"Predict the next sample, then learn from it, one timestep at a time.\n"
        f"Scaled as the first {HELD} samples, which count in no error shown."
    )
    start = time.perf_counter()
    with progress(console, "learning", length) as report:
        model, learner = laser_learner(learner_key, rtrl.RTRL())
        state, ours = learn(learner, learner.init(model), xs, ys, report)
    predictions, seconds = {"rtrl": ours}, {"rtrl": time.perf_counter() - start}

    console.print("\n[bold]2. The same stream, other online methods[/bold]")
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
        f"\n[bold]3. Every rule's gradient beside that of BPTT[/bold]\n"
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
    sizes = carried_bytes(state)
    parts = ", ".join(f"{name} {size / 1e3:.1f}" for name, size in sizes.items())
    console.print(
        f"\n[bold]4. The picture:[/bold] {escape(str(picture))}\n\n"
        f"Memory that the learner carries, however long the stream: "
        f"{sum(sizes.values()) / 1e3:.1f} kB\n({parts})\n"
        f"Total time: {time.perf_counter() - began:.0f} s",
        soft_wrap=True,
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m rtrl.demo",
        description=__doc__,
        epilog="It takes about a minute on two cores and needs no network access.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the networks' initial parameters (default 0)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("demo_out"),
        help="folder of the picture laser.png, made if need be (default ./demo_out)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"only {QUICK:,} samples, fewer rules and one layer in step 3, to see that it runs; "
        "the figures mean little",
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
