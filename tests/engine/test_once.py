"""A model that says it recurs once is held to it; what it may do, it may."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import squared_error

import rtrl

N = 3


class Net(eqx.Module):
    """Two cells side by side, handled as ``how`` says."""

    cells: list
    how: str

    def __call__(self, xs, carry, *, rule, resets, mask, key):
        def run(cell, carry):
            return rtrl.recur(cell, xs, carry, rule=rule, resets=resets, mask=mask)

        first, second = carry
        if self.how == "stopped":
            first = jax.lax.stop_gradient(first)
        if self.how == "scaled":
            first = jax.tree.map(lambda a: 0.5 * a, first)
        if self.how in ("jit", "checkpoint"):
            run = {"jit": jax.jit, "checkpoint": jax.checkpoint}[self.how](run)
        hs, first_after = run(self.cells[0], first)
        if self.how == "left out":
            return hs, (first_after, second)
        if self.how == "twice":
            hs = hs + run(self.cells[0], first)[0]
        if self.how == "twice in a loop":
            add = lambda hs, _: (hs + run(self.cells[0], first)[0], None)  # noqa: E731
            hs, _ = jax.lax.scan(add, jnp.zeros_like(hs), None, length=2)
        if self.how == "again":
            hs = hs + run(self.cells[0], first_after)[0]
        others, second_after = run(self.cells[1], second)
        after = first_after, second_after
        return hs + others, after[::-1] if self.how == "swapped" else after


class Once(Net):
    recurs_once = True


def make(kind, how):
    keys = jax.random.split(jax.random.key(0))
    return kind([rtrl.cells.LeakyIntegrator(2, N, key=k) for k in keys], how)


def learn(model, steps=3):
    xs = np.random.default_rng(0).standard_normal((steps, 2)).astype(np.float32)
    learner = rtrl.OnlineLearner(squared_error, optax.sgd(0.1))
    return learner.scan(learner.init(model), xs, xs[:, :1] * np.ones(N, np.float32))


@pytest.mark.parametrize("how", ["plain", "jit", "checkpoint", "left out"])
def test_what_keeps_the_promise_learns_as_without_it(how):
    promised, plain = learn(make(Once, how)), learn(make(Net, how))
    for a, b in zip(jax.tree.leaves(promised), jax.tree.leaves(plain), strict=True):
        if eqx.is_inexact_array(a):
            assert np.allclose(a, b, rtol=1e-5, atol=1e-6)  # rounding of a few float32 sums


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("twice", r"LeakyIntegrator \(cell 0\) is run more than once"),
        ("twice in a loop", r"\(cell 0\) is run more than once"),
        ("again", "carry: expected one that no recurrence has used"),
        ("stopped", r"\(cell 0\) gets a trace that was changed or stopped"),
        ("scaled", r"\(cell 0\) gets a trace that was changed or stopped"),
        ("swapped", r"\(cell 0\) has the carry of cell 1 in its place"),
    ],
)
def test_what_breaks_the_promise_is_refused_by_name(how, message):
    with pytest.raises(ValueError, match=message):
        learn(make(Once, how))
    learn(make(Net, how))  # without the promise it may
