"""`rtrl.save` and `rtrl.load`: bit-exact, checked before use, and never half written."""

import contextlib
import itertools
import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rtrl.learners import _archive, _parts, load, save


class _Model(eqx.Module):
    weight: jax.Array
    scale: float
    activation: Callable
    width: int = eqx.field(static=True)


class _State(NamedTuple):
    model: _Model
    optimizer: Any
    extras: dict[str, Any]


def _state(seed: int = 0) -> _State:
    """One leaf of every kind that may occur in a learner's state, and some that are not stored."""
    key = jax.random.key(seed)
    weight = jax.random.normal(key, (3, 4))
    model = _Model(weight, scale=0.5 + seed, activation=jnp.tanh, width=3)
    extras = {
        "keys": jax.random.split(key, (2, 3)),
        "rbg": jax.random.key(seed, impl="rbg"),
        "old_key": jax.random.PRNGKey(seed),
        "bfloat16": weight.astype(jnp.bfloat16),
        "float16": weight.astype(jnp.float16),
        "float8": weight.astype(jnp.float8_e4m3fn),
        "int4": jnp.arange(5, dtype=jnp.int4),
        "complex64": jax.lax.complex(weight, -weight),
        "nonfinite": jnp.array([jnp.nan, jnp.inf, -jnp.inf, -0.0, 1e-45]),
        "bool": weight > 0,
        "step": jnp.array(seed, jnp.int32),
        "empty": jnp.zeros((0, 2), jnp.uint8),
        "numpy": np.asfortranarray(np.full((2, 3), np.pi + seed)),
        "numpy_scalar": np.float64(np.e + seed),
        "numpy_0d": np.array(1 + seed, np.int64),
        "none": None,
        "python": [1 + seed, True, 2.5j, "text"],
    }
    return _State(model, optax.adam(1e-3).init(eqx.filter(model, eqx.is_inexact_array)), extras)


def _bits(leaf: Any) -> tuple:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return ("key", str(jax.random.key_impl(leaf)), *_bits(jax.random.key_data(leaf)))
    array = np.asarray(leaf)
    return isinstance(leaf, jax.Array), str(array.dtype), array.shape, array.tobytes()


def _assert_same(a: Any, b: Any) -> None:
    flat_a, flat_b = jax.tree_util.tree_flatten(a), jax.tree_util.tree_flatten(b)
    assert flat_a[1] == flat_b[1]
    for x, y in zip(flat_a[0], flat_b[0], strict=True):
        same = _bits(x) == _bits(y) if eqx.is_array(x) or isinstance(x, np.generic) else x == y
        assert type(x) is type(y) and same, (x, y)


@pytest.mark.core
def test_round_trip_is_bit_exact_and_configuration_comes_from_like(tmp_path):
    state, like = _state(seed=0), _state(seed=1)
    save(tmp_path / "state", state)
    loaded = load(tmp_path / "state", like)
    assert os.listdir(tmp_path) == ["state"]  # exactly that name, and nothing beside it
    assert loaded.model.scale == like.model.scale
    assert loaded.extras["python"] == like.extras["python"]
    expected = eqx.tree_at(lambda s: s.model.scale, state, like.model.scale)
    expected.extras["python"] = like.extras["python"]
    _assert_same(loaded, expected)


@pytest.mark.core
def test_like_may_be_shapes_and_weak_types_disappear(tmp_path):
    state = {"weak": jnp.asarray(1.5), "key": jax.random.key(3), "w": jnp.ones((2, 2))}
    assert state["weak"].weak_type
    save(str(tmp_path / "state"), state)
    loaded = load(str(tmp_path / "state"), jax.eval_shape(lambda: state))
    assert not loaded["weak"].weak_type
    _assert_same(loaded, state)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_array_survives(tmp_path_factory, data):
    dtypes = st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(endianness="="),
        hnp.unsigned_integer_dtypes(endianness="="),
        hnp.floating_dtypes(endianness="=", sizes=(16, 32, 64)),
        hnp.complex_number_dtypes(endianness="=", sizes=(64, 128)),
    )
    arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    tree = data.draw(st.recursive(arrays, lambda kids: st.lists(kids) | st.tuples(kids, kids)))
    on_device = data.draw(st.booleans())
    with jax.enable_x64(True):
        tree = jax.tree.map(jnp.array, tree) if on_device else tree
        path = tmp_path_factory.mktemp("any") / "state"
        save(path, tree)
        _assert_same(load(path, jax.tree.map(np.zeros_like, tree) if not on_device else tree), tree)


