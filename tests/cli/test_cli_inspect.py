"""``rtrl inspect``: what is in a state."""

import io
import re
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import PNG, RUNS, TINY, log_file, result, rtrl_

import rtrl
from rtrl.cli import (
    _inspect,
    _progress,
    _setup,
)


def test_inspect_shows_what_is_in_a_state(tmp_path):
    assert rtrl_("train", *RUNS["sequences"], "--steps", 2, "--out", tmp_path).code == 0
    shown = rtrl_("inspect", tmp_path)
    assert shown.code == 0
    setup = _setup.Setup(**result(tmp_path)["runs"][0]["setup"])
    model = _setup.build_model(setup, 8, 14)
    total = sum(a.size for a in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    assert f"Parameters: {total:,}" in shown.out
    for word in ("Timescales of layer 1 (LRU)", "traces", "optimizer", "hidden states", "kB"):
        assert word in shown.out
    bars = re.findall(r"timesteps .*?(\d+)$", shown.out, re.M)
    assert sum(map(int, bars)) == 4  # one for each module


def test_inspect_diagnoses_on_the_data_that_was_learned(tmp_path):
    file = log_file(tmp_path)
    arguments = ["stream", file, "--target", "speed", *TINY, "--out", tmp_path]
    assert rtrl_(*arguments).code == 0
    shown = rtrl_("inspect", tmp_path, "--data", file, "--window", 64)
    assert shown.code == 0, shown.err
    for word in ("Diagnosis on", "Window: 64 timesteps", "best constant", "layers[0] (LRU) over"):
        assert word in shown.out
    assert "window elsewhere" not in shown.out  # it ends where the state is
    assert (tmp_path / "diagnosis.png").read_bytes().startswith(PNG)
    refused = rtrl_("inspect", tmp_path, "--data", tmp_path / "none.csv")
    assert refused.code == 2 and "Traceback" not in refused.err
    refused = rtrl_("inspect", tmp_path, "--data", "copying")  # not what it learned
    assert refused.code == 2 and "copying" in refused.err, refused.err


def test_timescales_are_those_of_the_decays():
    lru = rtrl.cells.LRU(3, 6, r_min=0.5, r_max=0.99, key=jax.random.key(0))
    found = _inspect.timescales(lru, lru.initial(), 3)
    expected = np.sort(1 / np.exp(np.asarray(lru.nu_log)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    leaky = rtrl.cells.LeakyIntegrator(2, 5, key=jax.random.key(1))
    slow = _inspect.timescales(leaky, leaky.initial(), 2)
    assert slow.shape == (5,) and (0 < slow).all() and np.isfinite(slow).all()
    batched = jnp.tile(leaky.initial(), (3, 1))
    np.testing.assert_array_equal(_inspect.timescales(leaky, batched, 2), slow)
    counts = _inspect.histogram(np.array([0.5, 1.0, 2.9, 5000.0, np.inf]))
    assert [n for _, n in counts] == [1, 2, 0, 0, 0, 0, 0, 2]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_a_bar_with_the_metric_and_the_speed(width):
    from rich.console import Console

    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width)
    with _progress.progress(console, "digits, RTRL, K=16", 10, 0, "batches") as bar:
        for done in range(1, 11):
            bar.update(done, f"accuracy 0.{done}")
            time.sleep(0.002)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue()).strip().splitlines()[-1]
    assert "10/10" in last and "accuracy 0.10" in last and re.search(r"  [\d,]+/s", last)
    assert 0 < bar.speed(10) < 1 / 0.002
