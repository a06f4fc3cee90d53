"""What a task returns, and the few helpers that tasks share."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32
from numpy.typing import ArrayLike

from rtrl.validate import require


class Sequences(NamedTuple):
    """A batch of sequences with a beginning and an end.

    Time leads; the batch axis is absent where the task was called with `batch_size=None`. The
    weights of a sample sum to one, so the objective, the sum over t of w_t times the mean over the
    batch, is the mean loss over the timesteps that count.

    Attributes:
        xs: inputs, (time, [batch,] in_size), or (time, [batch]) where a timestep is a token.
        ys: targets, (time, [batch,] out_size) float32, or classes, (time, [batch], ...) int32.
        weights: of the losses, (time, [batch]).
    """

    xs: Float32[np.ndarray, "time *batch in_size"]
    ys: Float32[np.ndarray, "time *batch out_size"] | Int32[np.ndarray, "time *rest"]
    weights: Float32[np.ndarray, "time *batch"]


class Stream(NamedTuple):
    """One long stream in the data's own units: ys[t] is the target of xs[t].

    In a forecasting stream ys[t] is the value that arrives ``horizon`` timesteps after xs[t], so it
    must not be learned from before then. Generated streams are float32, those from files float64.

    Attributes:
        xs: inputs, (time, in_size).
        ys: targets, (time, out_size).
    """

    xs: Float[np.ndarray, "time in_size"]
    ys: Float[np.ndarray, "time out_size"]

    def series(self, horizon: int) -> Float[np.ndarray, " samples"]:
        """Give the scalar series z that `forecast(z, horizon)` made this stream from.

        This is what the functions of `rtrl.tasks.baselines` take.

        Args:
            horizon: timesteps from an input to its target, at least 1.

        Returns:
            z, (time + horizon,).

        Raises:
            ValueError: the stream is not a scalar series and its own future, or is shorter than the
                horizon.
        """
        matches = (
            0 < horizon <= len(self.xs)
            and self.xs.shape == self.ys.shape == (len(self.xs), 1)
            and np.array_equal(self.xs[horizon:], self.ys[:-horizon])
        )
        require(matches, "horizon", "the horizon of this scalar forecasting stream", horizon)
        return np.concatenate([self.xs, self.ys[-horizon:]])[:, 0]


def forecast(series: ArrayLike, horizon: int) -> Stream:
    """Turn a scalar series z into the stream xs[t] = z[t], ys[t] = z[t + horizon].

    Args:
        series: z, (samples,) or (samples, 1), in any unit.
        horizon: timesteps from an input to its target, at least 1.

    Returns:
        A stream of samples - horizon timesteps and one feature, float32.

    Raises:
        ValueError: z is not scalar or not finite, or no longer than the horizon.
    """
    z = scalar_series(series).astype(np.float32)[:, None]
    check_count("horizon", horizon)
    require(horizon < len(z), "horizon", f"less than the {len(z)} samples of the series", horizon)
    return Stream(z[:-horizon], z[horizon:])


def endless(
    task: Callable[..., Sequences], *args: Any, rng: int | np.random.Generator, **kwargs: Any
) -> Iterator[Sequences]:
    """Yield fresh batches without end: `for xs, ys, weights in endless(copying, 50, rng=0): ...`.

    The same seed gives the same batches in the same order.

    Args:
        task: one that makes `Sequences`, such as `copying`.
        args, kwargs: everything but `rng`, handed to the task.
        rng: a seed, or a generator, which every batch advances.

    Raises:
        ValueError: as the task, when the first batch is asked for.
    """
    generator = as_generator(rng)
    while True:
        yield task(*args, rng=generator, **kwargs)


def as_generator(rng: int | np.random.Generator) -> np.random.Generator:
    """A generator from a seed; a generator is passed through, so that drawing advances it."""
    ok = isinstance(rng, np.random.Generator) or (isinstance(rng, (int, np.integer)) and rng >= 0)
    require(ok, "rng", "a seed (an integer of at least 0) or a numpy.random.Generator", rng)
    return np.random.default_rng(rng)


def time_and_batch(length: int, batch_size: int | None) -> tuple[int, ...]:
    """The leading axes of a batch of sequences: (time,) or (time, batch)."""
    if batch_size is None:
        return (length,)
    check_count("batch_size", batch_size)
    return (length, batch_size)


def scored(shape: tuple[int, ...], steps: slice) -> Float32[np.ndarray, "time *batch"]:
    """Equal weights on `steps`, zero elsewhere, with a sum of one over time."""
    weights = np.zeros(shape, np.float32)
    weights[steps] = 1 / len(range(*steps.indices(shape[0])))
    return weights


def one_hot(labels: np.ndarray | np.integer, classes: int) -> Float32[np.ndarray, "..."]:
    """(...,) integers to (..., classes) zeros and ones."""
    return np.eye(classes, dtype=np.float32)[labels]


def check_count(name: str, value: int, least: int = 1) -> None:
    """Refuse anything that is not an integer of at least `least`."""
    ok = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least
    require(ok, name, f"an integer of at least {least}", value)


def scalar_series(series: ArrayLike) -> np.ndarray:
    """A (samples,) or (samples, 1) series as finite float64 of shape (samples,)."""
    z = np.asarray(series, np.float64)
    expected = "a series of shape (samples,) or (samples, 1)"
    require(z.ndim == 1 or (z.ndim == 2 and z.shape[1] == 1), "series", expected, z.shape)
    bad = np.flatnonzero(~np.isfinite(z.ravel()))
    if bad.size:
        require(False, "series", "finite values", f"{z.ravel()[bad[0]]} at index {bad[0]}")
    return z.ravel()
