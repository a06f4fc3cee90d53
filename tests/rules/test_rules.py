"""Every rule for dense cells against an oracle of its own, and what a learner does with it."""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from cases import ALL_CELLS, DENSE, DENSE_RULES, MODULES, data, network, squared_error
from jax.flatten_util import ravel_pytree
from one_layer import (
    bptt_gradient,
    linear_loss,
    one_step,
    online_gradient,
    random_weights,
    relative_error,
    unrolled,
)
from oracles import oracle_gradient, relative_errors

import rtrl
from rtrl import cells
from rtrl.rules._snapn import reachable

SIZE, T = 3, 14
TOLERANCE = 1e-10  # sums over T timesteps in float64
stop = jax.lax.stop_gradient


def problem(name):
    """A layer, its inputs, and weights of its outputs in the loss."""
    cell = ALL_CELLS[name](SIZE, jax.random.key(0))
    xs = 2 * jax.random.normal(jax.random.key(1), (T, SIZE))
    return cell, xs, random_weights(unrolled(cell, xs)[1])


def distance(a, b):
    return max(relative_error(a, b).values())


def leaves(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


def some(names):
    """These by default, every other dense cell if slow tests run."""
    return [n if n in names else slow(n) for n in DENSE]


# Exact rules -------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("rule", [rtrl.SnApN(MODULES), rtrl.TBPTT(T)], ids=["SnApN", "TBPTT"])
@pytest.mark.parametrize("chunk", [7, slow(1)])
@pytest.mark.parametrize("name", some(["AdaptiveLIF-dense", "SharedGate-dense"]))
def test_rules_that_lose_nothing_equal_bptt(name, chunk, rule, float64):
    """Two numbers per module, and rows that all modules share. Others are seen to fail below."""
    cell, xs, weights = problem(name)
    exact = bptt_gradient(cell, xs, weights)
    grads, _ = online_gradient(cell, xs, weights, rule, chunk)
    assert distance(grads, exact) < TOLERANCE


@pytest.mark.core
@pytest.mark.parametrize("name", some(["ConstGate-dense"]))
def test_exact_rules_learn_dense_networks_with_batch_weights_and_resets(name, float64):
    model = network(name, depth=1, norm="post")
    xs, ys, weights, resets = data(T, 2, 0)
    _, exact = oracle_gradient("bptt", model, squared_error, xs, ys, weights, resets)

    def error(rule, part=lambda grads: (grads.layers[0], grads.decoder)):
        _, grads = rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rule, chunk=5, weights=weights, resets=resets
        )
        return max(relative_errors(part(grads), part(exact)).values())

    assert error(rtrl.ExactRTRL(), lambda grads: grads) < TOLERANCE
    assert error(rtrl.SnApN(MODULES)) < TOLERANCE
    assert error(rtrl.SnAp1()) > 1e-3


# Rules that equal another one --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rule", "other"),
    [
        ("GRU", rtrl.SnApN(1), rtrl.SnAp1()),
        ("DiagGate-dense", rtrl.TBPTT(1), rtrl.Truncated()),
        ("VanillaRNN", rtrl.EProp(), rtrl.Truncated()),
        ("RTU-tanh", rtrl.SnAp1(), rtrl.RTRL()),
        ("RTU-tanh", rtrl.EProp(), rtrl.RTRL()),
        ("RTU-tanh", rtrl.SnApN(1), rtrl.RTRL()),
    ],
    ids=lambda v: v if isinstance(v, str) else v.label(1),
)
def test_rules_that_are_the_same_there(name, rule, other, float64):
    cell, xs, weights = problem(name)
    grads, expected = (online_gradient(cell, xs, weights, r, 1)[0] for r in (rule, other))
    assert distance(grads, expected) < TOLERANCE


@pytest.mark.core
def test_spatial_of_a_dense_cell_is_that_of_its_oracle(float64):
    """The linear RNN's recurrence is a constant of the timestep: A learns nothing."""
    model = network("LinearRNN")
    xs, ys, weights, resets = data(T, 2, 0)
    _, expected = oracle_gradient("spatial", model, squared_error, xs, ys, weights, resets)
    _, grads = rtrl.sequence_gradient(
        model, squared_error, xs, ys, rule=rtrl.Spatial(), weights=weights, resets=resets
    )
    assert max(relative_errors(grads, expected).values()) < TOLERANCE
    assert not grads.layers[0].cell.A.any()


