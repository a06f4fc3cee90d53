import importlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rtrl.tasks._download import Remote, fetch
from rtrl.tasks._examples import Examples, Split
from rtrl.validate import require

REMOTES = tuple(
    Remote(f"https://zenkelab.org/datasets/shd_{part}.h5.zip", "md5:" + digest)
    for part, digest in (
        ("train", "f3252aeb598ac776c1b526422d90eecb"),
        ("test", "1503a5064faa34311c398fb0a1ed0a6f"),
    )
)
UNITS = 700
CLASSES = 20


def shd(
    data_dir: str | Path | None = None,
    *,
    timestep: float = 0.01,
    _remotes: tuple[Remote, ...] = REMOTES,
) -> Split:
    """Name a spoken digit (English or German) from the spikes of an artificial ear.

    Spiking Heidelberg Digits: 8,156 recordings to train on and 2,264 to test, most of the latter by
    two speakers of twelve that are not in the former. A timestep lasts `timestep` seconds and holds
    the number of spikes of each of 700 units in it; a recording ends with its last spike. 170 MB
    are downloaded the first time (with pooch), or `data_dir` names the folder with shd_train.h5.zip
    and shd_test.h5.zip. Needs h5py: `pip install "rtrl[tasks]"`. In memory stay the times of
    spikes.

    Args:
        data_dir: the folder with the files; `None` to download them once.
        timestep: seconds in a timestep, positive.

    Shapes of a batch, padded to T, the longest recording (1.4 s at most, so about 140 timesteps):
        xs: (T, batch, 700) float32, spikes in the timestep, mostly 0.
        ys: (T, batch) int32, the word, 0 .. 9 English, 10 .. 19 German, at every timestep.
        weights: (T, batch) float32, 1 / the recording's own timesteps, zero on padding.

    Loss: cross entropy with 20 logits; `sequence_accuracy` averages the logits over time.
    Floors, accuracy: chance 0.05, the 20 words being about equally frequent.

    Raises:
        ValueError: an argument out of its range; a file is missing or is not the expected one.
        ImportError: h5py, or pooch where it is needed, is not installed.
        ConnectionError: the download failed.

    Source: Cramer, Stradmann, Schemmel and Zenke, "The Heidelberg spiking data sets for the
    systematic evaluation of spiking neural networks", IEEE TNNLS, 2022.
    """
    require(timestep > 0, "timestep", "a positive number of seconds", timestep)
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        message = "shd: the files are in HDF5, which needs h5py, which is not installed: "
        raise ImportError(message + 'pip install "rtrl[tasks]".') from error
    return Split(*(_read(h5py, fetch("shd", remote, data_dir), timestep) for remote in _remotes))


def _read(h5py: Any, path: Path, timestep: float) -> Examples:
    """Read a zipped HDF5 file of spikes/times (seconds), spikes/units, labels."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".h5")]
        require(len(names) == 1, path.name, "one .h5 file in the archive", archive.namelist())
        content = archive.read(names[0])
    with h5py.File(io.BytesIO(content), "r") as file:
        for name in ("labels", "spikes/times", "spikes/units"):
            require(name in file, path.name, f"the data set {name}", list(file))
        labels = np.asarray(file["labels"][()], np.int32)
        times = file["spikes/times"][()]
        units = file["spikes/units"][()]
    # The times are float16; the quotient is not, so a bin's number is not rounded further.
    steps = [np.floor(np.asarray(t, np.float64) / timestep).astype(np.int32) for t in times]
    units = [np.asarray(u, np.int16) for u in units]
    counts = [(len(s), len(u)) for s, u in zip(steps, units, strict=True)]
    even = len(labels) == len(counts) and all(a == b for a, b in counts)
    require(even, path.name, "a label for each recording and a unit for each time", counts[:5])
    largest = max((int(u.max()) for u in units if u.size), default=0)
    require(largest < UNITS, path.name, f"units below {UNITS}", largest)
    lengths = np.array([s.max() + 1 if s.size else 1 for s in steps], np.int32)

    def read(i: int) -> np.ndarray:
        xs = np.zeros((lengths[i], UNITS), np.float32)
        np.add.at(xs, (steps[i], units[i]), 1)
        return xs

    return Examples(labels, lengths, CLASSES, read)
