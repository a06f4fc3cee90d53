import tarfile
from pathlib import Path

import numpy as np

from rtrl.tasks._download import Remote, fetch
from rtrl.tasks._examples import Examples, Split, equal_length
from rtrl.validate import require

REMOTE = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
TRAIN = tuple(f"data_batch_{n}.bin" for n in range(1, 6))
TEST = ("test_batch.bin",)
PIXELS = 32 * 32
GRAY = np.array([19595, 38470, 7471], np.int32)  # shares of red, green, blue times 2^16
RECORD = 1 + 3 * PIXELS  # the label, then a plane each of red, green, blue


def scifar(
    data_dir: str | Path | None = None, *, gray: bool = False, _remote: Remote = REMOTE
) -> Split:
    """Name what a small photograph (32 x 32 pixels) shows that is read pixel by pixel.

    CIFAR-10: 50,000 images to train on, 10,000 to test, ten classes, equally many of each. 170 MB
    are downloaded the first time (with pooch: `pip install "rtrl[tasks]"`), or `data_dir` names the
    folder with cifar-10-binary.tar.gz. In memory a colour stays a byte (180 MB) until it is in a
    batch.

    Args:
        data_dir: the folder with the file; `None` to download it once.
        gray: whether to give one channel in place of three.

    Shapes of a batch, with T = 1024 and in_size = 3 (red, green, blue), or 1 with `gray=True`:
        xs: (T, batch, in_size) float32, standardised: minus the mean, over the deviation, of the
            channel over all pixels of the training images. First row on top, left to right.
        ys: (T, batch) int32, the class at every timestep.
        weights: (T, batch) float32, 1 / T.

    Gray is 0.299 red + 0.587 green + 0.114 blue, rounded. The Long Range Arena reads gray images,
    the LRU's authors coloured ones.

    Loss: cross entropy with 10 logits; `sequence_accuracy` averages the logits over time.
    Floors, accuracy: chance 0.1; the paper's network learned without traces 0.582 (spatial) and
    0.600 (truncated), with RTRL 0.796, with BPTT 0.834.

    Raises:
        ValueError: an argument out of its range; a file is missing or is not the expected one.
        ImportError: pooch is needed and is not installed.
        ConnectionError: the download failed.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    path = fetch("scifar", _remote, data_dir)
    found: dict[str, np.ndarray] = {}
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            name = member.name.rsplit("/", 1)[-1]
            if name in TRAIN + TEST and (file := archive.extractfile(member)):
                found[name] = _records(file.read(), f"{path.name} {name}")
    missing = [name for name in TRAIN + TEST if name not in found]
    require(not missing, path.name, f"the files {', '.join(TRAIN + TEST)}", f"no {missing}")

    (train, train_labels), (test, test_labels) = (
        _images([found.pop(name) for name in names], gray) for names in (TRAIN, TEST)
    )
    mean, deviation = _moments(train)

    def examples(images: np.ndarray, labels: np.ndarray) -> Examples:
        return equal_length(images, labels, 10, lambda x: (x - mean) / deviation)

    return Split(examples(train, train_labels), examples(test, test_labels))


def _records(content: bytes, where: str) -> np.ndarray:
    whole = len(content) > 0 and len(content) % RECORD == 0
    require(whole, where, f"records of {RECORD} bytes", f"{len(content)} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    largest = int(records[:, 0].max())
    require(largest < 10, where, "labels from 0 to 9", largest)
    return records


def _images(records: list[np.ndarray], gray: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images (examples, 1024, channels) uint8, and their labels."""
    labels = np.concatenate([r[:, 0] for r in records])
    images = np.empty((len(labels), PIXELS, 1 if gray else 3), np.uint8)
    start = 0
    for r in records:  # one file at a time: gray takes four times the space
        planes = r[:, 1:].reshape(-1, 3, PIXELS)
        part = images[start : start + len(r)]
        if gray:
            part[..., 0] = (np.einsum("ncp,c->np", planes.astype(np.int32), GRAY) + 2**15) >> 16
        else:
            part[:] = planes.transpose(0, 2, 1)
        start += len(r)
    return images, labels


def _moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel, from the counts of the 256 values."""
    values = np.arange(256)
    counts = [np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[-1])]
    mean = np.array([(n * values).sum() / n.sum() for n in counts])
    square = np.array([(n * values**2).sum() / n.sum() for n in counts])
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return mean.astype(np.float32), np.where(deviation > 0, deviation, 1).astype(np.float32)
