import gzip
from pathlib import Path

import numpy as np

from rtrl.tasks._data import as_generator
from rtrl.tasks._download import Remote, fetch
from rtrl.tasks._examples import Split, equal_length
from rtrl.validate import require

_FOLDER = "https://storage.googleapis.com/cvdf-datasets/mnist/"
REMOTES = tuple(
    Remote(_FOLDER + name, "sha256:" + digest)
    for name, digest in (
        (
            "train-images-idx3-ubyte.gz",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    )
)


def smnist(data_dir: str | Path | None = None, *, _remotes: tuple[Remote, ...] = REMOTES) -> Split:
    """Name a handwritten digit (28 x 28 pixels) that is shown pixel by pixel.

    60,000 images to train on and 10,000 to test. 12 MB are downloaded the first time (with pooch:
    `pip install "rtrl[tasks]"`), or `data_dir` names the folder with the four .gz files. In memory
    a pixel stays a byte (55 MB) until it is in a batch.

    Args:
        data_dir: the folder with the files; `None` to download them once.

    Shapes of a batch, with T = 784:
        xs: (T, batch, 1) float32, ink from 0 to 1, the first row on top, left to right.
        ys: (T, batch) int32, the digit at every timestep.
        weights: (T, batch) float32, 1 / T.

    Loss: cross entropy with 10 logits; `sequence_accuracy` averages the logits over time.
    Floors, accuracy: largest class 0.1135; a linear classifier of the whole image, all of it at
    once, 0.88 (LeCun et al.). The last pixels are blank, so the last timestep tells nothing.

    Raises:
        ValueError: an argument out of its range; a file is missing or is not the expected one.
        ImportError: pooch is needed and is not installed.
        ConnectionError: the download failed.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
    recognition", 1998; pixel by pixel: Le, Jaitly and Hinton, arXiv:1504.00941.
    """
    return _load("smnist", data_dir, _remotes, None)


def psmnist(
    data_dir: str | Path | None = None,
    *,
    rng: int | np.random.Generator = 0,
    _remotes: tuple[Remote, ...] = REMOTES,
) -> Split:
    """Name a handwritten digit whose pixels are shown one by one, in a fixed random order.

    As `smnist`, but timestep t shows pixel p[t] of the image read row by row, with p the same for
    all images: p = numpy.random.default_rng(rng).permutation(784). The order is part of the task:
    results with other seeds, or of other papers, are for other orders.

    Args:
        data_dir: the folder with the files; `None` to download them once.
        rng: a seed, or a generator, of the order.

    Shapes of a batch, with T = 784:
        xs: (T, batch, 1) float32, ink from 0 to 1.
        ys: (T, batch) int32, the digit at every timestep.
        weights: (T, batch) float32, 1 / T.

    Loss: cross entropy with 10 logits; `sequence_accuracy` averages the logits over time.
    Floors, accuracy: largest class 0.1135; a linear classifier of the whole image, all of it at
    once, 0.88 (LeCun et al.).

    Raises:
        ValueError: an argument out of its range; a file is missing or is not the expected one.
        ImportError: pooch is needed and is not installed.
        ConnectionError: the download failed.

    Source: Le, Jaitly and Hinton, "A simple way to initialize recurrent networks of rectified
    linear units", arXiv:1504.00941.
    """
    return _load("psmnist", data_dir, _remotes, as_generator(rng))


def _load(
    task: str,
    data_dir: str | Path | None,
    remotes: tuple[Remote, ...],
    rng: np.random.Generator | None,
) -> Split:
    files = [read_idx(fetch(task, remote, data_dir)) for remote in remotes]
    order = slice(None) if rng is None else rng.permutation(files[0][0].size)
    parts = []
    for images, labels, remote in zip(files[::2], files[1::2], remotes[1::2], strict=True):
        expected = f"a label for each of the {len(images)} images"
        require(len(images) == len(labels), remote.name, expected, len(labels))
        pixels = images.reshape(len(images), -1)[:, order]
        parts.append(equal_length(pixels[..., None], labels, 10, _ink))
    return Split(*parts)


def _ink(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 255


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of bytes: 0, 0, 8, the number of axes, their big-endian sizes."""
    with gzip.open(path) as file:
        content = file.read()
    magic, axes = content[:3], content[3] if len(content) > 3 else 0
    require(magic == b"\0\0\x08", path.name, "an IDX file of bytes (it starts 0, 0, 8)", magic)
    start = 4 + 4 * axes
    require(len(content) >= start, path.name, f"a header of {start} bytes", len(content))
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", axes, offset=4))
    size = start + int(np.prod(shape, dtype=np.int64))
    require(len(content) == size, path.name, f"{size} bytes for the shape {shape}", len(content))
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
