"""Labelled sequences: batches, splits, the floors stated, and the list of all tasks."""

import inspect
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from rtrl import tasks
from rtrl.tasks import _listops
from rtrl.tasks._examples import equal_length, unequal_lengths


def stated(task, figure):
    """A figure as a number, once it is known that the docstring states it."""
    assert figure in " ".join(task.__doc__.split())
    return float(figure)


RAGGED = [np.arange(2 * n, dtype=np.float32).reshape(n, 2) + 1 for n in (3, 1, 5, 2)]
EXAMPLES = unequal_lengths(RAGGED, [2, 0, 1, 2], 3)


@pytest.mark.core
@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(5, 8) | st.none())
def test_a_batch_is_padded_at_the_end(indices, length):
    xs, ys, weights = EXAMPLES.batch(indices, length)
    time = length or 5
    assert xs.shape == (time, len(indices), 2) and ys.shape == weights.shape == xs.shape[:2]
    assert (xs.dtype, ys.dtype, weights.dtype) == (np.float32, np.int32, np.float32)
    for column, i in enumerate(indices):
        n = len(RAGGED[i])
        np.testing.assert_array_equal(xs[:n, column], RAGGED[i])
        assert not xs[n:, column].any() and not weights[n:, column].any()
        np.testing.assert_array_equal(weights[:n, column], np.float32(1 / n))
        assert (ys[:, column] == EXAMPLES.labels[i]).all()


def test_a_shorter_length_serves_shorter_sequences():
    assert EXAMPLES.batch([0, 1], 3).xs.shape == (3, 2, 2)


def test_batches_pass_once_over_all_examples():
    labels = np.arange(10)
    examples = equal_length(
        labels[:, None, None].astype(np.uint8), labels, 10, lambda x: x.astype(np.float32)
    )

    def seen(**options):
        return [batch.ys[0].tolist() for batch in examples.batches(4, **options)]

    assert seen() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert seen(drop_last=True) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert sorted(sum(seen(rng=0), [])) == list(range(10)) != sum(seen(rng=0), [])
    assert seen(rng=0) == seen(rng=0) != seen(rng=1)
    generator = np.random.default_rng(0)
    assert [seen(rng=generator) for _ in range(2)][0] == seen(rng=0) != seen(rng=generator)


def test_sequence_accuracy_averages_over_the_real_timesteps():
    batch = EXAMPLES.batch([0, 1])  # 3 and 1 timesteps of 5, labels 2 and 0
    logits = np.zeros((5, 2, 3))
    logits[:, 0] = [[0, 5, 0], [0, 0, 3], [0, 0, 3], [0, 90, 0], [np.nan, 0, 0]]
    logits[:, 1] = [[1, 0, 0], [0, 9, 0], [0, 9, 0], [0, 9, 0], [0, 9, 0]]
    assert tasks.sequence_accuracy(logits, batch) == 1
    logits[0, 1] = [0, 1, 0]
    assert tasks.sequence_accuracy(logits, batch) == 0.5
    with pytest.raises(ValueError, match=r"logits: expected shape \(5, 2, 'classes'\), got"):
        tasks.sequence_accuracy(logits[:4], batch)


@pytest.mark.core
@pytest.mark.parametrize("by, time, in_size", [("pixels", 64, 1), ("rows", 8, 8)])
def test_digits_are_split_by_class(by, time, in_size):
    split = tasks.digits(by)
    assert len(split.train) + len(split.test) == 1797 and split.validation is None
    batch = split.test.all()
    assert batch.xs.shape == (time, len(split.test), in_size)
    assert batch.xs.min() == 0 and batch.xs.max() == 1
    counts = np.bincount(split.train.labels, minlength=10) + np.bincount(split.test.labels)
    held_out = np.bincount(split.test.labels)
    assert (np.abs(held_out - counts / 5) <= 0.5).all()
    everything = np.concatenate([part.all().xs.reshape(64, -1) if by == "pixels" else
                                 part.all().xs.transpose(0, 2, 1).reshape(64, -1)
                                 for part in split[:2]], axis=1)  # fmt: skip
    assert len(np.unique(everything, axis=1).T) == 1797  # no image in both, none twice


