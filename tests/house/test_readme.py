"""The snippets of the README run, in order, as one reader would type them."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.core
def test_snippets_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len(SNIPPETS) >= 4
    namespace: dict = {}
    for snippet in SNIPPETS:
        exec(compile(snippet, str(README), "exec"), namespace)
    assert "RTRL" in capsys.readouterr().out
    assert float(namespace["outs"].loss[-200:].mean()) < 0.1  # the user's neuron learned the sine


def test_the_refusal_shown_is_the_refusal_given():
    import numpy as np
    import optax

    import rtrl

    namespace: dict = {}
    exec(SNIPPETS[0].split("learner =")[0], namespace)
    learner = rtrl.OnlineLearner(lambda p, y: ((p - y) ** 2).sum(), optax.sgd(0.1))
    shown = re.search(r"ValueError: (xs: .*)\n", README.read_text())
    with pytest.raises(ValueError) as caught:
        learner.scan(learner.init(namespace["model"]), np.zeros((2000, 3)), np.zeros((2000, 1)))
    assert shown and str(caught.value) == shown[1]
