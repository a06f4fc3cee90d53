"""Loaders, on tiny files in the formats of the real ones, and what they say of wrong files."""

import gzip
import hashlib
import io
import re
import sys
import tarfile
import zipfile
from functools import partial

import numpy as np
import pytest

from rtrl import tasks
from rtrl.tasks import _download, _imdb, _scifar, _shd, _smnist
from rtrl.tasks._download import Remote


def put(folder, name, content, algorithm="sha256"):
    """Write a file; where it comes from, with its hash."""
    (folder / name).write_bytes(content)
    digest = hashlib.new(algorithm, content).hexdigest()
    return Remote(f"https://example.invalid/{name}", f"{algorithm}:{digest}")


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.astype(np.uint8).tobytes())


def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (n, 28, 28), np.uint8) for n in (6, 4)]
DIGITS = [np.array([5, 0, 4, 1, 9, 2]), np.array([7, 2, 1, 0])]


def mnist(folder):
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    arrays = (IMAGES[0], DIGITS[0], IMAGES[1], DIGITS[1])
    files = [put(folder, f"{n}-ubyte.gz", idx(a)) for n, a in zip(names, arrays, strict=True)]
    return tuple(files)


def cifar_records(n, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 10, (n, 1), np.uint8), rng.integers(0, 256, (n, 3, 32, 32), np.uint8)


def cifar_files():
    files = {"cifar-10-batches-bin/readme.html": b"<p>"}
    names = [*(f"data_batch_{n}.bin" for n in (2, 1, 3, 5, 4)), "test_batch.bin"]
    for name in names:  # out of order: the loader must not rely on it
        labels, planes = cifar_records(2, sum(name.encode()))
        records = np.concatenate([labels, planes.reshape(2, -1)], axis=1)
        files[f"cifar-10-batches-bin/{name}"] = records.tobytes()
    return files


REVIEWS = {
    "aclImdb/README": b"x",
    "aclImdb/train/pos/1_9.txt": b"fine",
    "aclImdb/train/pos/0_7.txt": "tr\u00e8s bien".encode(),
    "aclImdb/train/neg/0_2.txt": b"no",
    "aclImdb/train/unsup/0_0.txt": b"unlabelled",
    "aclImdb/train/urls_pos.txt": b"http",
    "aclImdb/test/neg/0_1.txt": b"awful film",
    "aclImdb/test/pos/0_10.txt": b"ok",
}


def check(part, examples, shape, dtype):
    assert isinstance(part, tasks.Examples) and len(part) == examples
    batch = part.all()
    assert batch.xs.shape == shape and batch.xs.dtype == dtype
    assert batch.ys.shape == batch.weights.shape == shape[:2]
    assert batch.ys.dtype == np.int32 and (batch.ys == part.labels).all()
    # up to 1024 additions of float32 numbers near 1/1024
    np.testing.assert_allclose(batch.weights.sum(0), 1, rtol=5e-5)
    return batch


@pytest.mark.core
def test_smnist_reads_images_row_by_row(tmp_path):
    train, test, validation = tasks.smnist(tmp_path, _remotes=mnist(tmp_path))
    assert validation is None and train.classes == 10
    for part, images, labels in zip((train, test), IMAGES, DIGITS, strict=True):
        batch = check(part, len(images), (784, len(images), 1), np.float32)
        np.testing.assert_array_equal(part.labels, labels)
        np.testing.assert_allclose(batch.xs[28 * 3 + 5, :, 0], images[:, 3, 5] / 255, rtol=1e-6)


def test_psmnist_permutes_all_images_alike(tmp_path):
    remotes = mnist(tmp_path)
    plain = tasks.smnist(tmp_path, _remotes=remotes)
    permuted = tasks.psmnist(tmp_path, _remotes=remotes)
    order = np.random.default_rng(0).permutation(784)
    for a, b in zip(plain[:2], permuted[:2], strict=True):
        np.testing.assert_array_equal(a.all().xs[order], b.all().xs)
        np.testing.assert_array_equal(a.labels, b.labels)
    other = tasks.psmnist(tmp_path, rng=1, _remotes=remotes)
    assert not np.array_equal(other.train.read(0), permuted.train.read(0))