def test_digits_are_the_images_and_seeded():
    from sklearn.datasets import load_digits

    images = {
        image.tobytes(): label for image, label in zip(*_float_digits(load_digits()), strict=True)
    }
    for part in tasks.digits("rows", rng=3)[:2]:
        assert all(images[part.read(i).tobytes()] == part.labels[i] for i in range(len(part)))
    a, b, c = (tasks.digits(rng=rng).test.all().xs for rng in (1, np.random.default_rng(1), 2))
    np.testing.assert_array_equal(a, b)
    assert a.shape == c.shape and not np.array_equal(a, c)


def _float_digits(data):
    return (data.images / 16).astype(np.float32), data.target


def test_digits_floors():
    whole, last = [], []
    for rng in range(3):
        train, test, _ = tasks.digits("rows", rng=rng)
        assert np.bincount(test.labels).max() / len(test) == pytest.approx(
            stated(tasks.digits, "0.103"), abs=5e-4
        )
        (a, *_), (b, *_) = train.all(), test.all()
        for scores, x, y in ((whole, a, b), (last, a[-1:], b[-1:])):
            flat = [z.transpose(1, 0, 2).reshape(z.shape[1], -1) for z in (x, y)]
            model = LogisticRegression(max_iter=2000).fit(flat[0], train.labels)
            scores.append(model.score(flat[1], test.labels))
    # The standard error of one split is about 0.01 and 0.026.
    assert np.mean(whole) == pytest.approx(stated(tasks.digits, "0.969"), abs=0.015)
    assert np.mean(last) == pytest.approx(stated(tasks.digits, "0.507"), abs=0.04)
    assert stated(tasks.digits, "0.764") < stated(tasks.digits, "0.938")


def test_digits_without_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "rtrl\[tasks\]"'):
        tasks.digits()


HEAD = """#Vowels
#
@problemName JapaneseVowels
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true 1 2 9
@data
"""
TRAIN = HEAD + "1.5,2,3:-1,-2,-3:9\n0.5:?:1\n\n"
TEST = HEAD + "1,2:3,4:2\n"


def vowels(folder, train=TRAIN, test=TEST):
    for part, text in (("TRAIN", train), ("TEST", test)):
        (folder / f"JapaneseVowels_{part}.ts").write_text(text)


@pytest.mark.core
def test_japanese_vowels_reads_ts_files(tmp_path):
    vowels(tmp_path)
    train, test, _ = tasks.japanese_vowels(tmp_path)
    np.testing.assert_array_equal(train.read(0), [[1.5, -1], [2, -2], [3, -3]])
    np.testing.assert_array_equal(train.read(1), [[0.5, np.nan]])
    assert train.labels.tolist() == [2, 0] and test.labels.tolist() == [1]
    assert train.lengths.tolist() == [3, 1] and train.classes == 3
    assert train.all().xs.shape == (3, 2, 2) and test.all().xs.shape == (2, 1, 2)


def test_japanese_vowels_finds_what_aeon_ships(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "aeon", raising=False)
    with pytest.raises(ImportError, match="japanese_vowels: .*pip install aeon, or pass data_dir="):
        tasks.japanese_vowels()
    folder = tmp_path / "aeon/datasets/data/JapaneseVowels"
    folder.mkdir(parents=True)
    (tmp_path / "aeon/__init__.py").write_text("raise RuntimeError('imported')")
    vowels(folder)
    assert len(tasks.japanese_vowels().train) == 2


@pytest.mark.parametrize(
    "train, message",
    [
        (HEAD, "data_dir: expected sequences after @data in JapaneseVowels_TRAIN.ts"),
        (HEAD + "1,2:3,4:7\n", r"JapaneseVowels_TRAIN.ts line 11: expected a class of .*got '7'"),
        (HEAD + "1,2:3,x:1\n", "line 11: expected numbers with commas between them: .*'x'"),
        (HEAD + "1,2:3:1\n", r"line 11: expected channels of one length, got \[2, 1\]"),
        (HEAD.replace("false", "true", 1), "line 4: expected values without time stamps"),
    ],
)
def test_other_ts_files_are_refused(tmp_path, train, message):
    vowels(tmp_path, train=train)
    with pytest.raises(ValueError, match=message):
        tasks.japanese_vowels(tmp_path)


