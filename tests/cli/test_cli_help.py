"""Help, names, tasks: what the command line says of itself."""

import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import pytest
from command_line import rtrl_
from typer.testing import CliRunner

import rtrl
from rtrl import tasks
from rtrl.cli import (
    _app,
    _data,
    _known,
    _names,
    _setup,
)
from rtrl.cli._errors import UsageError


@pytest.mark.parametrize(
    "command", ["tasks", "train", "compare", "sweep", "stream", "inspect", "export"]
)
def test_help_teaches_by_example(command):
    done = CliRunner().invoke(_app.app, [command, "--help"])
    assert done.exit_code == 0
    examples = re.findall(rf"(?m)^ +(?:.*\| )?rtrl {command}\b.*$", done.output)
    assert len(examples) >= 2, done.output


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["stream", "--help"]])
def test_help_comes_without_loading_anything_heavy(arguments):
    program = (
        "import sys, rtrl.cli\n"
        f"try: rtrl.cli.main({arguments})\n"
        "except SystemExit as error: print(error.code, file=sys.stderr)\n"
        "print(sorted({'jax', 'numpy', 'matplotlib', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.split("\n")[:2] == ["0", "[]"], done.stderr
    assert ("rtrl 0" if arguments == ["--version"] else "Usage: rtrl") in done.stdout


def test_names_in_help_are_those_there_are():
    assert _known.CELLS == tuple(_names.cell_names())
    assert _known.RULES == tuple(_names.rule_names())


def test_every_option_of_the_front_door_is_there():
    shown = CliRunner().invoke(_app.app, ["train", "--help"]).output
    names = "seed cell rule chunk depth hidden width lr steps out resume tensorboard horizon"
    for name in names.split():
        assert f"--{name}" in shown


def test_cells_and_rules_are_those_of_their_modules(monkeypatch):
    assert {"LRU", "MinGRU", "LIF"} <= set(_names.cell_names())
    assert {"RTRL", "BPTT", "Truncated", "Spatial", "ExactRTRL"} <= set(_names.rule_names())
    assert "Cell" not in _names.cell_names() and "Rule" not in _names.rule_names()

    class Brand(rtrl.Spatial):
        pass

    class Needy(rtrl.Spatial):
        depth: int

        def label(self, chunk=None):
            return f"Needy({self.depth})"

    monkeypatch.setattr(rtrl.rules, "Brand", Brand, raising=False)
    monkeypatch.setattr(rtrl.rules, "Needy", Needy, raising=False)
    assert isinstance(_names.find_rule("brand"), Brand)
    assert "Needy:depth" in _names.rule_names()
    assert _names.find_rule("needy:3").label() == "Needy(3)"
    assert _names.find_rule("RTRL:timestep") == rtrl.RTRL("timestep")
    with pytest.raises(UsageError, match="--rule: expected a value for depth"):
        _names.find_rule("Needy")
    with pytest.raises(UsageError, match="--rules: RTRL: errors"):
        _names.find_rule("RTRL:nonsense", "--rules")


def test_every_cell_builds_and_every_rule_labels():
    for name in _names.cell_names():
        setup = _setup.Setup("digits", cell=name, width=4, hidden=4, depth=1)
        model = eqx.filter_eval_shape(_setup.build_model, setup, 3, 2)  # shapes alone
        assert type(model.layers[0].cell).__name__ == name
    for full in _names.rule_names():
        name, colon, _ = full.partition(":")
        rule = name + (":2" if colon else "")
        assert _setup.label(_setup.Setup("digits", rule=rule, chunk=16))


def test_tasks_are_listed_in_their_own_words():
    listed = rtrl_("tasks")
    assert listed.code == 0 and "laser" in listed.out
    for task in tasks.summary():
        assert re.search(rf"(?m)^{task.name}\b", listed.out), task.name
    one = rtrl_("tasks", "laser").out
    assert "0.963" in one and "Source" in one and "Shapes" in one


def test_published_floors_are_those_of_the_docstrings():
    words = {task.name: task.floors for task in tasks.summary()}
    for name, floors in _data.PUBLISHED.items():
        numbers = [float(n) for n in re.findall(r"\d+\.\d+", words[name])]
        for label, value in floors.items():
            assert value in numbers, (name, label)
    chance = {name: f["chance"] for name, f in _data.PUBLISHED.items() if "chance" in f}
    assert chance == {"scifar": 1 / 10, "imdb": 1 / 2, "shd": 1 / 20}
    unpublished = {t.name for t in tasks.summary() if t.kind != "stream"} - set(_data.PUBLISHED)
    assert unpublished == {"modular_sum"}  # depends on the modulus: 1 / m
    thirds = _data.load("modular_sum", settings={"modulus": 3})
    assert _data.floors(thirds, 1) == {"uniform answer": 1 / 3}


def test_figures_of_the_readme_are_those_measured():
    root = Path(__file__).parents[2]
    table = re.search(r"(?s)\| laser, five samples.*?\n\n", (root / "README.md").read_text())
    assert table
    rows = [re.split(r" *\| *", row.strip("| ")) for row in table[0].splitlines()[2:] if row]
    for column, name in ((1, "laser_horizon"), (4, "digits")):
        measured = (root / "bench" / "results" / f"{name}.md").read_text()
        figures = [row[column] for row in rows]
        assert len(figures) == 8
        for figure in figures:
            assert f"| {figure} |" in measured, (name, figure)
