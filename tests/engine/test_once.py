"""A model that promises to run every cell once per call is held to it."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import data, network, squared_error

import rtrl
from rtrl.engine import Carry
from rtrl.engine._once import check_once

stop = jax.lax.stop_gradient
T = 4


class Two(eqx.Module):
    """Two cells of one kind, side by side; ``way`` runs them."""

    cells: list[rtrl.Cell]
    head: eqx.nn.Linear
    way: Callable = eqx.field(static=True)

    def __call__(self, xs, carry, *, rule, resets, mask, key):
        def recur(i, carry, xs=xs):
            hs, after = rtrl.recur(self.cells[i], xs, carry, rule=rule, resets=resets, mask=mask)
            return hs.real, after

        hs, after = self.way(recur, carry, xs)
        head = self.head
        for _ in range(hs.ndim - 1):
            head = jax.vmap(head)
        return head(hs), after


class Once(Two):
    recurs_once = True


def both(recur, carry):
    (one, first), (two, second) = recur(0, carry[0]), recur(1, carry[1])
    return one + two, (first, second)


def plain(recur, carry, xs):
    return both(recur, carry)


def jitted(recur, carry, xs):
    return jax.jit(lambda carry: both(jax.jit(recur, static_argnums=0), carry))(carry)


def checkpointed(recur, carry, xs):
    return jax.checkpoint(lambda carry: both(recur, carry))(carry)


def peeked(recur, carry, xs):
    """The states may be looked at, before and after."""
    hs, after = both(recur, carry)
    return hs + 0.1 * stop(carry[0].state + after[1].state).real, after


def restarted(recur, carry, xs):
    """A state of the model's own making may go in: no derivative passes through it anyway."""
    return both(recur, (Carry(stop(carry[0].state) * 0.5, carry[0].trace), carry[1]))


KEPT = [plain, jitted, checkpointed, peeked, restarted]


def twice(recur, carry, xs):
    again, _ = recur(0, carry[0])
    hs, after = both(recur, carry)
    return hs + again, after


def twice_in_jit(recur, carry, xs):
    run = jax.jit(lambda carry: recur(0, carry))  # traced once, run twice
    (one, first), (two, _) = run(carry[0]), run(carry[0])
    three, second = recur(1, carry[1])
    return one + two + three, (first, second)


def one_after_the_other(recur, carry, xs):
    (one, first), (two, second) = recur(0, carry[0]), recur(1, carry[1])
    again, first = recur(0, first)
    return one + two + again, (first, second)


def never(recur, carry, xs):
    hs, first = recur(0, carry[0])
    return hs, (first, carry[1])


def stopped_before(recur, carry, xs):
    return both(recur, stop(carry))


def stopped_after(recur, carry, xs):
    hs, after = both(recur, carry)
    return hs, stop(after)


def trace_stopped(recur, carry, xs):
    hs, (first, second) = both(recur, carry)
    return hs, (Carry(first.state, stop(first.trace)), second)


def scaled(recur, carry, xs):
    return both(recur, jax.tree.map(lambda a: 0.5 * a, carry))


def kept_from_before(recur, carry, xs):
    hs, (first, _) = both(recur, carry)
    return hs, (first, carry[1])


def state_from_before(recur, carry, xs):
    hs, (first, second) = both(recur, carry)
    return hs, (first, Carry(carry[1].state, second.trace))


def swapped(recur, carry, xs):
    hs, (first, second) = both(recur, carry)
    return hs, (second, first)


def left_out(recur, carry, xs):
    hs, after = both(recur, carry)
    return hs, after[:1]


def in_a_loop(recur, carry, xs):
    def step(carry, xs):
        hs, after = both(lambda i, c: recur(i, c, xs), carry)
        return after, hs

    after, hs = jax.lax.scan(step, carry, xs[None])
    return hs[0], after


def in_a_branch(recur, carry, xs):
    return jax.lax.cond(xs[0, 0] > 0, lambda c: both(recur, c), lambda c: both(recur, c), carry)


def in_a_derivative(recur, carry, xs):
    clipped = jax.custom_vjp(lambda carry: both(recur, carry))
    clipped.defvjp(lambda c: jax.vjp(lambda c: both(recur, c), c), lambda pull, g: pull(g))
    return clipped(carry)


def for_every_copy(recur, carry, xs):
    hs, first = jax.vmap(lambda xs: recur(0, carry[0], xs))(jnp.stack([xs, xs]))
    two, second = recur(1, carry[1])
    return hs[0] + two, (jax.tree.map(lambda a: a[0], first), second)


def copies(recur, carry, xs):
    hs, first = jax.vmap(lambda xs: recur(0, carry[0], xs))(jnp.stack([xs, xs]))
    two, second = recur(1, carry[1])
    return hs[0] + two, (first, second)


