"""``rtrl compare``: the same network and data under several rules and chunks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rtrl.cli import _report, _state
from rtrl.cli._data import Data
from rtrl.cli._errors import refuse
from rtrl.cli._learn import Done
from rtrl.cli._names import find_rule, rule_name
from rtrl.cli._setup import Setup, complete, label
from rtrl.cli._signals import Stop
from rtrl.cli._train import resume, run_length, train


def variants(setup: Setup, data: Data, rules: str | None, chunks: str | None) -> list[Setup]:
    """One setup for each rule and chunk; rules that are alike in all chunks come once."""
    if rules is None:
        rules = "RTRL,Truncated,Spatial" if data.kind == "stream" else "RTRL,Truncated,BPTT"
    names = [rule_name(name.strip(), "--rules") for name in rules.split(",") if name.strip()]
    sizes: list[int | None] = []
    for text in (chunks or "").split(","):
        if text.strip():
            if not text.strip().isdigit() or int(text) < 1:
                refuse("--chunks", "timesteps such as 1,16", repr(text))
            sizes.append(int(text))
    if not names:
        refuse("--rules", "names such as RTRL,BPTT", repr(rules))
    if setup.optimizer is None:
        setup = replace(setup, optimizer=_common_optimizer(setup, data, names, sizes))
    found: dict[str, Setup] = {}
    for name in names:
        whole = find_rule(name).whole_sequence and data.kind != "stream"
        for chunk in [None] if whole or not sizes else sizes:
            one = replace(setup, rule=name, chunk=chunk)
            if whole or not find_rule(name).reaches_back():  # there is nothing to overlap
                one = replace(one, overlap=None)
            one = complete(one, data)
            found.setdefault(label(one), one)
    return list(found.values())


def _common_optimizer(setup: Setup, data: Data, names: list[str], sizes: list) -> str:
    """The optimizer that all can use, so that only the rule differs."""
    several = [complete(replace(setup, rule=n, chunk=k), data) for n in names for k in sizes or [1]]
    return "kalman" if all(s.optimizer == "kalman" for s in several) else "adam"


def compare(
    setups: list[Setup],
    data: Data,
    steps: int | None,
    epochs: int | None,
    folder: Path,
    *,
    go_on: bool,
    stop: Stop,
    console: Any,
    tensorboard: bool,
) -> list[Done]:
    """Train every setup in a folder of its own; on resuming, what is there goes on."""
    done = []
    for setup in setups:
        length = run_length(data, setup, steps, epochs)
        name = f"{setup.rule}-{setup.chunk or 'all'}".lower().replace(":", "-")
        inner = _state.folder(folder / name, name)
        about = None
        if (inner / _state.STATE).exists():
            if go_on:
                setup, about = resume(inner / _state.STATE, setup)
            else:
                _state.keep_previous(inner / _state.STATE)
        scalars = _report.Scalars(inner if tensorboard else None)
        try:
            one = train(
                setup, data, length, inner, about=about, stop=stop, console=console,
                scalars=scalars,
            )  # fmt: skip
        finally:
            scalars.close()
        done.append(one)
        if stop.requested:
            break
    return done