# Oracles by autodiff -----------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("name", some(["LIF-dense", "DiagGate-dense"]))
def test_eprop_is_bptt_with_recurrent_inputs_held_fixed(name, float64):
    cell, xs, weights = problem(name)

    def loss(cell):
        def step(h, x):
            h = one_step(cell, h, x, see=stop)
            return h, cell.output(h)

        return linear_loss(jax.lax.scan(step, cell.initial(), xs)[1], weights)

    expected = jax.jit(jax.grad(loss))(cell)
    for chunk in (1, 7):
        grads, _ = online_gradient(cell, xs, weights, rtrl.EProp(), chunk)
        assert distance(grads, expected) < TOLERANCE
    assert distance(grads, bptt_gradient(cell, xs, weights)) > 1e-2


@pytest.mark.core
@pytest.mark.parametrize("name", some(["VanillaRNN"]))
def test_tbptt_goes_back_k_timesteps_from_every_error(name, float64):
    cell, xs, weights = problem(name)
    k = 3
    states, _ = unrolled(cell, xs)
    before = jax.tree.map(lambda h0, h: jnp.concatenate([h0[None], h]), cell.initial(), states)

    @jax.jit
    def gradient(h, window, weights):
        """Of the last timestep's loss, through the window alone."""

        def loss(cell):
            final, _ = jax.lax.scan(lambda h, x: (one_step(cell, h, x), None), h, window)
            return linear_loss(cell.output(final), weights)

        return jax.grad(loss)(cell)

    expected = jax.tree.map(jnp.zeros_like, cell)
    for t in range(T):
        start = max(0, t - k + 1)
        h, now = jax.tree.map(lambda a, s=start: a[s], before), [w[t] for w in weights]
        expected = jax.tree.map(jnp.add, expected, gradient(h, xs[start : t + 1], now))
    for chunk in (1, 7):
        grads, _ = online_gradient(cell, xs, weights, rtrl.TBPTT(k), chunk)
        assert distance(grads, expected) < TOLERANCE
    assert distance(grads, bptt_gradient(cell, xs, weights)) > 1e-3


@pytest.mark.core
def test_snapn_keeps_what_n_timesteps_reach(float64):
    """On a ring of one-way connections: module m reaches m, m+1, ..., m+n-1."""
    _, xs, _ = problem("VanillaRNN")
    N = 6
    ring = np.roll(np.eye(N, dtype=bool), 1, axis=0)
    cell = cells.VanillaRNN(SIZE, N, density=0.5, key=jax.random.key(0))
    cell = eqx.tree_at(lambda c: c.mask, cell, jnp.asarray(ring))
    weights = random_weights(unrolled(cell, xs)[1])
    assert reachable((cell.recurrent(),), N, 1).sum() == 2 * N

    @jax.jit
    def oracle(steps):
        """For W, U and b: ``S_t = mask * (F S_{t-1} + I_t)`` with one-step Jacobians."""
        rolled = jnp.stack([jnp.roll(jnp.eye(N), j, axis=0) for j in range(N)])
        reached = (rolled * (jnp.arange(N) <= steps)[:, None, None]).sum(0)
        masks = {"W": reached[:, :, None], "U": reached[:, :, None], "b": reached}

        def put(parameters):
            fields = tuple(parameters[name] for name in masks)
            return eqx.tree_at(lambda c: tuple(getattr(c, n) for n in masks), cell, fields)

        def timestep(state, data):
            h, S = state
            x, w = data
            parameters = {name: getattr(cell, name) for name in masks}
            F = jax.jacfwd(lambda h: one_step(cell, h, x))(h)
            immediate = jax.jacfwd(lambda p: one_step(put(p), h, x))(parameters)
            S = {n: masks[n] * (jnp.tensordot(F, S[n], 1) + immediate[n]) for n in masks}
            return (one_step(cell, h, x), S), {n: jnp.tensordot(w[0], S[n], 1) for n in masks}

        zeros = {n: jnp.zeros((N, *getattr(cell, n).shape)) for n in masks}
        return jax.lax.scan(timestep, (cell.initial(), zeros), (xs, weights))[1]

    exact = bptt_gradient(cell, xs, weights)
    errors = []
    for n in (2, N):
        grads, _ = online_gradient(cell, xs, weights, rtrl.SnApN(n), 1)
        for name, expected in oracle(n - 1).items():
            assert np.allclose(getattr(grads, name), expected.sum(0), rtol=1e-9, atol=1e-9)
        errors.append(distance(grads, exact))
        assert not np.asarray(grads.U)[~ring].any()  # absent weights learn nothing
    assert errors[0] > 1e-2 and errors[1] < TOLERANCE