def test_the_file_is_reproducible_and_readable_by_numpy(tmp_path):
    save(tmp_path / "a", _state())
    save(tmp_path / "b", _state())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with np.load(tmp_path / "a", allow_pickle=False) as members:
        header = json.loads(members["header.json"])
        paths = [leaf["path"] for leaf in header["leaves"]]
        np.testing.assert_array_equal(
            members[f"{paths.index('.model.weight'):05d}"], _state().model.weight
        )


# Refusals


def _refusal(path: Any, like: Any) -> str:
    with pytest.raises(ValueError) as caught:
        load(path, like)
    assert str(path) in str(caught.value)
    return str(caught.value)


def _zeros(size: int, dtype: Any = jnp.float32) -> jax.Array:
    return jnp.zeros(size, dtype)


@pytest.mark.parametrize("without", ["version", "leaves", "rtrl"])
def test_a_manifest_of_which_something_is_missing_is_refused(tmp_path, without):
    manifest = _archive.header(_parts.MANIFEST, [], number=1, parts=[])
    del manifest[without]
    (tmp_path / "state").write_text(json.dumps(manifest))
    if without == "leaves":
        assert "truncated or damaged" in _refusal(tmp_path / "state", [])
    else:  # it says no more than that
        assert load(tmp_path / "state", []) == []


@pytest.mark.core
@pytest.mark.parametrize(
    ("like", "words"),
    [
        ({"a": _zeros(2), "b": _zeros(4)}, ["['b'] float32[4]", "['b'] float32[3]"]),
        ({"a": _zeros(2), "b": _zeros(3, jnp.int32)}, ["['b'] int32[3]", "['b'] float32[3]"]),
        ({"a": _zeros(2), "c": _zeros(3)}, ["['c'] float32[3]", "['b'] float32[3]"]),
        ({"a": _zeros(2), "b": None}, ["expected no more leaves", "['b'] float32[3]"]),
        ({"a": _zeros(2), "b": 1.0}, ["expected no more leaves", "['b'] float32[3]"]),
        (
            {"a": _zeros(2), "b": _zeros(3), "c": _zeros(1)},
            ["expected ['c'] float32[1]", "file has no more leaves"],
        ),
        ({"a": jax.random.key(0), "b": _zeros(3)}, ["['a'] key<fry>[]", "['a'] float32[2]"]),
        (_zeros(2), ["(the whole state) float32[2]", "['a'] float32[2]"]),
    ],
    ids=["shape", "dtype", "name", "none", "number", "more", "key", "bare"],
)
def test_a_different_structure_is_refused_by_its_first_differing_leaf(tmp_path, like, words):
    save(tmp_path / "state", {"a": _zeros(2), "b": _zeros(3)})
    message = _refusal(tmp_path / "state", like)
    assert all(word in message for word in words), message


def test_another_key_generator_is_refused(tmp_path):
    save(tmp_path / "state", jax.random.key(0))
    assert "key<rbg>" in _refusal(tmp_path / "state", jax.random.key(0, impl="rbg"))


@pytest.mark.parametrize("wide", ["float64", "int64", "uint64", "complex128"])
def test_64_bit_arrays_need_x64(tmp_path, wide):
    array = np.arange(3).astype(wide)
    with jax.enable_x64(True):
        save(tmp_path / "state", jnp.array(array))
        assert load(tmp_path / "state", jnp.array(array)).dtype == wide
    with jax.enable_x64(False):
        for like in (jnp.zeros(3), jax.ShapeDtypeStruct((3,), np.dtype(wide))):
            assert "enable x64" in _refusal(tmp_path / "state", like)
        np.testing.assert_array_equal(load(tmp_path / "state", np.zeros(3, wide)), array)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere", ())
    with pytest.raises(FileNotFoundError, match="folder"):
        save(tmp_path / "folder" / "state", ())


def test_files_that_are_not_states_are_refused(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"")
    assert "not an rtrl state" in _refusal(path, ())
    path.write_bytes(os.urandom(1000))
    assert "not an rtrl state" in _refusal(path, ())
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    assert "not an rtrl state" in _refusal(tmp_path / "other.npz", ())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", '{"format": "something else"}')
    assert "not an rtrl state" in _refusal(path, ())


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_archive, "VERSION", 7)
    save(tmp_path / "state", jnp.zeros(3))
    monkeypatch.undo()
    message = _refusal(tmp_path / "state", jnp.zeros(3))
    assert "version 7" in message and "upgrade" in message


