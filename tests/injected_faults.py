"""Faults of a stream and of a disk, injected at random, and whether learning survives them."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import rtrl
from rtrl.cli._data import Data, squared_error
from rtrl.cli._names import FILE
from rtrl.cli._setup import Setup, build_learner, build_model, complete

SAMPLES = 2  # of a batch
GOOD = 0.5  # NRMSE of a sine that counts as learned; never to have learned is 1
LEARN = 900  # timesteps before the first fault
BLOCK = 100  # timesteps that go in at once: one shape, one program


class Rows(NamedTuple):
    """A stretch of a stream, ``(time, columns)``: a sine and noise in, the sine's next value."""

    xs: np.ndarray
    ys: np.ndarray
    resets: np.ndarray


def rows(first: int, count: int, rng: np.random.Generator) -> Rows:
    t = np.arange(first, first + count + 1)
    wave = np.sin(0.3 * t)[:, None]
    noise = 0.01 * rng.normal(size=(count, 2))
    return Rows(np.concatenate([wave[:-1], wave[:-1]], 1) + noise, wave[1:], np.zeros(count, bool))


def some(rng, length):
    """A few timesteps of a stretch."""
    return rng.random(length) < 0.1


def spoiled(value) -> Callable:
    def spoil(r: Rows, rng):
        r.xs[some(rng, len(r.xs)), rng.integers(2)] = value
        r.ys[some(rng, len(r.ys))] = value

    return spoil


def repeated(r: Rows, rng):
    r.xs[:], r.ys[:] = r.xs[0], r.ys[0]


def constant_inputs(r: Rows, rng):
    r.xs[:] = 0.5


def missing_targets(r: Rows, rng):
    r.ys[:] = np.nan


def garbage(r: Rows, rng):
    r.ys[:] = 1e4 * rng.normal(size=r.ys.shape)


def resets(r: Rows, rng):
    r.resets[:] = True


def nothing(r: Rows, rng):
    r.xs[:], r.ys[:] = np.nan, np.nan


def zeros(r: Rows, rng):
    r.xs[:], r.ys[:] = 0, 0


#: What may come in a stream, and whether the learner must say that something was lost.
OF_DATA: dict[str, tuple[Callable, bool]] = {
    "NaN": (spoiled(np.nan), True),
    "inf": (spoiled(np.inf), True),
    "1e38": (spoiled(1e38), True),
    "-3.4e38": (spoiled(-3.4e38), True),
    "1e300": (spoiled(1e300), True),
    "1e6": (spoiled(1e6), True),
    "constant inputs": (constant_inputs, False),
    "zeros": (zeros, False),
    "repeated rows": (repeated, False),
    "missing targets": (missing_targets, True),
    "garbage": (garbage, False),
    "a reset at every timestep": (resets, False),
    "nothing at all": (nothing, True),
}


class Subject:
    """Something that learns, fed in blocks; what it says of losses is added up."""

    def __init__(self, learner: Any, state: Any, batched: bool = False, chunk: int = 1):
        self.learner, self.state, self.batched, self.chunk = learner, state, batched, chunk
        self.first, self.said, self.seen = state, 0, 0
        self.last = np.full((1, 1), np.nan)

    def advance(self, r: Rows, starts: np.ndarray | None = None) -> np.ndarray:
        """Predictions of all rows; every sample of a batch sees the same, but may begin anew."""
        forecaster = isinstance(self.learner, rtrl.Forecaster)
        xs, ys, begins = r
        if forecaster:  # the target that comes with a row is that of the row before
            ys = np.concatenate([self.last, ys[:-1]])
            self.last = r.ys[-1:]
        found = []
        for at in range(0, len(xs), BLOCK):
            x, y, reset = (a[at : at + BLOCK] for a in (xs, ys, begins))
            options: dict[str, Any] = {} if forecaster else {"chunk": self.chunk}
            if self.batched:
                x, y = (np.repeat(a[:, None], SAMPLES, 1) for a in (x, y))
                reset = np.repeat(reset[:, None], SAMPLES, 1)
                if starts is not None:  # one sample ends, another begins
                    reset[:, 1] |= starts[at : at + BLOCK]
                    x[:, 1][starts[at : at + BLOCK]] = np.nan
            if isinstance(self.learner, rtrl.OnlineLearner):
                with np.errstate(over="ignore"):  # 1e300 is infinite there
                    x, y = x.astype(np.float32), y.astype(np.float32)
            self.state, out = self.learner.scan(self.state, x, y, resets=reset, **options)
            counts = ("skipped", "held", "restarted", "bounded", "reverted")
            self.said += sum(int(np.sum(getattr(out, c, 0))) for c in counts)
            predictions = np.asarray(out.prediction, float)
            found.append(predictions[:, 0] if self.batched else predictions)
        return np.concatenate(found)


def finite(state) -> bool:
    leaves = jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array_like))
    return all(np.isfinite(np.asarray(a)).all() for a in leaves)


def loss(subject: Subject, r: Rows) -> float:
    left = subject.advance(r) - r.ys
    return float(np.sqrt((left**2).mean()) / r.ys.std())


# The disk -----------------------------------------------------------------------------------


@contextlib.contextmanager
def failing(name: str, error: OSError):
    """A function of `os` that fails, as on a full disk or in a folder that is read-only."""
    kept = getattr(os, name)

    def fail(*_: object, **__: object):
        raise error

    setattr(os, name, fail)
    try:
        yield
    finally:
        setattr(os, name, kept)


def full_disk(subject: Subject, path: Path, rng):
    with failing("fsync", OSError(errno.ENOSPC, "No space left on device")):
        refused(lambda: rtrl.save(path, subject.state), "No space left")


