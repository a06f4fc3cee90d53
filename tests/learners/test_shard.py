"""A learner spread over eight devices by `rtrl.shard`: the numbers of one device, no trace travels.

Every check runs in one process of its own, as the number of devices is fixed when JAX starts.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

sys.path.insert(0, str(Path(__file__).parents[1]))

from cases import squared_error  # noqa: E402

import rtrl  # noqa: E402
from rtrl.learners._collectives import arrays_in, collectives_in, compiled_text  # noqa: E402

#: Sizes that nothing else has: an array's size tells what it is.
B, N, WIDTH, T = 10, 28, 11, 5
#: The share of a projection's trace that a device has on a mesh of 2 x 4, in float64 numbers.
LOCAL = (B // 2) * (N // 4) * WIDTH

CELLS = {
    "LRU": (rtrl.cells.LRU, rtrl.RTRL()),
    "MinGRU": (rtrl.cells.MinGRU, rtrl.RTRL()),
    "LIF": (rtrl.cells.LIF, rtrl.RTRL()),
    "GRU": (rtrl.cells.GRU, rtrl.SnAp1()),
}


def mesh_of(b, m):
    return Mesh(np.array(jax.devices()[: b * m]).reshape(b, m), ("b", "m"))


def model_of(name, depth=1):
    def cell(size, key):
        return CELLS[name][0](size, N, key=key)

    return rtrl.SequenceModel(3, 2, WIDTH, depth, cell, key=jax.random.key(1))


def learner_of(name, **options):
    options = {"rule": CELLS[name][1], "donate": False, **options}
    return rtrl.OnlineLearner(squared_error, optax.adam(1e-2), **options)


def data(seed=0, batch=B):
    rng = np.random.default_rng(seed)
    lead = (T,) if batch is None else (T, batch)
    xs, ys = rng.normal(size=(*lead, 3)), rng.normal(size=(*lead, 2))
    weights = rng.uniform(size=lead)
    resets = rng.uniform(size=lead) < 0.2
    return xs, ys, weights, resets


def assert_same(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            # float64; sums are taken in another order, and Adam divides by their roots.
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def assert_in_place(state, like):
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(like), strict=True):
        if isinstance(b, jax.Array):
            assert a.sharding.is_equivalent_to(b.sharding, a.ndim), (a.shape, a.sharding)


def check_numbers(name, **options):
    """Every call, one after another, in all that comes out and all that is kept."""
    one = learner_of(name, **options)
    alone = one.init(model_of(name), B)
    spread = before = rtrl.shard(alone, mesh_of(2, 4), batch="b", modules="m")
    xs, ys, weights, resets = data()
    xs[1, 0], xs[2:, 3, 0] = np.nan, 1e6
    mask = np.arange(B) % 3 == 0

    def calls(state):
        state, first = one.scan(state, xs, ys, chunk=2, weights=weights, resets=resets)
        state = one.reset(state, mask)
        state, second = one.step(state, xs[0], ys[0])
        ahead, carry = one.predict(state, xs[3])
        return state, first, second, ahead, one.predict(state, xs[4], carry)

    got, want = calls(spread), calls(alone)
    assert_same(got, want)
    assert_in_place(got[0], before)


def check_stream():
    one = learner_of("LRU")
    alone = one.init(model_of("LRU"), B)
    xs, ys, *_ = data(3)
    runs = []
    for state in (alone, rtrl.shard(alone, mesh_of(2, 2), batch="b", modules="m")):
        outs = []
        for after, out in one.stream(state, zip(xs, ys, strict=True), chunk=2, delay=1):
            outs.append(out.prediction)
        runs.append((outs, rtrl.close_stream(one, after)))
        assert_in_place(runs[-1][1], state)
    assert_same(*runs)


def check_one_axis_and_no_batch():
    for batch, axes in ((B, {"batch": "b"}), (None, {"modules": "m"}), (B, {"modules": "m"})):
        one = learner_of("LRU")
        alone = one.init(model_of("LRU", depth=2 if batch is None else 1), batch)
        mesh = mesh_of(2, 1) if "batch" in axes else mesh_of(1, 4)
        spread = rtrl.shard(alone, mesh, **axes)
        xs, ys, *_ = data(1, batch)
        got, want = (one.scan(s, xs, ys, chunk=3) for s in (spread, alone))
        assert_same(got, want)
        assert_in_place(got[0], spread)


def check_explicit_mesh_and_the_users_own_jit():
    import equinox as eqx

    mesh = jax.make_mesh((2, 4), ("b", "m"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
    one = learner_of("LRU")
    alone = one.init(model_of("LRU"), B)
    spread = rtrl.shard(alone, mesh, batch="b", modules="m")
    xs, ys, *_ = data(2)

    @eqx.filter_jit
    def twice(state):
        state, _ = one.scan(state, xs, ys, chunk=2)
        return one.scan(state, xs, ys, chunk=2)

    got = twice(spread)
    assert_same(got, twice(alone))
    assert_in_place(got[0], spread)


def check_what_travels(name):
    """No array in the program is larger than a device's share of a trace; none that travels is
    as large."""
    one = learner_of(name)
    spread = rtrl.shard(one.init(model_of(name), B), mesh_of(2, 4), batch="b", modules="m")
    xs, ys, *_ = data()
    number = 16 if name == "LRU" else 8
    share = LOCAL * number
    largest = max(share, (B // 2) * (N // 4) * N * 8 if name == "GRU" else 0)
    for chunk in (1, 2):
        text = compiled_text(one, spread, xs[: 2 * chunk], ys[: 2 * chunk], chunk)
        travelling = collectives_in(text)
        assert travelling
        assert_no_trace_travels(travelling, share)
        assert_nothing_larger(text, largest)
        gathers = [c for c in travelling if c.kind != "all-reduce"]
        # What modules of a dense cell see of each other, (time, batch, N), and nothing else.
        seen = {f"f64[{B // 2},{N}]", *(f"f64[{k},{B // 2},{N}]" for k in (1, chunk))}
        assert bool(gathers) == (name == "GRU")
        assert {shape for c in gathers for shape in c.shapes} <= seen
        assert {c.kind for c in gathers} <= {"all-gather"}
    # The list is that of the function a user calls.
    listed = rtrl.collectives(one, spread, xs[:4], ys[:4], chunk=2)
    assert [c[:3] for c in listed] == [c[:3] for c in travelling]
    if name == "LRU":
        check_controls(one, spread, xs, ys, share, largest)


def assert_no_trace_travels(travelling, share):
    for c in travelling:
        for shape in c.shapes:
            ((_, size),) = arrays_in(shape)
            assert size < share, c


def assert_nothing_larger(text, largest):
    assert max(size for _, size in arrays_in(text)) == largest


def check_controls(one, spread, xs, ys, share, largest):
    """The same sharding by hand, without `shard`, moves traces; a replicated trace is seen."""
    import dataclasses

    by_hand = dataclasses.replace(
        spread, carry=tuple(dataclasses.replace(c, placement=None) for c in spread.carry)
    )
    text = compiled_text(one, by_hand, xs[:2], ys[:2], 1)
    with pytest.raises(AssertionError):
        assert_no_trace_travels(collectives_in(text), share)
    everywhere = NamedSharding(spread.carry[0].placement.mesh, P())
    replicated = jax.tree.map(
        lambda a: jax.device_put(a, everywhere) if isinstance(a, jax.Array) else a, by_hand
    )
    text = compiled_text(one, replicated, xs[:2], ys[:2], 1)
    with pytest.raises(AssertionError):
        assert_nothing_larger(text, largest)


def check_memory_report():
    model, rule = model_of("LRU"), rtrl.RTRL()
    whole = rtrl.memory_report(model, rule, B)
    part = rtrl.memory_report(model, rule, B, mesh=mesh_of(2, 4), batch="b", modules="m")
    assert part.traces == whole.traces // 8
    assert part.states == whole.states // 8


def check_refusals():
    one = learner_of("LRU")
    state = one.init(model_of("LRU"), B)
    with pytest.raises(ValueError, match="batch: expected a batch size that is a multiple of 4"):
        rtrl.shard(state, mesh_of(4, 1), batch="b")
    with pytest.raises(ValueError, match="modules: expected a multiple of 8 modules in LRU"):
        rtrl.shard(state, mesh_of(1, 8), modules="m")
    with pytest.raises(ValueError, match="modules: expected None or an axis of the mesh"):
        rtrl.shard(state, mesh_of(2, 4), modules="n")
    with pytest.raises(ValueError, match="the samples, the modules or both"):
        rtrl.shard(state, mesh_of(2, 4))
    with pytest.raises(ValueError, match="rule whose trace is not one number"):
        noisy = learner_of("LRU", rule=rtrl.UORO())
        rtrl.shard(noisy.init(model_of("LRU"), B), mesh_of(2, 4), modules="m")
    with pytest.raises(ValueError, match="modules as their first axis"):
        rtrl.shard(one.init(Turned(), B), mesh_of(1, 4), modules="m")


class Turned(rtrl.Cell):
    """A cell that stores its square weight turned: cut by its first axis it is no cell."""

    weight: jax.Array
    in_size: int = 28

    def __init__(self):
        self.weight = jnp.ones((N, N))

    def project(self):
        return self.weight.T

    def update(self, h, u):
        return 0.5 * h + u


def main():
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    for name in CELLS:
        check_what_travels(name)
    for name in ("LRU", "GRU"):
        check_numbers(name)
    check_numbers("MinGRU", update_every=2)
    check_numbers("LIF", guard=rtrl.Guard(bound=2.0, divergence=10.0, patience=2))
    check_numbers("LRU", overlap=2)
    check_stream()
    check_one_axis_and_no_batch()
    check_explicit_mesh_and_the_users_own_jit()
    check_memory_report()
    check_refusals()


@pytest.mark.core
def test_learning_on_eight_devices_is_learning_on_one_and_no_trace_travels():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    path = os.pathsep.join(filter(None, sys.path))
    run = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "rematerialization" not in run.stderr


if __name__ == "__main__":
    main()