def test_truncation_is_refused_at_every_length(tmp_path):
    path, state = tmp_path / "state", {"a": jnp.arange(4.0), "b": jnp.ones(3)}
    save(path, state)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert "truncated or damaged" in _refusal(path, state)


def test_a_flipped_bit_is_refused_or_harmless(tmp_path):
    path, state = tmp_path / "state", {"a": jnp.arange(4.0), "b": jnp.ones(3)}
    save(path, state)
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            _assert_same(load(path, state), state)  # a bit that carries nothing, such as a date
        except ValueError:
            refused += 1
    assert refused > 0.7 * len(whole)
    payload = whole.index(np.asarray(state["a"]).tobytes())
    path.write_bytes(whole[:payload] + b"?" + whole[payload + 1 :])
    assert "damaged" in _refusal(path, state)


@pytest.mark.parametrize(
    "leaf", [np.array([{}], object), np.array(["text"]), jax.ShapeDtypeStruct((2,), jnp.float32)]
)
def test_what_cannot_be_stored_is_refused_by_name(tmp_path, leaf):
    with pytest.raises(ValueError, match=r"\['bad'\] cannot be saved"):
        save(tmp_path / "state", {"bad": leaf})
    assert os.listdir(tmp_path) == []


# Atomicity


def _fail_at(monkeypatch, module: Any, name: str, call: int, error: BaseException) -> None:
    original, calls = getattr(module, name), iter(range(call))

    def failing(*args, **kwargs):
        if next(calls, None) is None:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, failing)


@pytest.mark.core
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["os", "ctrl-c"])
@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (_archive, "_to_numpy", 3),  # in the middle of the data
        (os, "fsync", 0),
        (os, "replace", 0),
    ],
    ids=["write", "fsync", "replace"],
)
def test_a_failing_save_leaves_the_old_file(tmp_path, monkeypatch, module, name, call, error):
    path, old = tmp_path / "state", _state(0)
    save(path, old)
    before = path.read_bytes()
    _fail_at(monkeypatch, module, name, call, error)
    with pytest.raises(type(error)):
        save(path, _state(1))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX opens folders")
def test_the_data_reach_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path, monkeypatch
):
    """A save survives a power failure: the file is synced, renamed, then its folder is synced."""
    done, sync, replace = [], os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        if done[-1] == "folder":
            assert os.path.samestat(os.fstat(descriptor), os.stat(tmp_path))
        sync(descriptor)

    def rename(source: str, target: str) -> None:
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    save(tmp_path / "state", _state())
    assert done == ["file", "name", "folder"]


def test_a_donated_array_fails_the_save_only(tmp_path):
    state = {"a": jnp.ones(3), "b": jnp.ones(3)}
    save(tmp_path / "state", state)
    state["b"].delete()
    with pytest.raises(ValueError, match="state: expected one that is still there"):
        save(tmp_path / "state", state)
    assert os.listdir(tmp_path) == ["state"]
    assert load(tmp_path / "state", {"a": jnp.zeros(3), "b": jnp.zeros(3)})["b"].sum() == 3


def test_a_link_keeps_pointing_to_the_file(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to("elsewhere/real")
    save(tmp_path / "state", jnp.ones(3))
    assert (tmp_path / "state").is_symlink() and (tmp_path / "elsewhere" / "real").is_file()


def test_abandoned_temporaries_are_removed_but_only_those(tmp_path, monkeypatch):
    """A killed process leaves its file; one that is alive, or another path's, is not touched."""
    names = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda source, target: names.append(os.path.basename(source)))
        save(tmp_path / "state", jnp.ones(3))
    pid = subprocess.Popen([sys.executable, "-c", ""])
    pid.wait()
    ours = f"-{os.getpid()}-"
    dead = names[0].replace(ours, f"-{pid.pid}-")
    alive = names[0].replace(ours, f"-{os.getppid()}-")
    other = dead.replace("state", "state2")
    reused = names[0]  # our own number, from an earlier life
    for name in (dead, alive, other):
        (tmp_path / name).write_bytes(b"half a state")
    (tmp_path / reused).touch()
    save(tmp_path / "state", jnp.ones(3))
    assert sorted(os.listdir(tmp_path)) == sorted(["state", alive, other])


