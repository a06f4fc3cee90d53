"""Learning without looking for what is not finite: the same on good data, and no other."""

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
from cases import data, network, squared_error

import rtrl

XS, YS, WEIGHTS, RESETS = data(9, 2, 0)


def learner(on_nonfinite, **options):
    options = {"optimizer": optax.adam(1e-2), **options}
    return rtrl.OnlineLearner(squared_error, on_nonfinite=on_nonfinite, donate=False, **options)


def leaves(tree):
    return [np.asarray(a) for a in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


@pytest.mark.parametrize(
    "options",
    [{}, {"update_every": 2}, {"rule": rtrl.ExactRTRL()}],
    ids=["every chunk", "windows", "exact"],
)
def test_good_data_give_the_same(options, float64):
    xs, ys, weights = (a.astype("float64") for a in (XS, YS, WEIGHTS))
    results = []
    for on_nonfinite in ("skip", "ignore"):
        one = learner(on_nonfinite, **options)
        state = one.init(network("LRU", depth=1), 2)
        state, out = one.scan(state, xs, ys, chunk=3, weights=weights, resets=RESETS)
        state, _ = one.step(state, xs[0])  # no target: nothing is learned from it
        results.append(leaves((state, out)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)  # sums in another order


@pytest.mark.parametrize("where", ["input", "target", "update"])
def test_what_is_not_finite_spreads(where):
    rate = 1e38 if where == "update" else 1e-2
    xs = XS.at[4, 0, 1].set(np.nan) if where == "input" else XS
    ys = YS.at[4, 0, 1].set(np.nan) if where == "target" else YS
    for on_nonfinite, spreads in (("skip", False), ("ignore", True)):
        one = learner(on_nonfinite, optimizer=optax.sgd(rate))
        state, out = one.scan(one.init(network("LRU", depth=1), 2), xs, ys, chunk=3)
        lost = not all(np.isfinite(a).all() for a in leaves(state))
        assert (lost, bool(out.skipped.any())) == (spreads, not spreads)