def read_only(subject: Subject, path: Path, rng):
    with failing("replace", OSError(errno.EROFS, "Read-only file system")):
        refused(lambda: rtrl.save(path, subject.state), "Read-only")


def flipped_byte(subject: Subject, path: Path, rng):
    """Refused, or it was no byte of importance; then everything is as it was."""
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    other = path.with_suffix(".flipped")
    other.write_bytes(content)
    try:
        loaded = rtrl.load(other, subject.first)
    except ValueError as error:
        assert str(other) in str(error), error
    else:
        assert same(loaded, rtrl.load(path, subject.first))


#: Saves what it loads, over and over.
SAVING = """
import sys, numpy as np, rtrl
arrays = [np.zeros(100_000) for _ in range(4)]
rtrl.save(sys.argv[1], arrays)
print("ready", flush=True)
while True:
    rtrl.save(sys.argv[1], arrays)
"""


def killed_in_save(subject: Subject, path: Path, rng):
    other = path.with_suffix(".killed")
    process = subprocess.Popen([sys.executable, "-c", SAVING, other], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline()
    time.sleep(0.3 + 0.1 * rng.random())
    process.send_signal(signal.SIGKILL)
    process.wait()
    rtrl.load(other, [np.zeros(100_000)] * 4)


OF_DISK: dict[str, Callable] = {
    "a full disk": full_disk,
    "a read-only folder": read_only,
    "a flipped byte": flipped_byte,
    "kill -9 in save": killed_in_save,
}


def refused(call: Callable, words: str):
    try:
        call()
    except OSError as error:
        assert words in str(error)
    else:
        raise AssertionError("nothing was said")


def same(a, b) -> bool:
    def numbers(tree):
        leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array_like))
        keys = (isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
                for x in leaves)  # fmt: skip
        return [np.asarray(jax.random.key_data(x) if k else x)
                for x, k in zip(leaves, keys, strict=True)]  # fmt: skip

    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(numbers(a), numbers(b),
                                                                   strict=True))  # fmt: skip


# All together -------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """After one fault: NRMSE when learning had its time again, and what failed, if anything."""

    fault: str
    nrmse: float
    failed: str


def clean(subject: Subject, count: int, rng: np.random.Generator) -> Rows:
    """The next rows, with nothing wrong."""
    subject.seen += count
    return rows(subject.seen - count, count, rng)


def learn(subject: Subject, rng: np.random.Generator) -> None:
    subject.advance(clean(subject, LEARN, rng))


def one(
    subject: Subject, folder: Path, rng: np.random.Generator, fault: str, length: int, recover: int
) -> Outcome:
    """A fault, and then clean rows: ``recover`` of them, and a block that is scored."""
    path, failed = folder / "state", ""
    # A forecaster learns from values that are too large, but not that much: nothing is lost.
    quiet = isinstance(subject.learner, rtrl.Forecaster) and fault == "1e6"
    rtrl.save(path, subject.state)
    if fault in OF_DISK:
        OF_DISK[fault](subject, path, rng)
    else:
        spoil, must_say = OF_DATA[fault]
        r, said = clean(subject, length, rng), subject.said
        before = r.xs.copy(), r.ys.copy()
        spoil(r, rng)
        changed = any((a != b).any() for a, b in zip((r.xs, r.ys), before, strict=True))
        if not np.isfinite(subject.advance(r, rng.random(length) < 0.2)).all():
            failed = "a prediction is not finite"
        elif must_say and changed and subject.said == said and not quiet:
            failed = "nothing was said"
    if not finite(subject.state):
        failed = "the state is not finite"
    rtrl.save(path, subject.state)
    if not same(rtrl.load(path, subject.first), subject.state):
        failed = "the state that was saved is another one"
    subject.advance(clean(subject, recover, rng))
    nrmse = loss(subject, clean(subject, BLOCK, rng))
    if not nrmse < GOOD:
        failed = failed or "learning has not gone on"
    return Outcome(fault, round(nrmse, 4), failed)


def soak(
    subject: Subject, folder: Path, rng: np.random.Generator, faults: list[str], recover: int
) -> list[Outcome]:
    """One fault after the other."""
    learn(subject, rng)
    return [one(subject, folder, rng, fault, BLOCK, recover) for fault in faults]


# Whom ---------------------------------------------------------------------------------------


def half_square(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


def network() -> rtrl.SequenceModel:
    def cell(size, key):
        return rtrl.cells.LRU(size, 8, key=key)

    return rtrl.SequenceModel(2, 1, 8, 1, cell, norm=None, glu="half1", key=jax.random.key(0))


def bare(optimizer) -> Subject:
    return guarded(optimizer, None)


GUARD = rtrl.Guard(divergence=100.0)


def guarded(optimizer, guard: rtrl.Guard | None = GUARD) -> Subject:
    learner = rtrl.OnlineLearner(half_square, optimizer, guard=guard, donate=False)
    return Subject(learner, learner.init(network(), SAMPLES), batched=True)


def standardized(optimizer) -> Subject:
    learner = rtrl.Standardized(rtrl.OnlineLearner(half_square, optimizer, donate=False))
    return Subject(learner, learner.init(network()))


def command_line(optimizer: str, **sizes: Any) -> Subject:
    """The network that ``rtrl stream --learner network`` learns two columns of a file with."""
    data = Data(FILE, "stream", rows(0, 1, np.random.default_rng(0)), 2, 1, squared_error, "nrmse")
    setup = complete(Setup("log.csv", learner="network", optimizer=optimizer, **sizes), data)
    model = build_model(setup, 2, 1)
    learner = build_learner(setup, "stream", squared_error, model)
    return Subject(learner, learner.init(model), chunk=setup.chunk or 1)


def forecaster() -> Subject:
    learner = rtrl.Forecaster(2, 1, own=(0,), donate=False)
    return Subject(learner, learner.init())
