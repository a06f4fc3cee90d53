"""Several processes, one model: each feeds its own streams; one dies, and another resumes."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from cases import squared_error  # noqa: E402

import rtrl  # noqa: E402
from rtrl.learners._processes import together  # noqa: E402

B, T = 4, 4
#: Seconds after which a process knows that another one has gone: the runtime's word for it.
HEARTBEAT = 10


def learner_and_state():
    key = jax.random.key(0)
    model = rtrl.SequenceModel(
        3, 2, 6, 1, lambda size, key: rtrl.cells.LRU(size, 4, key=key), glu=None, key=key
    )
    learner = rtrl.OnlineLearner(squared_error, optax.sgd(1e-2))
    return learner, learner.init(model, B)


def data():
    rng = np.random.default_rng(0)
    xs, ys = rng.normal(size=(T, B, 3)), rng.normal(size=(T, B, 2))
    return xs.astype(np.float32), ys.astype(np.float32)


def main(process: int, count: int, port: str, folder: str):
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{port}", count, process, heartbeat_timeout_seconds=HEARTBEAT
    )
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("b",))
    learner, state = learner_and_state()
    state = rtrl.shard(state, mesh, batch="b")
    xs, ys = data()
    share = B // count
    own = slice(share * process, share * (process + 1))
    state, out = learner.scan(state, xs[:, own], ys[:, own], chunk=2)
    mine = rtrl.own_samples(out.prediction, axis=1)
    assert mine.shape == (T, share, 2)
    if jax.local_device_count() > 1:  # which would give one device's timesteps for all
        with pytest.raises(ValueError, match="axis: expected the axis that arrays of shape"):
            rtrl.own_samples(out.prediction)
    np.savez(f"{folder}/out-{process}.npz", prediction=mine, loss=np.asarray(out.loss))
    with pytest.raises(ValueError, match=f"expected .*{share}"):  # its own samples, not everyone's
        learner.scan(state, xs, ys)
    rtrl.save(f"{folder}/state", state)
    again = rtrl.load(f"{folder}/state", state)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(rtrl.own_samples(a), rtrl.own_samples(b))
    state, _ = learner.scan(again, xs[:, own], ys[:, own], chunk=2)
    if process == 0:
        with pytest.raises(rtrl.LostProcessError, match="has stopped"), together():
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: connection closed")
        with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE"), together():
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    if process == count - 1:
        os._exit(9)  # as if killed
    start = time.monotonic()
    try:
        while time.monotonic() < start + 100:
            state, _ = learner.scan(state, xs[:, own], ys[:, own], chunk=2)
    except rtrl.LostProcessError as error:
        Path(folder, f"error-{process}").write_text(f"{time.monotonic() - start} {error}")
        os._exit(0)  # without waiting for the one that is gone


@pytest.mark.core
@pytest.mark.parametrize(
    ("count", "devices"),
    [
        (2, 1),
        pytest.param(2, 2, marks=pytest.mark.slow),
        pytest.param(4, 1, marks=pytest.mark.slow),
    ],
)
def test_processes_learn_one_model_and_one_learns_on_from_what_they_saved(count, devices, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join(filter(None, sys.path))
    flags = f"--xla_force_host_platform_device_count={devices}"
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(i), str(count), port, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": path, "XLA_FLAGS": flags},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]
    errors = [process.communicate()[1] for process in started]
    *others, last = (process.returncode for process in started)
    assert last == 9
    # The others stop by themselves, say why, and what to do, within the stated time. Where there
    # are more than two devices gloo may abort them, which hear of it in different collectives.
    told = [i for i, code in enumerate(others) if code == 0]
    assert all("gloo" in errors[i] for i in {*range(count - 1)} - {*told})
    assert told or count * devices > 2
    for i in told:
        waited, message = (tmp_path / f"error-{i}").read_text().split(" ", 1)
        assert float(waited) < 2 * HEARTBEAT
        assert "another process of the job has stopped" in message
        assert "load the last save" in message

    learner, state = learner_and_state()
    like = learner.init(state.model, B)
    xs, ys = data()
    alone, out = learner.scan(state, xs, ys, chunk=2)
    parts = [np.load(tmp_path / f"out-{i}.npz") for i in range(count)]
    # float32: the mean over samples is taken in another order.
    together = np.concatenate([part["prediction"] for part in parts], 1)
    np.testing.assert_allclose(together, out.prediction, rtol=1e-4, atol=1e-5)
    for part in parts:
        np.testing.assert_allclose(part["loss"], out.loss, rtol=1e-4)
    saved = rtrl.load(tmp_path / "state", like)
    for a, b in zip(jax.tree.leaves(saved), jax.tree.leaves(alone), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    after, _ = learner.scan(saved, xs, ys, chunk=2)
    assert int(after.step) == 2 * T


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
