"""The generated table of cells and rules is that of the code."""

import runpy
from pathlib import Path

import rtrl

BENCH = Path(__file__).parents[2] / "bench"


def test_the_table_is_up_to_date():
    """`python bench/zoo.py` writes it again."""
    table = runpy.run_path(str(BENCH / "zoo.py"))["markdown"]()
    assert table == (BENCH / "results" / "zoo.md").read_text()
    for name in rtrl.rules.examples():
        assert f"| `{name}` |" in table
    assert "| `GRU` |" in table and "| `SharedGate(dense=True)` |" in table


def test_every_exported_rule_has_an_example():
    exported = {name for name, rule in vars(rtrl.rules).items() if isinstance(rule, type)}
    assert exported == {*rtrl.rules.examples(), "Rule"}
