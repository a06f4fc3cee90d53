"""Programs that all tests of the command line share."""

import dataclasses

import pytest

from rtrl.cli import _inspect, _setup, _stream_learner, _train


@pytest.fixture(autouse=True)
def share_programs(monkeypatch):
    """Learners of the same kind are the same object, so that they are compiled once."""
    build = _setup.build_learner

    def shared(setup, kind, loss, model, scaled=()):
        same = dataclasses.replace(setup, seed=0, task="", settings=None, target=None)
        key = repr((same, kind, loss, model.in_size, model.out_size, scaled))
        if key not in BUILT:
            BUILT[key] = build(setup, kind, loss, model, scaled)
        return BUILT[key]

    for module in (_train, _stream_learner, _inspect):
        monkeypatch.setattr(module, "build_learner", shared)


BUILT: dict = {}