@pytest.mark.core
@pytest.mark.parametrize("gray", [False, True])
def test_scifar_reads_pixels_and_standardises(tmp_path, gray):
    remote = put(tmp_path, "cifar-10-binary.tar.gz", tar(cifar_files()))
    split = tasks.scifar(tmp_path, gray=gray, _remote=remote)
    names = [f"data_batch_{n}.bin" for n in range(1, 6)]
    parts = [cifar_records(2, sum(name.encode())) for name in names]
    labels = np.concatenate([p[0] for p in parts])[:, 0]
    planes = np.concatenate([p[1] for p in parts]).astype(float)
    if gray:
        red, green, blue = np.moveaxis(planes, 1, 0)
        planes = np.floor((19595 * red + 38470 * green + 7471 * blue) / 2**16 + 0.5)[:, None]
    batch = check(split.train, 10, (1024, 10, 1 if gray else 3), np.float32)
    np.testing.assert_array_equal(split.train.labels, labels)
    mean, deviation = planes.mean((0, 2, 3)), planes.std((0, 2, 3))
    pixels = planes.transpose(2, 3, 0, 1).reshape(1024, 10, -1)
    np.testing.assert_allclose(batch.xs, (pixels - mean) / deviation, atol=2e-5)
    held = check(split.test, 2, (1024, 2, 1 if gray else 3), np.float32)
    if not gray:  # on the scale of the training images
        planes = cifar_records(2, sum(b"test_batch.bin"))[1]
        pixels = planes.transpose(2, 3, 0, 1).reshape(1024, 2, 3)
        np.testing.assert_allclose(held.xs, (pixels - mean) / deviation, atol=2e-5)


@pytest.mark.core
def test_imdb_reads_bytes(tmp_path):
    remote = put(tmp_path, "aclImdb_v1.tar.gz", tar(REVIEWS))
    train, test, _ = tasks.imdb(tmp_path, _remote=remote)
    batch = check(train, 3, (10, 3), np.int32)
    texts = [bytes(batch.xs[: train.lengths[i], i].astype(np.uint8)) for i in range(3)]
    assert texts == [b"no", "tr\u00e8s bien".encode(), b"fine"]
    assert train.labels.tolist() == [0, 1, 1] and train.classes == 2
    assert not batch.xs[4:, 2].any() and not batch.weights[4:, 2].any()
    check(test, 2, (10, 2), np.int32)
    cut = tasks.imdb(tmp_path, length=3, _remote=remote)
    assert cut.train.lengths.tolist() == [2, 3, 3]


def shd_files(folder, **changes):
    import h5py

    remotes = []
    for part, n in (("train", 3), ("test", 2)):
        times = [np.array([0.001, 0.0155, 0.0158, 0.0391], np.float16)[: i + 2] for i in range(n)]
        units = [np.array([699, 3, 3, 0], np.uint16)[: i + 2] for i in range(n)]
        data = {"times": times, "units": units, "labels": np.arange(n, dtype=np.uint16) + 17}
        data.update(changes)
        out = io.BytesIO()
        with h5py.File(out, "w") as file:
            for name, dtype in (("times", np.float16), ("units", np.uint16)):
                rows = np.empty(len(data[name]), object)
                rows[:] = data[name]
                file.create_dataset(f"spikes/{name}", data=rows, dtype=h5py.vlen_dtype(dtype))
            file["labels"] = data["labels"]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"shd_{part}.h5", out.getvalue())
        remotes.append(put(folder, f"shd_{part}.h5.zip", packed.getvalue(), "md5"))
    return tuple(remotes)


@pytest.mark.core
def test_shd_counts_spikes(tmp_path):
    remotes = shd_files(tmp_path)
    train, test, _ = tasks.shd(tmp_path, _remotes=remotes)
    batch = check(train, 3, (4, 3, 700), np.float32)
    assert train.labels.tolist() == [17, 18, 19] and train.lengths.tolist() == [2, 2, 4]
    assert batch.xs.sum((0, 2)).tolist() == [2, 3, 4]
    assert [batch.xs[0, 2, 699], batch.xs[1, 2, 3], batch.xs[3, 2, 0]] == [1, 2, 1]
    check(test, 2, (2, 2, 700), np.float32)
    finer = tasks.shd(tmp_path, timestep=0.001, _remotes=remotes).train
    assert finer.lengths.tolist() == [16, 16, 40]
    with pytest.raises(ValueError, match="timestep: .*got 0"):
        tasks.shd(tmp_path, timestep=0, _remotes=remotes)


def test_shd_without_spikes_and_with_wrong_units(tmp_path):
    silent = [np.zeros(0, np.float16), np.zeros(0, np.float16)]
    remotes = shd_files(tmp_path, times=silent, units=silent, labels=np.array([1, 2]))
    assert tasks.shd(tmp_path, _remotes=remotes).train.lengths.tolist() == [1, 1]
    one = [np.array([0.5], np.float16)]
    remotes = shd_files(tmp_path, times=one, units=[np.array([700])], labels=np.array([1]))
    with pytest.raises(ValueError, match=r"shd_train.h5.zip: expected units below 700, got 700"):
        tasks.shd(tmp_path, _remotes=remotes)


LOADERS = {
    "smnist": (tasks.smnist, _smnist.REMOTES),
    "psmnist": (tasks.psmnist, _smnist.REMOTES),
    "scifar": (tasks.scifar, (_scifar.REMOTE,)),
    "imdb": (tasks.imdb, (_imdb.REMOTE,)),
    "shd": (tasks.shd, _shd.REMOTES),
}


@pytest.fixture
def h5py(monkeypatch):
    """Any h5py at all: what is tested fails before it is used."""
    monkeypatch.setitem(sys.modules, "h5py", sys.modules[__name__])


