"""The tutorial runs, in order, as one reader would type it, and says what comes out."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[2] / "rtrl/analysis/README.md"


def plain(text: str) -> str:
    """Without line breaks, shares and fractions: another machine rounds otherwise."""
    return re.sub(r"\d+%|\d+\.\d+", "#", " ".join(text.split()))


def test_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(snippets) >= 7
    names: dict = {}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    shown = re.search(r"    (time scales too short: .*?)\(\.\.\.\)", PAGE.read_text(), re.DOTALL)
    assert shown and plain(shown[1]) in plain(said)  # what the page quotes is what was said
    assert said.count("[]") == 1 and (tmp_path / "diagnosis.png").exists()
    assert names["advice"].verdict == "vanishes" and names["better"].verdict == "holds"
    np.testing.assert_allclose(  # 300 samples: one standard error is 6 to 8%
        names["sampled"] / names["analysis"].sensitivity_energy(names["lam"][:3], 0.0), 1, atol=0.3
    )