def test_japanese_vowels_floors_where_aeon_is_installed():
    try:
        train, test, _ = tasks.japanese_vowels()
    except ImportError:
        pytest.skip("aeon is not installed")
    assert (len(train), len(test)) == (270, 370)
    assert (train.lengths.min(), test.lengths.min()) == (7, 7)
    assert (train.lengths.max(), test.lengths.max()) == (26, 29)
    check_vowel_floors(train, test)


def check_vowel_floors(train, test):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def accuracy(feature):
        a, b = (np.array([feature(p.read(i)) for i in range(len(p))]) for p in (train, test))
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        return model.fit(a, train.labels).score(b, test.labels)

    task = tasks.japanese_vowels
    last, moments = accuracy(lambda x: x[-1]), accuracy(lambda x: np.r_[x.mean(0), x.std(0)])
    assert last == pytest.approx(stated(task, "0.959"), abs=0.006)
    assert moments == pytest.approx(stated(task, "0.962"), abs=0.006)
    assert np.bincount(test.labels).max() / 370 == pytest.approx(stated(task, "0.238"), abs=5e-4)


small = partial(tasks.listops, 60, 20, 30, shortest=4, longest=60)


def parse(symbols):
    """The value of an expression, by a parser of its own."""
    stack = [[]]
    for symbol in symbols:
        if symbol.startswith("["):
            stack.append([symbol])
        elif symbol == "X":
            operator, *values = stack.pop()
            half = sorted(values)[(len(values) - 1) // 2 : len(values) // 2 + 1]
            results = {
                "[MIN": min(values),
                "[MAX": max(values),
                "[MED": int(np.median(values)),
                "[SM": sum(values) % 10,
            }
            assert half[0] <= results["[MED"] <= half[-1] and 2 <= len(values) <= 10
            stack[-1].append(results[operator])
        else:
            stack[-1].append(int(symbol))
    ((value,),) = stack
    return value


@pytest.mark.core
def test_listops_labels_are_the_values():
    split = small(rng=0)
    assert split.validation is not None
    parts = (split.train, split.validation, split.test)
    assert [len(p) for p in parts] == [60, 20, 30]
    seen = set()
    for part in parts:
        for i in range(len(part)):
            tokens = part.read(i)
            assert tokens.dtype == np.int32 and 4 <= len(tokens) == part.lengths[i] <= 60
            seen.add(tuple(tokens))
            symbols = [_listops.SYMBOLS[token - 1] for token in tokens]
            assert parse(symbols) == part.labels[i]
            depth = np.cumsum([s.startswith("[") - (s == "X") for s in symbols])
            assert depth.max() < _listops.MAX_DEPTH  # the deepest nodes are digits
    assert len(seen) == 110


def test_listops_is_seeded():
    def tokens(rng):
        return small(rng=rng).test.all().xs

    np.testing.assert_array_equal(tokens(0), tokens(np.random.default_rng(0)))
    assert not np.array_equal(tokens(0), tokens(1))


def test_listops_draws_the_tree_of_the_benchmark():
    """Shares of the shortest expressions: all that has a length can be counted by hand."""
    source = _listops.expressions(np.random.default_rng(0), 1, 4)
    lengths = np.array([len(next(source)[0]) for _ in range(20_000)])
    digit = 0.75
    pair = 0.25 / 9 * digit**2  # expanded, two children, both digits
    expected = digit / (digit + pair)
    assert np.mean(lengths == 1) == pytest.approx(expected, abs=0.004)  # four standard errors
    assert set(lengths.tolist()) == {1, 4}


def test_listops_floors():
    split = tasks.listops(4000, 1, 1, rng=0)
    labels, lengths = split.train.labels, split.train.lengths
    assert lengths.min() > 500 and lengths.max() < 2000
    largest = np.bincount(labels).max() / len(labels)
    # Standard errors are 0.006 and 0.008.
    assert largest == pytest.approx(stated(tasks.listops, "0.173"), abs=0.02)
    root = np.array([split.train.read(i)[0] for i in range(len(labels))])
    assert set(root.tolist()) == {11, 12, 13, 14}
    best = sum(np.bincount(labels[root == o]).max() for o in np.unique(root)) / len(labels)
    assert best == pytest.approx(stated(tasks.listops, "0.371"), abs=0.025)


def test_listops_reads_the_benchmarks_files(tmp_path):
    text = "Source\tTarget\n( ( ( [MAX 2 ) ( ( ( [MED 4 ) 7 ) ] ) ) ] )\t5\n3\t3\n"
    for part in ("train", "val", "test"):
        (tmp_path / f"basic_{part}.tsv").write_text(text)
    split = tasks.listops(data_dir=tmp_path)
    assert split.validation is not None
    for part in (split.train, split.test, split.validation):
        symbols = [_listops.SYMBOLS[token - 1] for token in part.read(0)]
        assert symbols == ["[MAX", "2", "[MED", "4", "7", "X", "X"] and parse(symbols) == 5
        assert part.labels.tolist() == [5, 3]
    (tmp_path / "basic_val.tsv").write_text("Source\tTarget\n( [MUL 3 ] )\t3\n")
    with pytest.raises(ValueError, match=r"basic_val.tsv line 2: .*got \['\[MUL'\]"):
        tasks.listops(data_dir=tmp_path)
    (tmp_path / "basic_val.tsv").unlink()
    with pytest.raises(ValueError, match="data_dir: .*basic_val.tsv"):
        tasks.listops(data_dir=tmp_path)


@pytest.mark.core
def test_summary_has_all_tasks_in_their_own_words():
    found = {task.name: task for task in tasks.summary()}
    returns = {"Sequences", "Stream", "Split"}
    exported = {
        name: function
        for name, function in vars(tasks).items()
        if inspect.isfunction(function) and name not in ("forecast", "summary")
        and getattr(inspect.signature(function).return_annotation, "__name__",
                    inspect.signature(function).return_annotation) in returns
    }  # fmt: skip
    assert {name: task.function for name, task in found.items()} == exported
    assert len(found) == 18
    for task in found.values():
        assert task.summary.endswith(".") and task.shapes.startswith("Shapes")
        assert len(task.floors) > 10 and task.source.endswith(".")
        assert "\n\n" not in task.shapes and "\n" not in task.floors + task.source
    assert {task.kind for task in found.values()} == {"sequences", "stream", "labelled"}
    assert found["adding"].floors.endswith("mean squared error 1/6 = 0.167.")
    assert found["santafe"].floors.startswith("NRMSE of the second half at horizon 1 / 5: mean 1")
    assert found["digits"].shapes.splitlines()[1].strip().startswith("xs: (T, batch, in_size)")


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: EXAMPLES.batch([]), "indices: .*at least one"),
        (lambda: EXAMPLES.batch([0.5]), "indices: .*got \\[0.5\\]"),
        (lambda: EXAMPLES.batch([0, 4, -1]), r"indices: .*below 4, got \[4, -1\]"),
        (lambda: EXAMPLES.batch([2], 4), "length: .*at least the 5 timesteps.*got 4"),
        (lambda: next(EXAMPLES.batches(0)), "batch_size: .*got 0"),
        (lambda: next(EXAMPLES.batches(2, rng=-1)), "rng: .*got -1"),
        (lambda: tasks.digits("columns"), "by: .*got 'columns'"),  # type: ignore[arg-type]
        (lambda: tasks.digits(held_out=1.0), "held_out: .*got 1.0"),
        (lambda: tasks.digits(rng=-1), "rng: .*got -1"),
        (lambda: tasks.listops(0), "train: .*got 0"),
        (lambda: tasks.listops(1, 1, 0), "test: .*got 0"),
        (lambda: tasks.listops(shortest=10, longest=9), "longest: .*at least 10, got 9"),
        (lambda: tasks.listops(5000, shortest=4, longest=4), "longest: .*room for .*were found"),
        (lambda: tasks.imdb("x", length=0), "length: .*got 0"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
