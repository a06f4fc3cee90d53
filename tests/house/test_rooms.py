"""The house: rooms in one order, no circle, nobody's private things taken from another room."""

import ast
from pathlib import Path

import imports
import pytest

ROOT = Path(__file__).parents[2]
HOUSE = imports.modules_of(ROOT, "rtrl")

pytestmark = pytest.mark.core


def test_the_house_is_in_order():
    assert len(HOUSE) > 100  # and not an empty folder
    assert imports.complaints(HOUSE) == []


ORDERLY = {
    "rtrl": "from rtrl.learners import step",
    "rtrl.learners": "from rtrl.learners._step import step",
    "rtrl.learners._step": "from rtrl.engine import trace",
    "rtrl.engine": "from rtrl.engine._trace import trace",
    "rtrl.engine._trace": "import jax\ntrace = 0",
    "rtrl.cells": "cell = 0",
    "rtrl.kernels": "import jax.experimental.pallas",
    "rtrl.tables": "table = 0",
    "rtrl.tables._frame": "",
}


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("rtrl.engine._trace", "from rtrl.learners import step", "against the order"),
        ("rtrl.engine._trace", "import rtrl", "against the order"),
        ("rtrl.learners._step", "from rtrl.engine._trace import trace", "another folder"),
        ("rtrl.learners._step", "from rtrl.engine import _trace", "another folder"),
        ("rtrl.learners._step", "from rtrl.attic import old", "no room 'attic'"),
        ("rtrl.engine._trace", "from rtrl.engine import other", "a circle"),
        ("rtrl.engine._trace", "def f():\n    from rtrl.engine import other", "a circle"),
        ("rtrl.learners._step", "def f():\n    from rtrl.cells import cell", "nothing heavy"),
        (
            "rtrl.learners._step",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rtrl import cli",
            "against the order",
        ),
    ],
)
def test_what_is_out_of_order_is_refused(module, source, complaint):
    assert imports.complaints(ORDERLY) == []
    found = imports.complaints({**ORDERLY, module: source})
    assert any(complaint in line for line in found), found


def test_a_late_import_may_defer_what_is_heavy():
    late = "def f():\n    from rtrl import kernels"
    assert imports.complaints({**ORDERLY, "rtrl.engine._trace": f"{late}\ntrace = 0"}) == []
    at_once = f"import jax.experimental.pallas\n{late}"  # then nothing is deferred
    assert imports.complaints({**ORDERLY, "rtrl.engine._trace": at_once})


def test_every_room_says_which_question_it_answers():
    for room in imports.ROOMS:
        source = HOUSE.get(f"rtrl.{room}")
        if source is not None and room not in ("validate",):
            summary = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
            assert "?" in summary, f"{room}/__init__.py: {summary!r} asks nothing"


def test_a_file_is_read_in_one_sitting():
    """250 lines is the aim."""
    lengths = {name: source.count("\n") for name, source in HOUSE.items()}
    assert {name: n for name, n in lengths.items() if n > 300} == {}
