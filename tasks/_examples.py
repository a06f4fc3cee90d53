"""Labelled sequences: kept as they are stored, made into padded batches when asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32
from numpy.typing import ArrayLike

from rtrl.tasks._data import Sequences, as_generator, check_count
from rtrl.validate import require


@dataclass(frozen=True, eq=False)
class Examples:
    """Sequences with one label each, of one length or of many.

    Attributes:
        labels: the class of each sequence.
        lengths: the timesteps of each sequence.
        classes: how many classes there are.
        read: example i as (time, in_size) float32, or (time,) int32 where a timestep is a token.
            Large sets keep bytes (or spikes) in memory and become numbers here.
    """

    labels: Int32[np.ndarray, " examples"]
    lengths: Int32[np.ndarray, " examples"]
    classes: int
    read: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: ArrayLike, length: int | None = None) -> Sequences:
        """Give the sequences with these numbers, padded at the end with zeros.

        Args:
            indices: numbers of examples, from 0, at least one.
            length: T, timesteps, or `None` for those of the longest sequence of the set.

        Shapes, with T = `length`, by default that of the longest sequence of the set, so that all
        batches have the same shape and a learner compiles once:
            xs: (T, batch, in_size) float32, or (T, batch) int32 where a timestep is a token.
            ys: (T, batch) int32, the label at every timestep.
            weights: (T, batch) float32, 1 / the sequence's own timesteps, zero on padding.

        Raises:
            ValueError: an index is out of range, or a sequence is longer than `length`.
        """
        chosen = np.asarray(indices)
        whole = chosen.ndim == 1 and chosen.size > 0 and np.issubdtype(chosen.dtype, np.integer)
        require(whole, "indices", "a list of at least one number of an example", indices)
        inside = (chosen >= 0) & (chosen < len(self))
        expected = f"numbers of at least 0 and below {len(self)}"
        require(bool(inside.all()), "indices", expected, chosen[~inside].tolist()[:5])
        lengths = self.lengths[chosen]
        time = int(self.lengths.max()) if length is None else length
        check_count("length", time)
        fits = bool((lengths <= time).all())
        require(fits, "length", f"at least the {lengths.max()} timesteps of a sequence", length)

        first = self.read(int(chosen[0]))
        xs = np.zeros((time, len(chosen), *first.shape[1:]), first.dtype)
        for column, index in enumerate(chosen):
            example = self.read(int(index))
            xs[: len(example), column] = example
        ys = np.tile(self.labels[chosen], (time, 1))
        real = np.arange(time)[:, None] < lengths
        return Sequences(xs, ys, (real / lengths).astype(np.float32))

    def batches(
        self,
        batch_size: int,
        *,
        rng: int | np.random.Generator | None = None,
        drop_last: bool = False,
        length: int | None = None,
    ) -> Iterator[Sequences]:
        """Yield one pass over all examples, in batches.

        Args:
            batch_size: examples in a batch, at least 1.
            rng: shuffles: a seed, or a generator for a new order on every pass; `None` for the
                order in which they are stored.
            drop_last: whether to leave out the last batch if it is smaller.
            length: timesteps of every batch, as in `batch`.

        Raises:
            ValueError: an argument out of its range, named.
        """
        check_count("batch_size", batch_size)
        order = np.arange(len(self)) if rng is None else as_generator(rng).permutation(len(self))
        stop = len(self) - len(self) % batch_size if drop_last else len(self)
        for start in range(0, stop, batch_size):
            yield self.batch(order[start : min(start + batch_size, stop)], length)

    def all(self) -> Sequences:
        """Give every sequence in one batch: for small sets."""
        return self.batch(np.arange(len(self)))


class Split(NamedTuple):
    """Labelled sequences to learn from, and others to be judged on.

    Attributes:
        train: to learn from.
        test: to be judged on, once.
        validation: to choose settings by; `None` where the data set names none.
    """

    train: Examples
    test: Examples
    validation: Examples | None = None


def sequence_accuracy(logits: ArrayLike, batch: Sequences) -> float:
    """Give the share of sequences whose logits, averaged over time, are highest at the label.

    The average is that of ``batch.weights``, so padding does not count.

    Args:
        logits: the predictions for the batch, (time, batch, classes).
        batch: the sequences, as `Examples.batch` gives them.

    Raises:
        ValueError: the logits do not have the batch's shape.
    """
    scores = np.asarray(logits, np.float64)
    shape = batch.weights.shape
    ok = scores.ndim == 3 and scores.shape[:2] == shape and len(shape) == 2
    require(ok, "logits", f"shape {(*shape, 'classes')}", scores.shape)
    counted = np.where(batch.weights[..., None] > 0, scores * batch.weights[..., None], 0)
    return float(np.mean(counted.sum(0).argmax(-1) == batch.ys[0]))


def equal_length(
    stored: np.ndarray,
    labels: np.ndarray,
    classes: int,
    scale: Callable[[np.ndarray], np.ndarray],
) -> Examples:
    """Examples of stored sequences (examples, time, in_size), each scaled when it is read."""
    lengths = np.full(len(stored), stored.shape[1], np.int32)
    return Examples(labels.astype(np.int32), lengths, classes, lambda i: scale(stored[i]))


def unequal_lengths(sequences: list[np.ndarray], labels: ArrayLike, classes: int) -> Examples:
    """Examples of stored sequences (time, in_size) float32, or (time,) small integers: tokens."""
    lengths = np.array([len(sequence) for sequence in sequences], np.int32)

    def read(i: int) -> np.ndarray:
        sequence = sequences[i]
        tokens = np.issubdtype(sequence.dtype, np.integer)
        return sequence.astype(np.int32 if tokens else np.float32, copy=False)

    return Examples(np.asarray(labels, np.int32), lengths, classes, read)
