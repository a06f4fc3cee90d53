"""A learner spread over eight devices by `rtrl.shard`: the numbers of one device, no trace travels.

Every check runs in one process of its own, as the number of devices is fixed when JAX starts.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
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
from rtrl.learners import _archive, _checkpoint, _parts  # noqa: E402
from rtrl.learners._collectives import arrays_in, collectives_in, compiled_text  # noqa: E402

#: Sizes that nothing else has: an array's size tells what it is.
B, N, WIDTH, T = 10, 28, 11, 4
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
    return rtrl.OnlineLearner(squared_error, optax.sgd(1e-2, 0.9), **options)


def data(seed=0, batch: int | None = B):
    rng = np.random.default_rng(seed)
    lead = (T,) if batch is None else (T, batch)
    xs, ys = rng.normal(size=(*lead, 3)), rng.normal(size=(*lead, 2))
    weights = rng.uniform(size=lead)
    resets = rng.uniform(size=lead) < 0.2
    return xs, ys, weights, resets


def assert_same(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)  # float64, another order


def assert_in_place(state, like):
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(like), strict=True):
        if isinstance(b, jax.Array):
            assert a.sharding.is_equivalent_to(b.sharding, a.ndim), (a.shape, a.sharding)


BOTH = {"batch": "b", "modules": "m"}


def check_numbers(name, *, step=True, axes=BOTH, **options):
    """Every call, one after another, in all that comes out and all that is kept."""
    one = learner_of(name, **options)
    alone = one.init(model_of(name), B)
    spread = before = rtrl.shard(alone, mesh_of(2, 4), **axes)
    xs, ys, weights, resets = data()
    xs[1, 0] = np.nan
    if "guard" in options:
        xs[2:, 3, 0] = 1e6
    mask = np.arange(B) % 3 == 0

    def calls(state):
        state, first = one.scan(state, xs, ys, chunk=2, weights=weights, resets=resets)
        state = one.reset(state, mask)
        state, second = one.step(state, xs[0], ys[0]) if step else (state, first)
        ahead, carry = one.predict(state, xs[3])
        return state, first, second, ahead, one.predict(state, xs[2], carry)

    got, want = calls(spread), calls(alone)
    assert_same(got, want)
    assert_in_place(got[0], before)


def check_narrow_traces():
    """Rounded by the same bits wherever they live, in single precision; nothing of them travels."""
    with jax.enable_x64(False):
        for dtype in ("bfloat16", "int8"):
            one = learner_of("LRU", trace_dtype=dtype)
            alone = one.init(model_of("LRU"), B)
            spread = rtrl.shard(alone, mesh_of(2, 4), **BOTH)
            xs, ys = (a.astype("f4") for a in data()[:2])
            got, want = (one.scan(s, xs, ys, chunk=2)[0] for s in (spread, alone))
            assert_in_place(got, spread)
            for a, b in zip(jax.tree.leaves(got.carry), jax.tree.leaves(want.carry), strict=True):
                a, b = (np.asarray(v).astype(complex) for v in (a, b))
                # Sums in another order: now and then a number is rounded otherwise, by a unit.
                other = np.abs(a - b) > 1e-6 * np.abs(b).max()
                assert other.mean() < 0.002 and np.abs(a - b).max() <= 0.01 * np.abs(b).max()
            for c in rtrl.collectives(one, spread, xs, ys, chunk=2):
                narrow = [s for s in c.shapes if s.split("[")[0] in ("bf16", "u16", "s8")]
                assert c.kind == "all-reduce" and not narrow, c


def check_stream():
    one = learner_of("LRU")
    alone = one.init(model_of("LRU"), B)
    xs, ys, *_ = data(3)
    runs = []
    for state in (alone, rtrl.shard(alone, mesh_of(2, 2), batch="b", modules="m")):
        pairs = list(one.stream(state, zip(xs, ys, strict=True), chunk=2, delay=1))
        outs = [out.prediction for _, out in pairs]
        runs.append((outs, rtrl.close_stream(one, pairs[-1][0])))
        assert_in_place(runs[-1][1], state)
    assert_same(*runs)


def check_without_a_batch():
    one = learner_of("MinGRU")
    alone = one.init(model_of("MinGRU"))
    spread = rtrl.shard(alone, mesh_of(1, 4), modules="m")
    xs, ys, *_ = data(1, None)
    got, want = (one.scan(s, xs, ys, chunk=2) for s in (spread, alone))
    assert_same(got, want)
    assert_in_place(got[0], spread)


def check_explicit_mesh_and_the_users_own_jit(name):
    mesh = jax.make_mesh((2, 4), ("b", "m"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)
    one = learner_of(name)
    alone = one.init(model_of(name), B)
    spread = rtrl.shard(alone, mesh, batch="b", modules="m")
    xs, ys, *_ = data(2)

    @eqx.filter_jit
    def learn(state):
        return one.scan(state, xs, ys, chunk=2)

    got = learn(spread)
    assert_same(got, learn(alone))
    assert_in_place(got[0], spread)


def check_what_travels(name, full=False):
    """No array in the program is larger than a device's share of a trace; none that travels is
    as large."""
    one = learner_of(name)
    spread = rtrl.shard(one.init(model_of(name), B), mesh_of(2, 4), batch="b", modules="m")
    xs, ys, *_ = data()
    number = 16 if name == "LRU" else 8
    share = LOCAL * number
    largest = max(share, (B // 2) * (N // 4) * N * 8 if name == "GRU" else 0)
    for chunk in (1, 2) if full else (2,):
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
    if name == "LRU":
        check_controls(one, spread, xs, ys, share, largest, full)


def assert_no_trace_travels(travelling, share):
    for c in travelling:
        for shape in c.shapes:
            ((_, size),) = arrays_in(shape)
            assert size < share, c


def assert_nothing_larger(text, largest):
    assert max(size for _, size in arrays_in(text)) == largest


def check_controls(one, spread, xs, ys, share, largest, full):
    """A replicated trace is seen; and the same sharding by hand, without `shard`, moves traces."""
    by_hand = dataclasses.replace(
        spread, carry=tuple(dataclasses.replace(c, placement=None) for c in spread.carry)
    )
    everywhere = NamedSharding(spread.carry[0].placement.mesh, P())
    replicated = jax.tree.map(
        lambda a: jax.device_put(a, everywhere) if isinstance(a, jax.Array) else a, by_hand
    )
    text = compiled_text(one, replicated, xs[:2], ys[:2], 1)
    with pytest.raises(AssertionError):
        assert_nothing_larger(text, largest)
    if full:
        text = compiled_text(one, by_hand, xs[:2], ys[:2], 1)
        with pytest.raises(AssertionError):
            assert_no_trace_travels(collectives_in(text), share)


def check_the_list_a_user_calls():
    one = learner_of("LRU")
    xs, ys, *_ = data()
    state = one.init(model_of("LRU"), B)
    assert rtrl.collectives(one, state, xs[:2], ys[:2], chunk=2) == []
    spread = rtrl.shard(state, mesh_of(2, 4), batch="b", modules="m")
    text = compiled_text(one, spread, xs[:2], ys[:2], 2)
    assert rtrl.collectives(one, spread, xs[:2], ys[:2], chunk=2) == collectives_in(text)


def check_the_kernel_runs_on_every_share():
    """Lowered for a GPU, the fused kernel takes what one device has of a trace, as it is."""
    with jax.enable_x64(False):
        one = learner_of("LRU", rule=rtrl.RTRL(implementation="pallas"))
        state = rtrl.shard(one.init(model_of("LRU"), B), mesh_of(2, 4), batch="b", modules="m")
        arrays, static = eqx.partition(state, eqx.is_array)
        xs, ys, *_ = data()

        def learn(arrays):
            after, _ = one.scan(eqx.combine(arrays, static), xs[:2], ys[:2], chunk=2)
            return eqx.filter(after, eqx.is_array)

        text = jax.jit(learn).trace(arrays).lower(lowering_platforms=("cuda",)).as_text()
    kernels = [line for line in text.splitlines() if "custom_call @__gpu$xla.gpu.triton" in line]
    assert len(kernels) == 1
    arguments = re.findall(r"tensor<[^>]*>+", kernels[0].rsplit(" : (", 1)[1])
    assert arguments[0] == f"tensor<1x{B // 2}x1x{N // 4}x{WIDTH}xcomplex<f32>>"


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


def pieces(state):
    """Numbers that two states share bit by bit, wherever they are."""
    leaves = jax.tree.leaves(state)
    keys = [jnp.issubdtype(a.dtype, jax.dtypes.prng_key) for a in leaves]
    return [
        np.asarray(jax.random.key_data(a) if k else a) for a, k in zip(leaves, keys, strict=True)
    ]


def assert_identical(got, want):
    for a, b in zip(pieces(got), pieces(want), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def save_as(path, state, count, number):
    """As ``count`` processes save together, one after another: the steps of `save_parts`."""
    leaves = [(key, leaf) for key, leaf in _checkpoint._flatten(state)[0]]
    for process in range(count):
        owns = functools.partial(_owns, process, count)
        _parts.write_part(path, number, process, leaves, owns)
    _parts.write_manifest(path, number, count, leaves)
    _parts.remove_parts(path, number)


def _owns(process, count, shard):
    return shard.device.id * count // 8 == process


def check_saving_and_loading(folder):
    """Saved on eight devices, loaded on one, on three and on eight, from a file and from a set."""
    one = learner_of("LRU")
    model = rtrl.SequenceModel(
        3, 2, 5, 1, lambda size, key: rtrl.cells.LRU(size, 12, key=key), key=jax.random.key(2)
    )
    alone = one.init(model, 6, key=jax.random.key(5))
    rng = np.random.default_rng(4)
    noisy = jax.tree.map(lambda a: a + rng.normal(size=a.shape), alone.carry)
    spread = rtrl.shard(
        dataclasses.replace(alone, carry=noisy), mesh_of(2, 4), batch="b", modules="m"
    )
    three = Mesh(np.array(jax.devices()[5:8]).reshape(3, 1), ("b", "m"))
    likes = [alone, rtrl.shard(alone, three, batch="b"), rtrl.shard(alone, three, modules="b")]
    file, together = str(folder / "file"), str(folder / "set")
    rtrl.save(file, spread)
    save_as(together, spread, 4, 0xBEEF)
    assert len(list(folder.glob("set-0000beef-*.part"))) == 4
    # Every number is stored once: what is the same everywhere is not stored eight times.
    parts = []
    for part in sorted(folder.glob("set-*.part")):
        with contextlib.closing(_archive.Archive(str(part))) as archive:
            parts.append(archive.pieces)
    assert sum(piece.size for p in parts for piece in p) == sum(a.size for a in pieces(spread))
    assert all(len(p) > 5 for p in parts)
    for path in (file, together):
        for like in (*likes, spread):
            loaded = rtrl.load(path, like)
            assert_identical(loaded, spread)
            assert_in_place(loaded, like)
    check_a_damaged_set(folder, together, spread)
    check_kills(folder, spread)


def check_a_damaged_set(folder, path, like):
    part = sorted(folder.glob("set-*.part"))[1]
    whole = part.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    for content in (whole[: len(whole) // 2], bytes(damaged), None):
        part.unlink() if content is None else part.write_bytes(content)
        with pytest.raises(ValueError, match="missing, truncated or damaged"):
            rtrl.load(path, like)
    part.write_bytes(whole)
    assert_identical(rtrl.load(path, like), like)


class Killed(BaseException):
    """Nothing runs after it, neither a handler nor what tidies up."""


def check_kills(folder, state):
    """Whenever the writing stops, the path holds the set before or the new one, whole."""
    path = str(folder / "killed")
    other = eqx.tree_at(lambda s: s.step, state, state.step + 1)
    save_as(path, state, 2, 1)
    holds, number = state, 2
    names = ("open", "fsync", "replace", "unlink")
    seen = set()
    for at in itertools.count():
        calls = itertools.count()

        def or_die(function, at=at, calls=calls):
            def call(*arguments, **options):
                if next(calls) >= at:
                    raise Killed
                return function(*arguments, **options)

            return call

        new = other if holds is state else state
        with pytest.MonkeyPatch.context() as patch:
            for name in names:
                patch.setattr(os, name, or_die(getattr(os, name)))
            try:
                save_as(path, new, 2, number)
                done = True
            except Killed:
                done = False
        found = rtrl.load(path, state)
        is_new = int(found.step) == int(new.step)
        assert_identical(found, new if is_new else holds)
        holds, number = (new if is_new else holds), number + 1
        seen.add(is_new)
        if done:
            break
    assert at > 10 and seen == {False, True}
    # What killed saves left behind goes with the next one.
    assert len(list(folder.glob("killed-*.part"))) == 2


def start():
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)


def main(folder):
    start()
    for name in CELLS:
        check_what_travels(name)
    check_numbers("LRU")
    check_explicit_mesh_and_the_users_own_jit("GRU")
    check_refusals()
    check_saving_and_loading(folder)


def main_in_full(folder):
    start()
    for name in CELLS:
        check_what_travels(name, full=True)
        check_numbers(name, guard=rtrl.Guard(bound=2.0))
    check_without_a_batch()
    check_numbers("MinGRU", update_every=2)
    check_numbers("LIF", guard=rtrl.Guard(bound=2.0, divergence=10.0, patience=2))
    check_numbers("LRU", overlap=2)
    check_numbers("LRU", rule=rtrl.BPTT(), step=False)
    check_numbers("LRU", axes={"batch": "b"}, rule=rtrl.UORO())
    check_numbers("LRU", axes={"batch": "b"}, rule=rtrl.ExactRTRL())
    check_numbers("LRU", axes={"batch": "b"})
    check_numbers("GRU", axes={"modules": "m"})
    check_narrow_traces()
    check_stream()
    check_the_kernel_runs_on_every_share()
    check_memory_report()
    check_the_list_a_user_calls()


def run_on_eight_devices(what, folder):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    path = os.pathsep.join(filter(None, sys.path))
    run = subprocess.run(
        [sys.executable, __file__, what, str(folder)],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "rematerialization" not in run.stderr


@pytest.mark.core
def test_learning_on_eight_devices_is_learning_on_one_and_no_trace_travels(tmp_path):
    run_on_eight_devices("main", tmp_path)


@pytest.mark.slow
def test_every_way_of_learning_on_eight_devices(tmp_path):
    run_on_eight_devices("main_in_full", tmp_path)


if __name__ == "__main__":
    {"main": main, "main_in_full": main_in_full}[sys.argv[1]](Path(sys.argv[2]))
