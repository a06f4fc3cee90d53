"""`rtrl.save` and `rtrl.load` beside orbax, for one state on eight virtual devices.

    pip install orbax-checkpoint;  python bench/against_orbax.py

Writes bench/results/against_orbax.json: seconds of the wall clock and of the processor for saving
and for loading, three times, and whether both give back every bit. Traces are filled with noise,
since orbax compresses.
"""

import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import equinox as eqx
import jax
import numpy as np
import optax
import orbax.checkpoint as orbax  # type: ignore[import-not-found]

import rtrl

RESULT = Path(__file__).parent / "results" / "against_orbax.json"


def squared_error(prediction, target):
    return ((prediction - target) ** 2).sum()


def timed(act) -> tuple[dict[str, float], object]:
    wall, processor = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(act())
    used = time.perf_counter() - wall, time.process_time() - processor
    return dict(zip(("wall, s", "processor, s"), (round(t, 2) for t in used), strict=True)), result


def main() -> None:
    key = jax.random.key(0)
    model = rtrl.SequenceModel(
        4, 2, 128, 2, lambda size, key: rtrl.cells.LRU(size, 128, key=key), key=key
    )
    state = rtrl.OnlineLearner(squared_error, optax.adam(1e-3)).init(model, 256)
    rng = np.random.default_rng(0)
    noisy = jax.tree.map(lambda a: a + rng.normal(size=a.shape).astype("f4"), state.carry)
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("b", "m"))
    state = rtrl.shard(dataclasses.replace(state, carry=noisy), mesh, batch="b", modules="m")
    # Orbax takes arrays by name, and no typed keys.
    arrays = jax.tree.leaves(eqx.filter(dataclasses.replace(state, key=None), eqx.is_array))
    tree = {str(i): a for i, a in enumerate(arrays)}
    found: dict = {"MB": round(sum(a.nbytes for a in arrays) / 1e6, 1), "orbax": [], "rtrl": []}

    def same(others) -> bool:
        return all(np.array_equal(a, b) for a, b in zip(arrays, others, strict=True))

    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "state")
            saving, _ = timed(lambda path=path: rtrl.save(path, state))
            loading, back = timed(lambda path=path: rtrl.load(path, state))
            kept = eqx.filter(dataclasses.replace(back, key=None), eqx.is_array)  # type: ignore
            exact = same(jax.tree.leaves(kept))
            found["rtrl"].append({"save": saving, "load": loading, "every bit": exact})
        with tempfile.TemporaryDirectory() as folder, orbax.StandardCheckpointer() as keeper:

            def save(path=Path(folder, "state"), keeper=keeper):
                keeper.save(path, tree)
                keeper.wait_until_finished()

            saving, _ = timed(save)
            like = jax.tree.map(orbax.utils.to_shape_dtype_struct, tree)
            loading, back = timed(
                lambda keeper=keeper, like=like, folder=folder: keeper.restore(
                    Path(folder, "state"), like
                )
            )
            exact = same([back[name] for name in tree])  # type: ignore[index]
            found["orbax"].append({"save": saving, "load": loading, "every bit": exact})
    found["load"] = os.getloadavg()[0]
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