@pytest.mark.core
@pytest.mark.parametrize("name", LOADERS)
def test_a_wrong_file_is_refused_by_name(name, tmp_path, h5py):
    task, remotes = LOADERS[name]
    first = remotes[0]
    with pytest.raises(ValueError, match=f"data_dir: expected a folder with the file {first.name}"):
        task(tmp_path)
    (tmp_path / first.name).write_bytes(b"something else")
    algorithm, digest = first.hash.split(":")
    found = hashlib.new(algorithm, b"something else").hexdigest()
    expected = rf"data_dir: expected {first.name} with {algorithm} {digest}, got {found}.*14 bytes"
    with pytest.raises(ValueError, match=expected):
        task(str(tmp_path))


@pytest.mark.parametrize("name", LOADERS)
def test_hashes_are_whole(name):
    for remote in LOADERS[name][1]:
        assert remote.url.startswith("https://")
        assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", remote.hash)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """pooch with its cache in a folder of the test; downloads are whatever the test says."""
    import pooch

    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)
    (tmp_path / "rtrl").mkdir()
    return pooch, tmp_path / "rtrl"


def test_a_wrong_file_in_the_cache_is_not_downloaded_again(cache, monkeypatch):
    pooch, folder = cache
    monkeypatch.setattr(pooch, "retrieve", lambda *_: pytest.fail("a download was tried"))
    remote = put(folder, "data.bin", b"right")
    assert _download.fetch("task", remote, None) == folder / "data.bin"
    (folder / "data.bin").write_bytes(b"wrong")
    with pytest.raises(ValueError, match="cache: expected data.bin with sha256 .*Delete it to"):
        _download.fetch("task", remote, None)


def test_a_download_goes_to_the_cache(cache, monkeypatch):
    pooch, folder = cache
    remote = put(folder, "data.bin", b"right")
    (folder / "data.bin").unlink()

    def retrieve(url, known_hash, fname, path):
        assert (url, known_hash, fname, path) == (remote.url, remote.hash, "data.bin", folder)
        (path / fname).write_bytes(b"right")
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert _download.fetch("task", remote, None).read_bytes() == b"right"


def test_a_failed_download_says_what_to_do(cache, monkeypatch):
    pooch, _ = cache

    def offline(*_):
        raise OSError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", offline)
    expected = r"scifar: https://\S+cifar-10-binary.tar.gz could not be downloaded \(no route"
    with pytest.raises(ConnectionError, match=expected + ".*pass data_dir="):
        tasks.scifar()


@pytest.mark.parametrize("name, package", [*((n, "pooch") for n in LOADERS), ("shd", "h5py")])
def test_what_is_not_installed_is_named(name, package, monkeypatch, h5py):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'{name}: .*{package}.*pip install "rtrl\[tasks\]"'):
        LOADERS[name][0]()


def test_loaders_import_nothing_until_they_are_called():
    for module in (_download, _shd):
        assert not {"pooch", "h5py"} & set(vars(module))


def broken_mnist(folder, content):
    remotes = mnist(folder)
    return (put(folder, remotes[0].name, content), *remotes[1:])


def wrong_mnist(content, folder):
    tasks.smnist(folder, _remotes=broken_mnist(folder, content))


def wrong_cifar(files, folder):
    tasks.scifar(folder, _remote=put(folder, "cifar-10-binary.tar.gz", tar(files)))


def wrong_imdb(files, folder):
    tasks.imdb(folder, _remote=put(folder, "aclImdb_v1.tar.gz", tar(files)))


TEST_BATCH = "cifar-10-batches-bin/test_batch.bin"


@pytest.mark.parametrize(
    "load, message",
    [
        (partial(wrong_mnist, gzip.compress(b"text")), "train-images.*gz: expected an IDX file"),
        (partial(wrong_mnist, gzip.compress(b"\0\0\x08\3\0")), "a header of 16 bytes, got 5"),
        (
            partial(wrong_mnist, gzip.compress(gzip.decompress(idx(IMAGES[0]))[:-1])),
            r"4720 bytes for the shape \(6, 28, 28\), got 4719",
        ),
        (partial(wrong_mnist, idx(IMAGES[0][:5])), "a label for each of the 5 images, got 6"),
        (partial(wrong_cifar, {TEST_BATCH: bytes(3073)}), r"the files data_batch_1.*no \['data_b"),
        (
            partial(wrong_cifar, {TEST_BATCH: bytes(3072)}),
            "test_batch.bin: .*3073 bytes, got '3072",
        ),
        (partial(wrong_cifar, {TEST_BATCH: b"\x0a" + bytes(3072)}), "labels from 0 to 9, got 10"),
        (partial(wrong_imdb, {"aclImdb/README": b"x"}), "reviews aclImdb/train/neg/.*got 'none'"),
        (
            partial(wrong_imdb, {"aclImdb/train/neg/0.txt": b""}),
            "a review in .*got 'an empty file'",
        ),
    ],
)
def test_wrong_content_is_named(load, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(tmp_path)
