"""Every public name says what it does, takes, gives and refuses, and where it comes from."""

import inspect

import docstrings
import pytest
import surface

PUBLIC = list(surface.names())
DOCSTRINGS = {
    key: inspect.getdoc(public.value) or ""
    for public in PUBLIC
    for key in (public.name, public.path)
}


@pytest.mark.core
def test_nothing_is_missing():
    assert len(PUBLIC) > 400 and {p.module for p in PUBLIC} >= {
        "rtrl", "rtrl.analysis", "rtrl.cells", "rtrl.cells.surrogate", "rtrl.evaluate",
        "rtrl.kernels", "rtrl.rules", "rtrl.tasks", "rtrl.tasks.baselines",
    }  # fmt: skip
    missing = {p.path: docstrings.complaints(p, DOCSTRINGS) for p in PUBLIC}
    assert {path: found for path, found in missing.items() if found} == {}


def good(x: int, *, y: float = 1.0) -> float:
    """Add two numbers.

    Args:
        x: a count.
        y: metres.

    Returns:
        The sum, metres.

    Raises:
        ValueError: x is below 0.
    """
    if x < 0:
        raise ValueError
    return x + y


def like(x: int, y: float = 1.0, z: int = 0) -> float:
    """As `good`, and more."""
    return good(x, y=y) + z


class Cell(docstrings.Cell):
    """A cell.

    Args:
        size: modules.
    """

    decay: float
    gain: float

    def __init__(self, size: int):
        if size < 1:
            raise ValueError
        self.decay, self.gain = 0.0, 0.0

    def project(self):
        return None

    def update(self, h, u, *v):
        return h


def complaints(value, doc=None, name=None):
    public = surface.Public("rtrl", name or value.__name__, value)
    original = value.__doc__
    value.__doc__ = original if doc is None else doc
    try:
        known = {**DOCSTRINGS, "good": inspect.cleandoc(good.__doc__ or "")}
        return docstrings.complaints(public, known)
    finally:
        value.__doc__ = original


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Add two numbers.", "Add two numbers", "full stop"),
        ("Add two numbers.", "Add two numbers, each\n    of its own kind.", "longer than a line"),
        ("x: a count.", "a count.", "argument x"),
        ("y: metres.", "metres.", "argument y"),
        ("Returns:", "So:", "what it returns"),
        ("Raises:", "Alas:", "the errors it raises"),
    ],
)
def test_what_a_function_leaves_out_is_reported(old, new, complaint):
    assert complaints(good) == []
    (found,) = complaints(good, (good.__doc__ or "").replace(old, new))
    assert complaint in found


def test_what_a_class_or_a_reference_leaves_out_is_reported():
    assert complaints(good, "") == [
        "no docstring", "argument x", "argument y", "what it returns", "the errors it raises",
    ]  # fmt: skip
    assert complaints(like) == ["argument z"]
    assert complaints(Cell) == [
        "field decay", "field gain", "the errors it raises", "the equation", "the source",
    ]  # fmt: skip
    full = "A cell.\n\n::\n\n    decay * gain\n\nArgs:\n    size: modules.\n\n"
    assert complaints(Cell, f"{full}Raises:\n    ValueError: no size.\n\nSource: ours.") == []
    assert complaints(good, name="kalman") == ["the equation", "the source"]
