"""Signals: what is stopped goes on."""

import os
import signal
import time

import pytest
from command_line import RUNS, leaves, result, rtrl_

from rtrl.cli import (
    _train,
)
from rtrl.cli._signals import Stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_breaks_off_the_waiting_and_nothing_else(number):
    def rows():
        yield "first"
        os.kill(os.getpid(), number)  # while the next is waited for
        time.sleep(10)
        yield "never"

    before = signal.getsignal(number)
    with Stop() as stop:
        assert list(stop.items(rows())) == ["first"] and stop.requested
    with Stop() as stop:
        got = []
        for item in stop.items(iter("abc")):
            if item == "b":
                os.kill(os.getpid(), number)  # in the middle of the work on an item
            got.append(item)
        assert got == ["a", "b"] and stop.requested
    assert signal.getsignal(number) is before


def test_a_stopped_training_is_saved_and_goes_on(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert rtrl_("train", *RUNS["sequences"], "--steps", 6, "--out", whole).code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_train, "live", lambda data, run: stop_at(run.done == 3))
        done = rtrl_("train", *RUNS["sequences"], "--steps", 6, "--out", parts)
    assert done.code == 0 and "--resume" in done.err
    assert result(parts)["runs"][0]["steps"] == 3 and not result(parts)["runs"][0]["finished"]
    assert rtrl_("train", *RUNS["sequences"], "--steps", 6, "--out", parts, "--resume").code == 0
    assert leaves(whole) == leaves(parts)


def stop_at(now: bool) -> str:
    if now:
        os.kill(os.getpid(), signal.SIGTERM)
    return ""
