"""Exported C leaves out an update that would not be finite, as JAX does, for every parameter."""

import re

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from c_learner import CLearner, Step, arrays, distance

import rtrl

#: Rounding of one step in single precision, relative to the largest number of an array.
STEP = 3e-5
#: `-O3` with sums in any order and zeros without a sign, as the exported Makefile has it.
LOOSE = ("-O3", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno")
#: A momentum of 3e37 moves a parameter by 3e38, which is finite, one of 3e38 by infinity.
OPTIMIZERS = {"sgd": optax.sgd(10.0, momentum=0.99), "adam": optax.adam(1e-3)}
X, Y = np.array([0.3, -0.7, 0.2], "f4"), np.array([0.1, -0.4], "f4")


def build(cell, optimizer):
    model = rtrl.SequenceModel(3, 2, 4, 1, cases.ALL_CELLS[cell], norm=None, key=jax.random.key(3))
    learner = rtrl.OnlineLearner(cases.squared_error, OPTIMIZERS[optimizer], donate=False)
    state = learner.init(model)
    return learner, learner.step(state, X, Y)[0]  # traces and moments that are not zero


def spoiled(state, name, value, several=False):
    """The states in which one number of one array of the moments is another (``several``: all)."""
    leaves, structure = jax.tree.flatten(state.opt_state)
    for path, _ in jax.tree_util.tree_leaves_with_path(state.opt_state):
        text = jax.tree_util.keystr(path)
        if f".{name}" not in text:
            continue
        i = [p for p, _ in jax.tree_util.tree_leaves_with_path(state.opt_state)].index(path)
        a = np.asarray(leaves[i]).copy()
        a.flat[slice(None) if several else a.size // 2] = value
        changed = [*leaves[:i], jnp.asarray(a), *leaves[i + 1 :]]
        opt_state = jax.tree.unflatten(structure, changed)
        yield text, state.__class__(**{**vars(state), "opt_state": opt_state})


def learned(c, learner, states):
    """A step from each state, in C and in JAX."""
    for _, state in states:
        c.load(rtrl.device.pack(state))
        c.step(Step(X, Y))
        c.dump()
    answers = c.do()
    for i, (text, state) in enumerate(states):
        loaded, (skipped, _), saved = answers[3 * i : 3 * i + 3]
        assert loaded == 0
        after, out = learner.step(state, X, Y)
        yield text, state, rtrl.device.unpack(saved, like=state), skipped, after, int(out.skipped)


def same(a, b):
    a, b = arrays(a), arrays(b)
    return all(a[path].tobytes() == b[path].tobytes() for path in a)


def exported(cell, optimizer, folder):
    learner, state = build(cell, optimizer)
    bad = [*spoiled(state, *{"sgd": ("trace", 3e38), "adam": ("mu", -3e38)}[optimizer])]
    if optimizer == "adam":  # the parameter would stay, the moment would not be finite
        bad += [*spoiled(state, "nu", np.inf)][::3]
    return learner, state, CLearner(learner, state, folder), bad


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("cell", ["LRU", "LIF"])
def test_an_update_that_would_not_be_finite_is_left_out(cell, optimizer, tmp_path):
    learner, state, c, bad = exported(cell, optimizer, tmp_path)
    good = [("as it is", state)]
    if optimizer == "sgd":  # all numbers of an array at once: their sum would not be finite
        good += [*spoiled(state, "trace", 3e37, several=True)]
    assert len(bad) > 10
    for flags in (("-O0",), LOOSE) if optimizer == "sgd" else (("-O0",),):
        c.compile(flags=flags)
        for text, before, ours, skipped, theirs, wanted in learned(c, learner, bad):
            assert skipped == wanted == 1, text
            for part in ("model", "opt_state"):
                assert same(getattr(ours, part), getattr(before, part)), text
                assert same(getattr(theirs, part), getattr(before, part)), text
            assert distance(ours.carry, theirs.carry)[0] < STEP
        for text, before, ours, skipped, theirs, wanted in learned(c, learner, good):
            assert skipped == wanted == 0, text
            assert distance(ours, theirs)[0] < STEP and not same(ours.model, before.model), text


def test_a_program_that_does_not_look_is_seen(tmp_path):
    """The comparison can tell: with the judgement left out of the C, parameters are lost."""
    learner, _, c, bad = exported("LIF", "sgd", tmp_path)
    blind, found = re.subn(r"(const int \w+ = go \? ).*( : 0;)", r"\g<1>1\g<2>", c.source)
    assert found == 1
    (tmp_path / "learner.c").write_text(blind)
    c.compile()
    for text, before, ours, skipped, *_ in learned(c, learner, bad):
        assert skipped == 0 and not same(ours.model, before.model), text
        assert any(np.isinf(a).any() for a in arrays(ours.model).values()), text
