from typing import Literal

import numpy as np

from rtrl.tasks._data import as_generator
from rtrl.tasks._examples import Split, equal_length
from rtrl.validate import require


def digits(
    by: Literal["pixels", "rows"] = "pixels",
    *,
    rng: int | np.random.Generator = 0,
    held_out: float = 0.2,
) -> Split:
    """Name a handwritten digit (8 x 8 pixels) that is shown pixel by pixel, or row by row.

    The 1,797 images that scikit-learn ships, split at random into ``train`` and ``test``, which
    holds the share `held_out` of every class (360 images). Needs scikit-learn:
    `pip install "rtrl[tasks]"`.

    Args:
        by: what a timestep shows, "pixels" or "rows".
        rng: a seed, or a generator, of the split.
        held_out: share of every class that is for ``test``, between 0 and 1.

    Shapes of a batch, with T, in_size = 64, 1 (`by="pixels"`) or 8, 8 (`by="rows"`):
        xs: (T, batch, in_size) float32, ink from 0 to 1, the first row on top, left to right.
        ys: (T, batch) int32, the digit at every timestep.
        weights: (T, batch) float32, 1 / T.

    Loss: cross entropy with 10 logits; `sequence_accuracy` averages the logits over time.
    Floors, accuracy, mean over random splits (which differ by about 0.01): largest class 0.103,
    logistic regression on the last row (no memory) 0.507 and on the whole image (all of it at once)
    0.969. An echo state network of 100 units reaches about 0.764 (pixels) and 0.938 (rows).

    Raises:
        ValueError: an argument out of its range, named.
        ImportError: scikit-learn is not installed.

    Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998;
    the test part, by way of `sklearn.datasets.load_digits`.
    """
    require(by in ("pixels", "rows"), "by", "'pixels' or 'rows'", by)
    require(0 < held_out < 1, "held_out", "a share between 0 and 1", held_out)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        message = "digits: the images come with scikit-learn, which is not installed: "
        raise ImportError(message + 'pip install "rtrl[tasks]".') from error
    images, labels = load_digits(return_X_y=True)
    xs = (images / 16).astype(np.float32).reshape(len(images), *(8, 8) if by == "rows" else (64, 1))
    test = _stratified(labels, held_out, as_generator(rng))
    train = np.setdiff1d(np.arange(len(labels)), test)
    return Split(*(equal_length(xs[part], labels[part], 10, np.asarray) for part in (train, test)))


def _stratified(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the examples held out: the same share of every class, drawn at random."""
    chosen = [
        rng.permutation(members)[: round(share * len(members))]
        for members in (np.flatnonzero(labels == label) for label in np.unique(labels))
    ]
    return np.sort(np.concatenate(chosen))
