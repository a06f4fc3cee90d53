import importlib.util
from pathlib import Path

import numpy as np

from rtrl.tasks._examples import Examples, Split, unequal_lengths
from rtrl.validate import require


def japanese_vowels(data_dir: str | Path | None = None) -> Split:
    """Tell which of nine men says the vowels "ae", from 12 coefficients of the sound over time.

    270 sequences to train on and 370 to test, of 7 to 29 timesteps. aeon ships the files
    (`pip install aeon`; it is not imported, which would take long); or `data_dir` names the folder
    with JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts.

    Args:
        data_dir: the folder with the files; `None` for those that aeon ships.

    Shapes of a batch, padded to T = 26 timesteps (train) or 29 (test):
        xs: (T, batch, 12) float32, cepstrum coefficients of linear prediction, about -2 to 2.
        ys: (T, batch) int32, the speaker, 0 .. 8, at every timestep.
        weights: (T, batch) float32, 1 / the sequence's own timesteps, zero on padding.

    Loss: cross entropy with 9 logits; `sequence_accuracy` averages the logits over time.
    Floors, accuracy on the test part: largest class 0.238, logistic regression on the last timestep
    0.959, on mean and deviation over time 0.962. The last timestep says it all: this tests
    sequences of unequal lengths, and not memory.

    Raises:
        ValueError: a file is missing or is something else.
        ImportError: aeon is needed and not installed.

    Source: Kudo, Toyama and Shimbo, "Multidimensional curve classification using passing-through
    regions", Pattern Recognition Letters, 1999.
    """
    folder = _shipped() if data_dir is None else Path(data_dir)
    train, test = (read_ts(folder / f"JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST"))
    return Split(train, test)


def read_ts(path: Path) -> Examples:
    """Read a .ts file: a header, then a line per sequence, channels and the class between colons.

    Channels are lists of numbers with commas, ? for a missing one (NaN here). Raises `ValueError`
    that names the line where the file is something else.
    """
    require(path.is_file(), "data_dir", f"a folder with the file {path.name}", str(path.parent))
    classes: list[str] = []
    sequences, labels = [], []
    started = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where, line = f"{path.name} line {number}", line.strip()
        if not line or line.startswith("#"):
            continue
        if not started:
            words = line.split()
            if words[0].lower() == "@classlabel":
                classes = words[2:]
            elif words[0].lower() == "@timestamps":
                plain = words[1:] == ["false"]
                require(plain, where, "values without time stamps (@timeStamps false)", line)
            started = words[0].lower() == "@data"
            continue
        *channels, label = line.split(":")
        require(label in classes, where, f"a class of {classes} after the last colon", label)
        sequences.append(_channels(channels, where))
        labels.append(classes.index(label))
    require(bool(sequences), "data_dir", f"sequences after @data in {path.name}", "none")
    return unequal_lengths(sequences, labels, len(classes))


def _channels(channels: list[str], where: str) -> np.ndarray:
    try:
        rows = [[np.nan if v == "?" else float(v) for v in c.split(",")] for c in channels]
    except ValueError as error:
        raise ValueError(f"{where}: expected numbers with commas between them: {error}.") from error
    lengths = [len(row) for row in rows]
    require(len(set(lengths)) == 1, where, "channels of one length", lengths)
    return np.array(rows, np.float32).T.copy()


def _shipped() -> Path:
    """The folder in which aeon keeps its copy."""
    spec = importlib.util.find_spec("aeon")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "japanese_vowels: the data come with aeon, which is not installed: pip install aeon, "
            "or pass data_dir=, a folder with JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts."
        )
    return Path(next(iter(spec.submodule_search_locations)), "datasets/data/JapaneseVowels")
