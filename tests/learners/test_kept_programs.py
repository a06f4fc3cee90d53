"""Compiled programs in files: found again by what they are made of, and by nothing less."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import rtrl
from rtrl.learners import Jitted, keep_program
from rtrl.streams import Forecaster, experts

TRACED: list[str] = []


def function(scale, x):
    TRACED.append("again")
    return {"y": scale["by"] * jnp.sin(x), "static": "kept"}


def given(by=2.0):
    return {"by": np.float32(by), "name": "a"}, jnp.arange(5.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    config: Any = jax.config
    settings = {"jax_compilation_cache_dir": str(tmp_path),
                "jax_persistent_cache_min_compile_time_secs": 0.0}  # fmt: skip
    before = {name: getattr(config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    TRACED.clear()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def programs(folder):
    return sorted(folder.glob("*.program"))


def test_a_kept_program_is_found_and_gives_the_same(folder):
    expected = Jitted(function)(*given())
    TRACED.clear()
    for traced in (1, 0):  # compiled and written; then read
        jitted = Jitted(function)
        keep_program(jitted, "about", *given())
        assert len(TRACED) == traced and len(programs(folder)) == 1
        TRACED.clear()
        rest, last = jitted.arrays_of(*given(3.0))
        np.testing.assert_array_equal(jitted.bind(*given())(rest, last)[0], 1.5 * expected["y"])
        assert not TRACED
    found = jitted(*given())  # traced, for what is no array; the program is the one of the file
    assert found["static"] == "kept" and len(TRACED) == 1
    np.testing.assert_array_equal(found["y"], expected["y"])


def test_what_a_program_depends_on_is_in_its_name(folder, monkeypatch):
    keep_program(Jitted(function), "about", *given())
    for about, arguments in (("else", given()), ("about", (given()[0], jnp.arange(6.0)))):
        keep_program(Jitted(function), about, *arguments)
    with jax.debug_nans(True):
        keep_program(Jitted(function), "about", *given())
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    keep_program(Jitted(function), "about", *given())
    assert len(programs(folder)) == 5 and len(TRACED) == 5
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")  # where it lies changes nothing
    keep_program(Jitted(function), "about", *given())
    assert len(programs(folder)) == 5 and len(TRACED) == 5


def test_it_is_compiled_and_not_taken_from_where_it_can_not_be_written_again(folder):
    jax.jit(lambda x: x + 1)(jnp.arange(3.0)).block_until_ready()
    others = len([*folder.iterdir()])
    assert others > 0  # JAX keeps its programs here
    jitted = Jitted(function)
    for _ in range(2):
        keep_program(jitted, "about", *given())
    assert len([*folder.iterdir()]) == others + 1 == others + len(programs(folder))
    jax.jit(lambda x: x + 2)(jnp.arange(3.0)).block_until_ready()
    assert len([*folder.iterdir()]) > others + 1  # and goes on to


def test_a_program_that_does_not_run_is_compiled_anew(folder):
    keep_program(Jitted(function), "about", *given())
    (path,) = programs(folder)
    keep_program(Jitted(function), "about", given()[0], jnp.arange(6.0))
    (other,) = {*programs(folder)} - {path}
    path.write_bytes(other.read_bytes())  # it loads, but is for other shapes
    jitted = Jitted(function)
    keep_program(jitted, "about", *given())
    assert len(TRACED) == 3
    np.testing.assert_array_equal(jitted(*given())["y"], 2 * jnp.sin(jnp.arange(5.0)))


def test_a_damaged_file_is_written_anew_and_a_folder_that_is_none_is_no_trouble(folder):
    expected = Jitted(function)(*given())["y"]
    TRACED.clear()
    keep_program(Jitted(function), "about", *given())
    (path,) = programs(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    keep_program(Jitted(function), "about", *given())
    assert len(TRACED) == 2 and len(path.read_bytes()) > len(whole) // 2
    jax.config.update("jax_compilation_cache_dir", str(path))  # a file
    jitted = Jitted(function)
    keep_program(jitted, "about", *given())
    np.testing.assert_array_equal(jitted(*given())["y"], expected)
    jax.config.update("jax_compilation_cache_dir", None)
    keep_program(Jitted(function), "other", *given())
    assert len(programs(folder)) == 1


def test_a_program_that_others_may_write_is_not_read(folder):
    """Reading one runs what is in it."""
    keep_program(Jitted(function), "about", *given())
    (path,) = programs(folder)
    for mode, traced in ((0o600, 0), (0o620, 1), (0o602, 1)):
        TRACED.clear()
        path.chmod(mode)
        keep_program(Jitted(function), "about", *given())
        assert len(TRACED) == traced and path.stat().st_mode & 0o777 == 0o600


def test_a_forecaster_begins_with_kept_programs(folder):
    one, key = Forecaster(1, experts=[experts.Plain()], memory=999.0), jax.random.key(0)
    rows = np.arange(30.0)[:, None] ** 0.5
    plain = one.scan(one.init(key=key), rows, rows)[1].prediction
    for _ in range(2):
        one.keep_programs("plain", key)
        state, kept = one.scan(one.init(key=key), rows, rows)
        np.testing.assert_array_equal(kept.prediction, plain)
        assert len(programs(folder)) == 2
    rtrl.save(folder / "state", state)
    loaded = rtrl.load(folder / "state", like=one.init(key=key))
    first, second = (one.step(s, rows[0])[1].prediction for s in (state, loaded))
    np.testing.assert_array_equal(first, second)


def test_one_flipped_bit_is_found_before_anything_is_run(folder, monkeypatch):
    """A program that was damaged might crash, or give other numbers."""
    keep_program(Jitted(function), "about", *given())
    (path,) = programs(folder)
    whole = path.read_bytes()
    run = []
    monkeypatch.setattr(pickle, "loads", lambda *a: run.append(a))
    for place in (0, 31, 32, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        TRACED.clear()
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        jitted = Jitted(function)
        keep_program(jitted, "about", *given())
        assert not run and len(TRACED) == 1
        assert path.read_bytes()[:32] == hashlib.sha256(path.read_bytes()[32:]).digest()
    monkeypatch.undo()  # the negative control: as it was written last, it is read
    TRACED.clear()
    keep_program(Jitted(function), "about", *given())
    assert not TRACED


def test_what_is_asked_about_is_what_is_read(folder, monkeypatch):
    """A file that takes the name in between is not read."""
    keep_program(Jitted(function), "about", *given())
    (path,) = programs(folder)
    swapped, number = [], path.stat().st_ino

    def swapping(ask):
        def asked(*arguments, **options):
            found = ask(*arguments, **options)
            if not swapped and found.st_ino == number:
                swapped.append(ask)
                other = folder / "other"
                other.write_bytes(b"of somebody else")
                os.replace(other, path)
            return found

        return asked

    monkeypatch.setattr(Path, "stat", swapping(Path.stat))
    monkeypatch.setattr(os, "fstat", swapping(os.fstat))
    TRACED.clear()
    keep_program(Jitted(function), "about", *given())
    assert swapped and not TRACED and path.read_bytes() == b"of somebody else"


def test_a_link_in_a_programs_place_is_not_followed(folder):
    keep_program(Jitted(function), "about", *given())
    (path,) = programs(folder)
    elsewhere = folder / "elsewhere"
    path.rename(elsewhere)
    before = elsewhere.read_bytes()
    path.symlink_to(elsewhere)
    TRACED.clear()
    keep_program(Jitted(function), "about", *given())
    assert len(TRACED) == 1 and not path.is_symlink() and elsewhere.read_bytes() == before


def test_a_file_that_can_not_be_written_whole_leaves_nothing(folder, monkeypatch):
    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    jitted = Jitted(function)
    keep_program(jitted, "about", *given())
    assert [*folder.iterdir()] == []
    np.testing.assert_array_equal(jitted(*given())["y"], 2 * jnp.sin(jnp.arange(5.0)))


def draw(scale, state):
    TRACED.append("again")
    key, now = jax.random.split(state["key"])
    return {"key": key, "x": state["x"] + scale * jax.random.normal(now, (3,))}


@pytest.mark.parametrize("kind", ["typed", "raw"])
def test_a_state_with_a_key_that_is_used_up_is_kept_too(folder, kind):
    make = jax.random.key if kind == "typed" else jax.random.PRNGKey
    expected = Jitted(draw)(np.float32(2), {"key": make(3), "x": jnp.zeros(3)})
    for traced in (1, 0):
        TRACED.clear()
        jitted = Jitted(draw, donate_last=True)
        scale, state = np.float32(2), {"key": make(3), "x": jnp.zeros(3)}
        keep_program(jitted, "about", scale, state)
        assert len(TRACED) == traced and len(programs(folder)) == 1
        found = jitted(scale, state)  # it was not used up by trying
        np.testing.assert_array_equal(found["x"], expected["x"])
        assert (found["key"] == expected["key"]).all()
        assert state["x"].is_deleted()
