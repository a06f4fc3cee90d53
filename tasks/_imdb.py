import tarfile
from pathlib import Path

import numpy as np

from rtrl.tasks._data import check_count
from rtrl.tasks._download import Remote, fetch
from rtrl.tasks._examples import Examples, Split, unequal_lengths
from rtrl.validate import require

REMOTE = Remote(
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    "sha256:c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)


def imdb(
    data_dir: str | Path | None = None, *, length: int = 4096, _remote: Remote = REMOTE
) -> Split:
    """Tell whether a film review is positive, read byte by byte.

    25,000 reviews to train on and 25,000 to test, half of them positive; of each the first `length`
    bytes. 84 MB are downloaded the first time (with pooch: `pip install "rtrl[tasks]"`), or
    `data_dir` names the folder with aclImdb_v1.tar.gz. The first call takes a minute or so for the
    100,000 small files of the archive. In memory a byte stays a byte (65 MB) until it is in a
    batch.

    Args:
        data_dir: the folder with the file; `None` to download it once.
        length: bytes of a review that are kept, at least 1.

    Shapes of a batch, padded to T = 4096 (or the longest review if that is shorter):
        xs: (T, batch) int32, the byte, 1 .. 255, of UTF-8 text; 0 is padding. For an embedding of
            256 tokens: `SequenceModel(in_size=None, encoder=...)`.
        ys: (T, batch) int32, 1 for a positive review, at every timestep.
        weights: (T, batch) float32, 1 / the review's own timesteps, zero on padding.

    Loss: cross entropy with 2 logits; `sequence_accuracy` averages the logits over time.
    Floors, accuracy: chance 0.5; the paper's network learned without traces 0.835 (spatial) and
    0.840 (truncated), with RTRL 0.865, with BPTT 0.877.

    Raises:
        ValueError: an argument out of its range; a file is missing or is not the expected one.
        ImportError: pooch is needed and is not installed.
        ConnectionError: the download failed.

    Source: Maas et al., "Learning word vectors for sentiment analysis", ACL 2011; by bytes: Tay et
    al., "Long Range Arena", ICLR 2021.
    """
    check_count("length", length)
    path = fetch("imdb", _remote, data_dir)
    reviews: dict[str, dict[str, np.ndarray]] = {
        f"aclImdb/{part}/{side}": {} for part in ("train", "test") for side in ("neg", "pos")
    }
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            known = folder in reviews and name.endswith(".txt")
            if known and (file := archive.extractfile(member)):
                text = np.frombuffer(file.read(length), np.uint8)
                require(text.size > 0, path.name, f"a review in {member.name}", "an empty file")
                reviews[folder][name] = text
    for folder, found in reviews.items():
        require(bool(found), path.name, f"reviews {folder}/*.txt", "none")

    def examples(part: str) -> Examples:
        sides = [reviews[f"aclImdb/{part}/{side}"] for side in ("neg", "pos")]
        texts = [side[name] for side in sides for name in sorted(side)]
        labels = np.repeat(np.arange(2), [len(side) for side in sides])
        return unequal_lengths(texts, labels, 2)

    return Split(examples("train"), examples("test"))
