"""An exported learner, compiled and run: every warning is an error, sanitizers watch."""

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rtrl

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
HARNESS = Path(__file__).parent / "harness.c"


class Step(NamedTuple):
    """One call of ``learner_step``."""

    x: Any
    y: Any = None
    weight: float = 1.0
    reset: bool = False


class Answer(NamedTuple):
    skipped: int
    prediction: np.ndarray


class CLearner:
    """A learner exported to a folder; ``do`` runs commands in a fresh process."""

    def __init__(self, learner, state, folder: Path, compiler: str = "gcc", flags=("-O0",)):
        rtrl.device.export(learner, state, folder)
        self.folder, self.state, self.program = folder, state, folder / "harness"
        self.source = (folder / "learner.c").read_text()
        self.compile(compiler, flags)
        self._sent, self._expected = b"", []
        header = (folder / "learner.h").read_text()
        sizes = {w[1]: w[2] for line in header.splitlines() if len(w := line.split()) > 2}
        self.x, self.y = int(sizes["LEARNER_INPUTS"]), int(sizes["LEARNER_TARGETS"])
        self.bytes = int(sizes["LEARNER_STATE_BYTES"].rstrip("u"))

    def compile(self, compiler: str = "gcc", flags=("-O0",)) -> None:
        sanitizers = SANITIZERS if "-O0" in flags else []  # clang takes minutes for both at -O1
        command = [compiler, *STRICT, *flags, *sanitizers, "-I", self.folder, HARNESS,
                   self.folder / "learner.c", "-o", self.program, "-lm"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def step(self, step: Step) -> None:
        known = step.y is not None
        y = np.zeros(self.y) if step.y is None else step.y
        numbers = np.concatenate([np.ravel(step.x), np.ravel(y), [step.weight]]).astype("f4")
        reset = np.int32(step.reset).tobytes()
        self._send(b"S" + bytes([known]) + numbers.tobytes() + reset, self._answer)

    def predict(self, x) -> None:
        def read(data):
            return np.frombuffer(data, "f4", self.y).copy(), 4 * self.y

        self._send(b"P" + np.asarray(x, "f4").tobytes(), read)

    def load(self, data: bytes) -> None:
        self._send(b"L" + np.int32(len(data)).tobytes() + data, _number)

    def dump(self) -> None:
        self._send(b"D", lambda data: (data[: self.bytes], self.bytes))

    def init(self) -> None:
        self._sent += b"I"

    def keep(self, power: int = -1) -> None:
        self._send(b"K" + np.int32(power).tobytes(), _number)

    def recall(self) -> None:
        self._send(b"R", _number)

    def _send(self, data: bytes, read) -> None:
        self._sent += data
        self._expected.append(read)

    def _answer(self, data):
        skipped, _ = _number(data)
        return Answer(skipped, np.frombuffer(data, "f4", self.y, 4).copy()), 4 + 4 * self.y

    def do(self) -> list[Any]:
        """Run what was asked for; the answers in order."""
        sent, expected, self._sent, self._expected = self._sent, self._expected, b"", []
        done = subprocess.run([self.program], input=sent, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        answers, data = [], done.stdout
        for read in expected:
            answer, size = read(data)
            answers.append(answer)
            data = data[size:]
        assert data == b""
        return answers


def _number(data):
    return int(np.frombuffer(data, "i4", 1)[0]), 4


def arrays(state) -> dict[str, np.ndarray]:
    """The arrays of a state by path, keys left out."""
    found = jax.tree_util.tree_flatten_with_path(state)[0]
    return {
        jax.tree_util.keystr(path): np.asarray(a)
        for path, a in found
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
    }


def distance(ours, theirs) -> tuple[float, str]:
    """The largest difference of two states, array by array relative to its largest number."""
    worst = (0.0, "")
    a, b = arrays(ours), arrays(theirs)
    assert a.keys() == b.keys()
    for path in a:
        assert a[path].dtype == b[path].dtype and a[path].shape == b[path].shape, path
        nan = np.isnan(b[path])
        assert (np.isnan(a[path]) == nan).all(), path
        difference = np.abs(np.where(nan, 0, a[path].astype(complex) - b[path]))
        scale = np.abs(np.where(nan, 0, b[path])).max(initial=0) + 1e-6
        worst = max(worst, (float(difference.max(initial=0) / scale), path))
    return worst
