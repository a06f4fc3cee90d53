"""Learning under `jax.shard_map`: the batch on four devices, the parameters on all of them.

Every check compares with the same call on one device. They run in one process of their own, as the
number of devices is fixed when JAX starts.
"""

import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

sys.path.insert(0, str(Path(__file__).parents[1]))

from cases import network, squared_error  # noqa: E402

import rtrl  # noqa: E402

DEVICES, BATCH, T = 4, 8, 5
ALL, BATCHED = P(), P(None, "batch")


def sharded(function, in_specs, out_specs):
    mesh = jax.make_mesh((DEVICES,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs))


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(x, y, atol=1e-12)  # float64, sums in another order


def sequences(seed=0):
    keys = jax.random.split(jax.random.key(seed))
    return jax.random.normal(keys[0], (T, BATCH, 3)), jax.random.normal(keys[1], (T, BATCH, 2))


def check_recur_under_the_users_own_grad():
    cell = rtrl.cells.LRU(3, 4, key=jax.random.key(0))
    xs, _ = sequences()
    carry = rtrl.init_carry(cell, rtrl.RTRL(), BATCH)  # zeros, the same everywhere
    moved = rtrl.recur(cell, xs, carry, rule=rtrl.RTRL())[1]

    def slope(cell, xs, carry):
        def loss(cell):
            hs, _ = rtrl.recur(cell, xs, carry, rule=rtrl.RTRL())
            return (jnp.abs(hs) ** 2).sum()

        return jax.grad(loss)(cell)

    run = sharded(slope, (ALL, BATCHED, P("batch")), ALL)
    assert_same(run(cell, xs, moved), slope(cell, xs, moved))
    per_device = jax.tree.map(lambda a: a[: BATCH // DEVICES], carry)
    run = sharded(slope, (ALL, BATCHED, ALL), ALL)
    assert_same(run(cell, xs, per_device), slope(cell, xs, carry))


def check_sequence_gradient():
    xs, ys = sequences(1)
    model = network("LRU", depth=1)
    arrays, static = eqx.partition(model, eqx.is_array)

    def gradient(arrays, xs, ys):
        model = eqx.combine(arrays, static)
        rule = rtrl.TBPTT(2)  # a trace that advances timestep by timestep
        return rtrl.sequence_gradient(model, squared_error, xs, ys, rule=rule, chunk=2)

    run = sharded(gradient, (ALL, BATCHED, BATCHED), ALL)
    assert_same(run(arrays, xs, ys), gradient(arrays, xs, ys))


def check_learner(call, rule, **options):
    """One call whose first sample is bad, in all that comes out and all that is kept."""
    xs, ys = sequences(2)
    xs = xs.at[1, 0].set(jnp.nan).at[1:, 3, 0].set(1e6)  # the second on another device
    one = rtrl.OnlineLearner(squared_error, optax.adam(1e-2), rule=rule, donate=False, **options)
    state = one.init(network("LRU", depth=1), BATCH)
    arrays, static = eqx.partition(state, eqx.is_array)
    specs = eqx.tree_at(
        lambda s: s.carry,
        jax.tree.map(lambda _: ALL, arrays),
        jax.tree.map(lambda _: P("batch"), arrays.carry),
    )

    def run(arrays, xs, ys):
        state, out = call(one, eqx.combine(arrays, static), xs, ys)
        return eqx.filter(state, eqx.is_array), out

    time = () if run(arrays, xs, ys)[1].loss.ndim == 0 else (None,)
    out_specs = (specs, rtrl.StepOutput(P(*time, "batch"), *[ALL] * 6))  # type: ignore
    got = sharded(run, (specs, BATCHED, BATCHED), out_specs)(arrays, xs, ys)
    want = run(arrays, xs, ys)
    assert_same(got, want)
    assert int(jnp.sum(want[1].skipped)) == 1
    assert (int(jnp.sum(want[1].bounded)) >= 1) == ("guard" in options)


def step(one, state, xs, ys):
    return one.step(state, xs[1], ys[1])


def scan(one, state, xs, ys):
    return one.scan(state, xs, ys, chunk=2)


def main():
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    check_recur_under_the_users_own_grad()
    check_sequence_gradient()
    check_learner(step, rtrl.RTRL())
    check_learner(scan, rtrl.RTRL(), update_every=2)
    check_learner(step, rtrl.ExactRTRL())
    guard = rtrl.Guard(bound=2.0, memory=20, divergence=10.0, patience=2)
    check_learner(step, rtrl.RTRL(), guard=guard)
    check_learner(scan, rtrl.RTRL(), guard=guard)


@pytest.mark.core
def test_learning_with_the_batch_on_several_devices_is_learning_on_one():
    devices = f"--xla_force_host_platform_device_count={DEVICES}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {devices}"
    path = os.pathsep.join(filter(None, sys.path))
    run = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


if __name__ == "__main__":
    main()