# Unbiased rules ----------------------------------------------------------------------------------

DRAWS = 20_000
PROJECTIONS = 8


def z_scores(name, rule):
    """How many standard errors the mean over draws is away from BPTT, along fixed directions."""
    cell = DENSE[name](SIZE, jax.random.key(0))
    xs = 2 * jax.random.normal(jax.random.key(1), (6, SIZE))
    weights = random_weights(unrolled(cell, xs)[1])
    flat = ravel_pytree
    exact = flat(bptt_gradient(cell, xs, weights))[0]
    directions = jax.random.normal(jax.random.key(2), (exact.size, PROJECTIONS))
    carry = rtrl.init_carry(cell, rule)

    def draw(key):
        now = eqx.tree_at(lambda c: c.trace.key, carry, key)

        def learn(carry, data):
            x, w = data

            def loss(cell):
                outputs, after = rtrl.recur(cell, x[None], carry, rule=rule)
                return linear_loss(outputs, [a[None] for a in w]), after

            grads, carry = jax.grad(loss, has_aux=True)(cell)
            return carry, grads

        _, grads = jax.lax.scan(learn, now, (xs, weights))
        return flat(jax.tree.map(lambda g: g.sum(0), grads))[0] @ directions

    keys = jax.random.key_data(jax.random.split(jax.random.key(3), DRAWS))
    samples = np.asarray(jax.jit(lambda keys: jax.lax.map(draw, keys, batch_size=1000))(keys))
    error = samples.std(0, ddof=1) / np.sqrt(DRAWS)

    def score(gradient):
        return (samples.mean(0) - np.asarray(gradient @ directions)) / error

    truncated = flat(online_gradient(cell, xs, weights, rtrl.Truncated(), 1)[0])[0]
    return score(exact), score(truncated)


@pytest.mark.core
@pytest.mark.parametrize("rule", [rtrl.UORO(), rtrl.KFRTRL()], ids=["UORO", "KFRTRL"])
@pytest.mark.parametrize("name", some(["VanillaRNN"]))
def test_unbiased(name, rule, float64):
    """The mean of 20,000 draws is the BPTT gradient along 8 directions: one percent, Bonferroni."""
    exact, truncated = z_scores(name, rule)
    limit = scipy.stats.norm.isf(0.01 / 2 / PROJECTIONS)
    assert np.all(abs(exact) < limit)
    assert np.any(abs(truncated) > 2 * limit)  # a bias that the test sees


# The contract of a learner -----------------------------------------------------------------------


def learners():
    for rule in DENSE_RULES:
        for cell, batch in [
            ("VanillaRNN", 2),
            ("LRU", 2),
            ("LeakyIntegrator", None),
            ("GRU", None),
        ]:
            fast = cell == "VanillaRNN" and rule in ("UORO", "TBPTT")
            marks = () if fast else pytest.mark.slow
            yield pytest.param(DENSE_RULES[rule], cell, batch, marks=marks, id=f"{rule}-{cell}")


