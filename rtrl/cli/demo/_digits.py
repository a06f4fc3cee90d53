"""Handwritten digits as a stream of pixels: who remembers what came 63 timesteps before?"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

import rtrl
from rtrl.cli.demo._laser import squared_error
from rtrl.tasks import digits

if TYPE_CHECKING:
    from rich.console import Console

PIXELS, CLASSES = 64, 10
SLICE = 32  # images per call of the learner
WINDOW = 200  # images in the running share

Images = Float[np.ndarray, "images 64"]
Labels = Int[np.ndarray, " images"]


def digit_stream(seed: int) -> tuple[Images, Labels]:
    """The 1,797 images that scikit-learn ships, in a random order, in whole slices; -1 .. 1."""
    split = digits("pixels")
    parts = [split.train.all(), split.test.all()]
    images = np.concatenate([part.xs[:, :, 0].T for part in parts])
    labels = np.concatenate([part.ys[0] for part in parts])
    order = np.random.default_rng(seed).permutation(len(images) // SLICE * SLICE)
    return 2 * images[order] - 1, labels[order]


def digits_learner(
    key: PRNGKeyArray, rule: rtrl.rules.Rule
) -> tuple[rtrl.SequenceModel, rtrl.OnlineLearner]:
    """Give the network and the learner: one layer of 64 LRU modules, and a Kalman filter."""
    model = rtrl.SequenceModel(
        in_size=1,
        out_size=CLASSES,
        width=16,
        depth=1,
        cell=lambda size, key: rtrl.cells.LRU(size, 64, r_min=0.5, max_phase=1.57, key=key),
        norm=None,
        glu="half1",
        key=key,
    )
    return model, rtrl.OnlineLearner(squared_error, rtrl.kalman(prior=10.0), rule=rule)


def learn_digits(
    learner: rtrl.OnlineLearner,
    state: rtrl.LearnerState,
    images: Images,
    labels: Labels,
    report: Callable[[int, str], None],
) -> tuple[rtrl.LearnerState, Labels]:
    """See every image once, a pixel a timestep; name it at the last, then learn its label.

    Returns the learner's state after the pass, and the answers.
    """
    answers = np.zeros_like(labels)
    for start in range(0, len(images), SLICE):
        now = slice(start, start + SLICE)
        size = len(images[now])
        ys = np.zeros((size, PIXELS, CLASSES), np.float32)
        ys[:, -1] = targets(labels[now])
        weights, resets = np.zeros((2, size, PIXELS))
        weights[:, -1] = resets[:, 0] = 1
        state, out = learner.scan(
            state, images[now].reshape(-1, 1), ys.reshape(-1, CLASSES), chunk=1,
            weights=weights.ravel(), resets=resets.ravel().astype(bool),
        )  # fmt: skip
        answers[now] = np.asarray(out.prediction)[PIXELS - 1 :: PIXELS].argmax(-1)
        done = start + size
        last = slice(max(0, done - WINDOW), done)
        report(done, f"wrong of the last {WINDOW}: {np.mean(answers[last] != labels[last]):.1%}")
    return state, answers


def targets(labels: Labels) -> Float[np.ndarray, "images 10"]:
    """One for the digit, zero for the others, less the mean."""
    return np.eye(CLASSES, dtype=np.float32)[labels] - 1 / CLASSES


def regression(features: Float[np.ndarray, "images size"], labels: Labels) -> Labels:
    """Answers of an online least-squares regression on what is known at an image's last pixel."""
    features = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    covariance = 100.0 * np.eye(features.shape[1])
    weights = np.zeros((features.shape[1], CLASSES))
    answers = np.zeros_like(labels)
    for i, (x, y) in enumerate(zip(features, targets(labels), strict=True)):
        told = x @ weights
        answers[i] = told.argmax()
        gain = covariance @ x
        gain /= 1 + x @ gain
        weights += np.outer(gain, y - told)
        covariance -= np.outer(gain, x @ covariance)
    return answers


def echo_states(images: Images, units: int = 200) -> Float[np.ndarray, "images units"]:
    """States of a random leaky network after the last pixel: its best setting of five (see bench/).

    ::

        r_t = .7 r_{t-1} + .3 tanh(W r_{t-1} + v x_t + b)
    """
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(units, units))
    weight *= 0.95 / np.abs(np.linalg.eigvals(weight)).max()
    inputs, bias = rng.uniform(-1, 1, units), rng.uniform(-0.5, 0.5, units)
    state = np.zeros((len(images), units))
    for x in images.T:
        state = 0.7 * state + 0.3 * np.tanh(state @ weight.T + x[:, None] * inputs + bias)
    return state


def commonest(labels: Labels) -> Labels:
    """The digit that has come most often before."""
    seen = np.cumsum(np.eye(CLASSES, dtype=int)[labels], 0) - np.eye(CLASSES, dtype=int)[labels]
    return seen.argmax(1)


FLOORS: dict[str, Callable[[Images, Labels], Labels]] = {
    "the digit before (last value)": lambda images, labels: np.roll(labels, 1),
    "the digit seen most": lambda images, labels: commonest(labels),
    "regression on the last 10 pixels": lambda images, labels: regression(images[:, -10:], labels),
    "echo state network, 200 units": lambda images, labels: regression(echo_states(images), labels),
}


def wrong(answers: Labels, labels: Labels) -> float:
    """Share of wrong answers in the second half."""
    half = len(labels) // 2
    return float(np.mean(answers[half:] != labels[half:]))


def print_wrong(
    console: "Console", answers: dict[str, Labels], seconds: dict[str, float], labels: Labels
) -> None:
    from rich.table import Table

    table = Table(title="Naming the digit", title_justify="left", box=None, pad_edge=False)
    table.add_column("method")
    for heading in ("wrong, second half", "seconds"):
        table.add_column(heading, justify="right")
    for name, told in answers.items():
        table.add_row(name, f"{wrong(told, labels):.1%}", f"{seconds[name]:.1f}")
    console.print(table)


def one_seed(seed: int, rules: dict[str, rtrl.rules.Rule]) -> dict[str, float]:
    """Shares of wrong answers of rules and floors with one order of the images, for a bench."""
    images, labels = digit_stream(seed)
    found = {name: wrong(method(images, labels), labels) for name, method in FLOORS.items()}
    found["regression on all 64 pixels at once"] = wrong(regression(images, labels), labels)
    for name, rule in rules.items():
        model, learner = digits_learner(jax.random.key(seed), rule)
        _, told = learn_digits(learner, learner.init(model), images, labels, lambda *_: None)
        found[name] = wrong(told, labels)
    return found