BROKEN = {
    twice: r"expected LRU \(cells\[0\]\) run once .* got 2 runs of it",
    twice_in_jit: r"LRU \(cells\[0\]\) run once .* got 2 runs of it",
    one_after_the_other: r"LRU \(cells\[0\]\) run once .* got 2 runs of it",
    never: r"LRU \(cells\[1\]\) run once .* got no run of it",
    stopped_before: r"LRU \(cells\[0\]\) .*got a trace that something was done to .*stop_gradient",
    stopped_after: r"the carry returned for LRU \(cells\[0\]\) .*something was done to",
    trace_stopped: r"the carry returned for LRU \(cells\[0\]\) .*something was done to",
    scaled: r"LRU \(cells\[0\]\) .*got a trace that something was done to",
    kept_from_before: r"the carry returned for LRU \(cells\[1\]\) .*got the one from before",
    state_from_before: r"the carry returned for LRU \(cells\[1\]\) .*got the one from before",
    swapped: r"the carry returned for LRU \(cells\[0\]\) .*got that of LRU \(cells\[1\]\)",
    left_out: r"expected a carry like the one given",
    in_a_loop: r"LRU \(cells\[0\]\) .*inside a scan",
    in_a_branch: r"LRU \(cells\[0\]\) .*inside a cond",
    in_a_derivative: r"LRU \(cells\[0\]\) .*inside a custom_vjp_call",
    copies: r"the carry returned for LRU \(cells\[0\]\) .*got one of other shapes",
    for_every_copy: r"the carry returned for LRU \(cells\[0\]\) .*something was done to",
}  # fmt: skip


def model(kind, way):
    keys = jax.random.split(jax.random.key(0), 3)
    cells = [rtrl.cells.LRU(3, 5, key=key) for key in keys[:2]]
    return kind(cells, eqx.nn.Linear(5, 2, key=keys[2]), way)


def gradient(model, rule=None, batch=None):
    xs, ys, weights, resets = data(T, batch, 0)
    return rtrl.sequence_gradient(
        model, squared_error, xs, ys, rule=rule or rtrl.RTRL(), chunk=2, weights=weights,
        resets=resets,
    )  # fmt: skip


@pytest.mark.parametrize("way", BROKEN, ids=lambda way: way.__name__)
def test_a_broken_promise_is_refused_by_name(way):
    with pytest.raises(ValueError, match=BROKEN[way]):
        gradient(model(Once, way))


def test_a_promise_kept_changes_nothing(float64):
    without = gradient(model(Two, plain))
    for way in KEPT:
        # A jit or a checkpoint does not change what is computed: no need to compile that again.
        expected = gradient(model(Two, way)) if way in (peeked, restarted) else without
        for a, b in zip(*map(jax.tree.leaves, (gradient(model(Once, way)), expected)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, err_msg=way.__name__)


def test_without_the_promise_cells_may_run_twice():
    """Its gradient would be another one: the trace would advance by both runs."""
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(gradient(model(Two, twice))))


class Mapped(Once):
    """Runs the samples of a batch one by one."""

    def __call__(self, xs, carry, *, rule, resets, mask, key):
        def one(xs, carry, resets):
            return Once.__call__(self, xs, carry, rule=rule, resets=resets, mask=None, key=None)

        return jax.vmap(one, (1, 0, 1), (1, 0))(xs, carry, resets)


def test_models_under_transformations_keep_their_promise(float64):
    expected = gradient(model(Once, plain), batch=2)
    mapped = gradient(model(Mapped, plain), batch=2)
    both_ways = jax.jit(jax.vmap(lambda scale: gradient(
        jax.tree.map(lambda a: scale * a, model(Once, plain)), batch=2)))(jnp.ones(2))  # fmt: skip
    for a, b, c in zip(*map(jax.tree.leaves, (mapped, expected, both_ways)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)
        np.testing.assert_allclose(c, np.stack([b, b]), rtol=1e-10)


def test_a_promise_is_seen_to_be_kept_where_nothing_is_compiled():
    once, rule = model(Once, plain), rtrl.RTRL()
    params, rest = eqx.partition(once, eqx.is_inexact_array)

    def run(params, carry):
        return eqx.combine(params, rest)(
            jnp.ones((1, 3)), carry, rule=rule, resets=None, mask=None, key=None
        )

    with jax.disable_jit():  # as in debugging
        check_once(run, params, rtrl.init_carry(once, rule))


@pytest.mark.parametrize("rule", [rtrl.UORO(), rtrl.Spatial()], ids=["keys", "none"])
def test_every_kind_of_trace_is_followed(rule):
    """Traces that hold random keys or nothing, too."""
    assert np.isfinite(gradient(network("LeakyIntegrator"), rule, batch=2)[0])
    with pytest.raises(ValueError, match="got 2 runs"):
        gradient(model(Once, twice), rule)


def test_a_learner_refuses_too():
    learner = rtrl.OnlineLearner(squared_error, optax.sgd(0.1))
    state = learner.init(model(Once, swapped))
    with pytest.raises(ValueError, match=r"got that of LRU \(cells\[1\]\)"):
        learner.step(state, jnp.ones(3), jnp.ones(2))