@pytest.mark.parametrize(("rule", "cell", "batch"), list(learners()))
def test_a_learner_keeps_its_promises(rule, cell, batch, tmp_path):
    """Chunks are single steps, weight zero is no target, reset begins anew, saving loses nothing,
    nothing is compiled again."""
    model = network(cell, depth=1)
    xs, ys, weights, resets = data(8, batch, 0)
    traced = []

    def loss(prediction, target):
        traced.append(1)
        return squared_error(prediction, target)

    learner = rtrl.OnlineLearner(loss, optax.sgd(1.0), rule=rule, update_every=100, donate=False)
    state = start = learner.init(model, batch)
    for t in range(8):
        state, out = learner.step(state, xs[t], ys[t], weights[t], resets[t])
        if t == 0:
            compiled = len(traced)
        if t == 3:
            rtrl.save(tmp_path / "state", state)
    assert len(traced) == compiled
    scanned, _ = learner.scan(start, xs, ys, chunk=4, weights=weights, resets=resets)
    for a, b in zip(leaves(state.window), leaves(scanned.window), strict=True):
        assert np.isfinite(a).all() and np.allclose(a, b, atol=2e-4)  # another order of sums
    resumed = rtrl.load(tmp_path / "state", like=start)
    for t in range(4, 8):
        resumed, _ = learner.step(resumed, xs[t], ys[t], weights[t], resets[t])
    for a, b in zip(leaves(resumed), leaves(state), strict=True):
        assert np.array_equal(a, b)
    other = jnp.where(weights[..., None] == 0, ys + 7, ys)
    again, _ = learner.scan(start, xs, other, chunk=4, weights=weights, resets=resets)
    for a, b in zip(*map(jax.tree.leaves, (again.window, scanned.window)), strict=True):
        assert np.array_equal(a, b)
    fresh = learner.reset(state).carry
    for a, b in zip(
        *(jax.tree.leaves(eqx.filter(c, eqx.is_inexact_array)) for c in (fresh, start.carry)),
        strict=True,
    ):
        assert np.array_equal(a, b)


STEADY = [name for name in DENSE_RULES if name not in ("UORO", "KFRTRL")]


@pytest.mark.parametrize("rule", [n if n == "SnApN" else slow(n) for n in STEADY])
def test_vmap_over_samples_is_the_batch_axis_and_masked_timesteps_did_not_happen(rule, float64):
    """Of a dense cell, for the rules without random signs, which differ between samples."""
    rule = DENSE_RULES[rule]
    cell = DENSE["VanillaRNN"](SIZE, jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (6, 3, SIZE))
    mask = jnp.array([True, False, True, True, False, True])

    @jax.jit
    def gradient(xs, carry, mask):
        def loss(cell):
            hs, after = rtrl.recur(cell, xs, carry, rule=rule, mask=mask)
            counts = 1 if mask is None else mask[:, None]
            return (hs**2 * counts).sum(), after

        grads, after = jax.grad(loss, has_aux=True)(cell)
        return grads, after

    batched, after = gradient(xs, rtrl.init_carry(cell, rule, 3), None)
    single, afters = jax.vmap(gradient, (1, None, None))(xs, rtrl.init_carry(cell, rule), None)
    for a, b in zip(jax.tree.leaves(batched), jax.tree.leaves(single), strict=True):
        assert np.allclose(a, b.sum(0), rtol=1e-10, atol=1e-10)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(afters), strict=True):
        assert np.allclose(a, b, rtol=1e-10, atol=1e-10)
    if not isinstance(rule, rtrl.TBPTT):  # its window counts them
        start = rtrl.init_carry(cell, rule)
        masked, skipped = gradient(xs[:, 0], start, mask), gradient(xs[mask, 0], start, None)
        for a, b in zip(jax.tree.leaves(masked), jax.tree.leaves(skipped), strict=True):
            assert np.allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rtrl.SnApN(0), "n: expected an integer of at least 1, got 0"),
        (lambda: rtrl.TBPTT(0), "k: expected an integer of at least 1, got 0"),
        (lambda: rtrl.TBPTT(cast(Any, 2.0)), "k: expected an integer"),
        (lambda: rtrl.UORO(seed=-1), "seed: expected an integer of at least 0, got -1"),
        (lambda: rtrl.KFRTRL(seed=cast(Any, 0.5)), "seed: expected an integer"),
        (
            lambda: rtrl.SnAp1(cast(Any, "time")),
            "errors: expected 'chunk' or 'timestep', got 'time'",
        ),
    ],
    ids=lambda v: "",
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class LearnedOutput(rtrl.Cell):
    U: jax.Array
    scale: jax.Array

    def project(self):
        return None

    def recurrent(self):
        return self.U

    def update(self, h, u, v):
        return jnp.tanh(u + v)

    def output(self, h):
        return self.scale * h


def test_what_modules_see_of_each_other_must_depend_on_the_state_alone():
    cell = LearnedOutput(jnp.ones((4, 4)), jnp.ones(4))
    with pytest.raises(ValueError, match=r"LearnedOutput.output\(\): expected what the modules"):
        rtrl.init_carry(cell, rtrl.SnAp1())