def test_threads_saving_to_one_path_do_not_disturb_each_other(tmp_path):
    path, errors = tmp_path / "state", []

    def work(i: int) -> None:
        try:
            for _ in range(10):
                save(path, [np.full(1000, i)] * 3)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(np.unique(load(path, [np.zeros(1000, int)] * 3))) == 1
    assert os.listdir(tmp_path) == ["state"]


# Kills. A server process imports rtrl once and forks a child per line it reads; the child saves
# counters as fast as it can until it is killed. It starts no JAX backend (so has no threads that a
# fork would lose): its arrays are numpy's.

_SERVER = """
import os, shutil, sys
import numpy as np
from rtrl.learners import save

path, atomic = sys.argv[1], sys.argv[2] == "atomic"

def fill(n):
    return {"a": np.full((400, 1000), n, np.float32), "b": [np.full((500, 500), n, np.int32)],
            "c": np.full(100_000, n, np.complex64), "d": np.array(n)}

def say(text):
    os.write(1, (text + "\\n").encode())

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        n = int(line)
        while True:
            state, n = fill(n), n + 1
            say(f"begin {n - 1}")
            if atomic:
                save(path, state)
            else:  # what a save without the temporary file would do
                save(path + ".whole", state)
                shutil.copyfile(path + ".whole", path)
            say(f"done {n - 1}")
    say(f"pid {pid}")
    os.waitpid(pid, 0)
    say("dead")
"""
_LIKE = {
    "a": jax.ShapeDtypeStruct((400, 1000), np.float32),
    "b": [jax.ShapeDtypeStruct((500, 500), np.int32)],
    "c": jax.ShapeDtypeStruct((100_000,), np.complex64),
    "d": np.array(0),
}


class _Kill(NamedTuple):
    last: int | None  # the counter of the last completed save of this child
    flying: int | None  # the one in flight when it was killed


def _kills(path: str, mode: str) -> Generator[_Kill, None, None]:
    """Starts and kills one child after another, at most 1000; yields after each death."""
    rng = random.Random(0)
    command = [sys.executable, "-c", _SERVER, path, mode]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdin and server.stdout
        try:
            for i in range(1000):
                print(1000 * i, file=server.stdin, flush=True)
                said = [server.stdout.readline().split()]
                while not any(words[0] == "pid" for words in said):
                    said.append(server.stdout.readline().split())
                time.sleep(rng.uniform(0, 0.1))
                pid = next(int(words[1]) for words in said if words[0] == "pid")
                os.kill(pid, signal.SIGKILL)  # the server has not reaped it: the number is its own
                while said[-1][0] != "dead":
                    said.append(server.stdout.readline().split())
                begun = [int(words[1]) for words in said if words[0] == "begin"]
                done = [int(words[1]) for words in said if words[0] == "done"]
                last = done[-1] if done else None
                yield _Kill(last, begun[-1] if begun and begun[-1] != last else None)
        finally:
            server.stdin.close()


def _counter(path: Any) -> int:
    """The counter of the stored state, whose leaves must all be equal."""
    values = {complex(v) for leaf in jax.tree.leaves(load(path, _LIKE)) for v in np.unique(leaf)}
    assert len(values) == 1, values
    return int(values.pop().real)


@pytest.mark.slow
def test_200_kills_during_saving_never_lose_a_state(tmp_path):
    path, previous = tmp_path / "state", None
    kills = during = left = new = 0
    with contextlib.closing(_kills(str(path), "atomic")) as deaths:
        while during < 200:
            kill = next(deaths)
            kills += 1
            during += kill.flying is not None
            left += any(name.endswith(".tmp") for name in os.listdir(tmp_path))
            if kill.last is not None:
                previous = kill.last
            if previous is not None or path.exists():
                found = _counter(path)
                assert found in (previous, kill.flying)
                new += found == kill.flying
                previous = found
    print(f"{kills} kills: {during} during a save, {left} with a temporary, {new} after its rename")
    assert left >= 100  # or the kills did not hit what they were aimed at
    save(path, {"a": 0})
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.slow
def test_the_kill_test_sees_a_save_that_is_not_atomic(tmp_path):
    with contextlib.closing(_kills(str(tmp_path / "state"), "direct")) as deaths:
        with pytest.raises(ValueError, match="truncated"):
            for _ in itertools.islice(deaths, 100):
                with contextlib.suppress(FileNotFoundError):
                    _counter(tmp_path / "state")
