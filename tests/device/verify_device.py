"""Exported C on other machines: ``make verify-device``.

A learner is exported, compiled for an emulated Cortex-M4F, Cortex-M0 (soft float), RISC-V 64 and a
big-endian s390x, loads a state packed in Python, learns 100 rows, and saves, in float32 and with
traces in int8 and momentum in bfloat16. Predictions and the state must be JAX's within rounding,
the bytes in the same order everywhere.
"""

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from c_learner import distance
from cross import PACKAGES, TARGETS, export_case, missing, run

import rtrl

LENGTH = 100
#: Rounding of 100 steps in single precision, other sums and other functions of math.h.
TOLERANCE = 1e-4
#: With int8 traces and bfloat16 momentum: where float32 differs in its last bits a number is now
#: and then rounded otherwise, a hundredth of the largest.
NARROW_TOLERANCE = 0.03


def case(hidden: int, dtype: Any = "float32"):
    key = jax.random.key(0)
    model = rtrl.SequenceModel(
        1, 1, hidden, 1, lambda n, k: rtrl.cells.LRU(n, hidden, key=k), norm=None, key=key
    )
    optimizer = optax.sgd(1e-3)
    if dtype != "float32":
        optimizer = rtrl.narrow_moments(optax.sgd(1e-3, momentum=0.5), "bfloat16")
    learner = rtrl.OnlineLearner(
        lambda p, y: jnp.sum((p - y) ** 2), optimizer, trace_dtype=dtype, donate=False
    )
    signal = np.sin(0.3 * np.arange(2 * LENGTH + 1)).astype(np.float32)[:, None]
    state, _ = learner.scan(learner.init(model), signal[:LENGTH], signal[1 : LENGTH + 1])
    return learner, state, signal[LENGTH:-1], signal[LENGTH + 1 :]


def main() -> int:
    if lacking := missing():
        print(f"Not installed: {', '.join(lacking)}. apt-get install {PACKAGES}", file=sys.stderr)
        return 1
    failed = 0
    for (name, target), dtype in itertools.product(TARGETS.items(), ("float32", "int8")):
        learner, state, xs, ys = case(target.hidden, dtype)
        with tempfile.TemporaryDirectory() as folder:
            export_case(learner, state, xs, ys, Path(folder))
            found = run(target, Path(folder))
        after, outs = learner.scan(state, xs, ys, chunk=1)
        predicted = np.abs(found.predictions - np.asarray(outs.prediction)[:, 0]).max()
        worst, where = distance(rtrl.device.unpack(found.state, like=after), after)
        tolerance = TOLERANCE if dtype == "float32" else NARROW_TOLERANCE
        good = found.loaded == 0 and predicted < TOLERANCE and worst < tolerance
        failed += not good
        print(f"{name:18s} {dtype:8s} {'ok' if good else 'NOT EQUAL'}: predictions differ by "
              f"{predicted:.1e}, the state by {worst:.1e} ({where})")  # fmt: skip
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
