"""The API reference: what docstrings turn into, and that what leads nowhere is reported."""

import re

import links
import pytest
from build_docs import build
from markdown_of import is_foreign, markdown_of
from reference_names import Names
from reference_pages import Files

DOCSTRING = """Advance a state.

::

    h_t = D h_{t-1}
        + J u_t

See `Cell` and ``u * v``::

    one

Args:
    x, y: inputs,
        `(N,)`.
    *more: a <b> c.

Returns what `x` is.
"""


def test_a_docstring_as_markdown():
    address = {"Cell": "cells.html#Cell", "x": None, "(N,)": None}
    assert re.split(r"\n\n+", markdown_of(DOCSTRING, address.__getitem__)) == [
        "Advance a state.",
        "```text\nh_t = D h_{t-1}\n    + J u_t\n```",
        "See [`Cell`](cells.html#Cell) and `u * v`:",
        "```text\none\n```",
        "**Args**",
        "- **x, y**: inputs,\n  `(N,)`.\n- **&#42;more**: a &lt;b&gt; c.",
        "Returns what `x` is.",
    ]


def test_what_is_a_name_of_this_package():
    assert not is_foreign("Cell") and not is_foreign("rtrl.Cell") and not is_foreign("cell.update")
    assert all(map(is_foreign, ("numpy.load", "ValueError", "None", "f(x)", "a b")))


def test_a_name_that_is_none_is_reported():
    names = Names()
    assert names.resolve("LRU", "rtrl.rules", "RTRL", set()) == "../rtrl/cells.html#LRU"
    assert names.resolve("step", "rtrl", "OnlineLearner.scan", set()) == (
        "rtrl.html#OnlineLearner.step"
    )
    assert names.resolve("xs", "rtrl", "recur", {"xs"}) is None and names.errors == []
    assert names.resolve("nonsense", "rtrl", "recur", set()) is None
    assert names.errors == ["rtrl.recur: `nonsense` is no name of this package"]


def test_a_link_that_leads_nowhere_is_reported(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.html").write_text('<h1 id="there"></h1><a href="../a.html">x</a>')
    (tmp_path / "p.png").write_bytes(b"")
    fine = '<a href="sub/b.html#there">x</a><img src="p.png"><a href="https://x.org/y">y</a>'
    (tmp_path / "a.html").write_text(fine)
    assert links.complaints(tmp_path) == []
    for wrong, reason in {
        '<a href="sub/b.html#nowhere">': "no place",
        '<a href="#nowhere">': "no place",
        '<a href="c.html">': "no file",
        '<img src="q.png">': "no file",
        '<a href="/a.html">': "out of the site",
        '<a href="../a.html">': "out of the site",
        '<a href="https://nowhere/">': "no address",
        '<a href="file:///a.html">': "no address",
        '<i id="one"></i><b id="one"></b>': "two places",
    }.items():
        (tmp_path / "a.html").write_text(fine + wrong)
        (found,) = links.complaints(tmp_path)
        assert reason in found, found


def test_a_path_that_is_no_file_is_reported():
    files = Files({"README.md": "`bench/nothing.md` and `bench/README.md`"})
    assert files.errors == ["README.md: bench/nothing.md is no file"]
    assert "[`bench/README.md`](bench/README.html)" in files.pages["README.md"]


@pytest.mark.filterwarnings("error")
def test_the_reference_builds(tmp_path):
    assert build(tmp_path / "docs") == []
    read = {path.name: path.read_text() for path in (tmp_path / "docs").rglob("*.html")}
    assert 'id="OnlineLearner.step"' in read["rtrl.html"]
    assert 'id="LRU.B_re"' in read["cells.html"] and 'id="esn"' in read["baselines.html"]
    assert '<a href="rtrl/cells.html#VanillaRNN">' in read["rtrl.html"]
    assert " at 0x" not in "".join(read.values())  # a default value shown by its address
