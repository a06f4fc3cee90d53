"""A reset begins anew also where what came before has overflowed: zero times NaN is NaN."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import DENSE_RULES, IN, OUT, data, network, squared_error

import rtrl
from rtrl import cells
from rtrl.engine import Carry, Chunk, Partials, Trace, _matrices, _trace, chunk_gradient, with_trace
from rtrl.rules import _stepwise

RULES = {
    "RTRL": rtrl.RTRL(),
    "RTRL-kernel": rtrl.RTRL(implementation="pallas_interpret"),
    **DENSE_RULES,
    "ExactRTRL": rtrl.ExactRTRL(),
}
FAST = [("RTRL", 1), ("RTRL", 4), ("RTRL-kernel", 4), ("SnApN", 4), ("UORO", 1), ("ExactRTRL", 1)]
CASES = [
    pytest.param(rule, chunk, marks=() if (rule, chunk) in FAST else pytest.mark.slow)
    for rule in RULES
    for chunk in (1, 4)
]
BATCH = 2


def leaves(tree):
    return [np.asarray(a) for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]


def identical(a, b):
    return all(map(np.array_equal, leaves(a), leaves(b)))


def finite(tree):
    return all(np.isfinite(a).all() for a in leaves(tree))


class Poisoned:
    """A network whose first sample has a trace that is not finite, and one where it is zero."""

    def __init__(self, rule, chunk, cell="RTU"):
        model = network(cell, depth=1)
        self.xs, self.ys, _, _ = data(chunk, BATCH, 0)
        carry = rtrl.init_carry(model, rule, BATCH)

        def learn(carry, weights, resets):
            chunk = Chunk(self.xs, self.ys, weights, resets)
            result = chunk_gradient(
                model, squared_error, carry, chunk, rule=rule, key=None, forgive=True
            )
            return result.grads, result.carry

        self.learn, self.ones = jax.jit(learn), jnp.ones((chunk, BATCH))
        self.never = jnp.zeros((chunk, BATCH), bool)
        _, carry = self.learn(carry, self.ones, self.never)
        self.clean, self.poisoned = self.first_trace(carry, 0), self.first_trace(carry, jnp.nan)

    @staticmethod
    def first_trace(carry, value):
        def put(a):
            return a.at[0].set(value) if jnp.issubdtype(a.dtype, jnp.inexact) else a

        return tuple(Carry(c.state, jax.tree.map(put, c.trace)) for c in carry)


@pytest.mark.parametrize(("name", "chunk"), CASES)
def test_a_reset_forgets_a_trace_that_is_not_finite(name, chunk):
    """Bit for bit as if it had been zero; and of the other sample as if nothing had been reset."""
    p = Poisoned(RULES[name], chunk)
    resets = p.never.at[0, 0].set(True)
    grads, carry = p.learn(p.poisoned, p.ones, resets)
    assert finite((grads, carry))
    assert identical((grads, carry), p.learn(p.clean, p.ones, resets))
    _, without = p.learn(p.poisoned, p.ones, p.never)
    assert not finite(without)
    for a, b in zip(leaves(carry), leaves(without), strict=True):
        assert np.array_equal(a[1], b[1])


@pytest.mark.parametrize("name", [n for n, chunk in FAST if chunk == 4])
def test_a_reset_inside_a_chunk_forgets_it_too(name):
    p = Poisoned(RULES[name], 4)
    resets = p.never.at[2, 0].set(True)
    _, carry = p.learn(p.poisoned, p.ones, resets)
    assert finite(carry) and identical(carry, p.learn(p.clean, p.ones, resets)[1])
    if name.startswith("RTRL"):  # an error before the reset meets the trace: no such gradient
        assert not finite(p.learn(p.poisoned, p.ones, resets)[0].layers[0].cell)
        late = p.ones.at[:2, 0].set(0)
        grads, _ = p.learn(p.poisoned, late, resets)
        assert finite(grads) and identical(grads, p.learn(p.clean, late, resets)[0])


@pytest.mark.parametrize(("name", "chunk"), [("RTRL", 1), ("RTRL", 4), ("SnApN", 4)])
def test_multiplying_by_zero_would_not_do(name, chunk, monkeypatch):
    def multiply(where, value):
        if where is None:
            return value
        return value * ~jnp.expand_dims(where, range(where.ndim, value.ndim))

    for module in (_matrices, _trace, _stepwise):
        monkeypatch.setattr(module, "choose_zero", multiply)
    p = Poisoned(RULES[name], chunk)
    assert not finite(p.learn(p.poisoned, p.ones, p.never.at[0, 0].set(True)))


def test_what_overflows_inside_a_chunk_before_its_reset_is_forgotten():
    """Trace, decays and drives of before; the chunk is that of what follows the reset."""
    K, N, H = 5, 3, 2
    rng = np.random.default_rng(0)
    resets = jnp.zeros((K, 1), bool).at[2].set(True)
    J, E = (jnp.asarray(rng.standard_normal((K, 1, 1, N)), jnp.float32) for _ in range(2))
    D = jnp.asarray(rng.standard_normal((K, 1, 1, 1, N)), jnp.float32)
    xs = jnp.asarray(rng.standard_normal((K, 1, H)), jnp.float32)
    deltas = jnp.ones((K, 1, 1, N)).at[:2].set(0)
    trace = Trace((jnp.ones((1, 1, N, H)),), {"E": jnp.ones((1, 1, N))})

    def chunk(trace, D, J, E, xs, resets, deltas):
        if resets is not None:
            D = jnp.where(resets[..., None, None, None], 0, D)
        return with_trace(trace, Partials(D, (J,), {"E": E}, (xs,), (), None, resets), deltas)

    expected = chunk(trace, D, J, E, xs, resets, deltas)
    zeros = jax.tree.map(jnp.zeros_like, trace)
    alone = chunk(zeros, D[2:], J[2:], E[2:], xs[2:], None, deltas[2:])
    for a, b in zip(leaves(expected[:2]), leaves(alone[:2]), strict=True):
        assert np.allclose(a, b, rtol=1e-6, atol=1e-6)  # the same sums, in another order
    inf = jnp.inf
    for change in (
        {"D": D.at[:2].set(inf)},
        {"J": J.at[0].set(inf), "E": E.at[1].set(jnp.nan)},
        {"xs": xs.at[1].set(inf)},
        {"trace": jax.tree.map(lambda a: a * inf, trace)},
    ):
        given = {"trace": trace, "D": D, "J": J, "E": E, "xs": xs, "resets": resets}
        _, after, _ = chunk(**{**given, **change}, deltas=deltas)
        assert identical(after, expected[1])


def test_a_learner_goes_on_after_a_reset_where_nothing_was_finite():
    """|lambda| = 1.2 without a target until state and trace have overflowed, then a sequence."""

    def layer(size, key):
        cell = cells.ComplexDiagonal(size, 5, r_min=1.0, r_max=1.0, key=key)
        parts = [jnp.asarray(1.2 * a) for a in (cell.lambda_re, cell.lambda_im)]
        object.__setattr__(cell, "lambda_re", parts[0])
        object.__setattr__(cell, "lambda_im", parts[1])
        return cell

    model = rtrl.SequenceModel(IN, OUT, 4, 1, layer, key=jax.random.key(0))
    learner = rtrl.OnlineLearner(squared_error, optax.sgd(1e-4), donate=False)
    start = learner.init(model)
    xs, ys, _, _ = data(640, None, 0)
    _, out = learner.scan(start, xs, chunk=16)
    assert out.restarted.any(), "it does overflow"
    lost = eqx.tree_at(
        lambda s: s.carry, start, jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), start.carry)
    )
    anew, first = learner.reset(lost), jnp.arange(8) == 0
    for state, resets in ((lost, first), (anew, first), (anew, jnp.zeros(8, bool))):
        after, out = learner.scan(state, xs[:8], ys[:8], chunk=4, resets=resets)
        assert not out.skipped.any() and finite(after)
        again, _ = learner.scan(start, xs[:8], ys[:8], chunk=4, resets=resets)
        assert identical(after.model, again.model) and identical(after.carry, again.carry)
    after, out = learner.step(lost, xs[0], ys[0], reset=True)
    assert not out.skipped and finite(after)
    assert identical(after.carry, learner.step(anew, xs[0], ys[0], reset=True)[0].carry)


@pytest.mark.parametrize("implementation", ["xla", "pallas_interpret"])
@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 6])
def test_a_sequence_that_begins_with_a_timestep_that_did_not_happen(implementation, chunk):
    """It begins all the same: as if it had begun with the next one, and that one were missing."""
    rule = rtrl.RTRL(implementation=implementation)
    learner = rtrl.OnlineLearner(
        squared_error, optax.sgd(1.0), rule=rule, update_every=100, donate=False
    )
    start = learner.init(network("LRU", depth=1))
    xs, ys, _, _ = data(6, None, 0)
    at = np.arange(6)

    def learn(xs, ys, resets):
        state, _ = learner.scan(start, xs, ys, chunk=chunk, resets=resets)
        assert state.window is not None
        return leaves((state.window.grads, state.carry))

    removed = learn(xs.at[3].set(jnp.nan), ys, at == 3)
    xs, ys, at = (np.delete(a, 3, axis=0) for a in (xs, ys, at))
    absent, never = learn(xs, ys, at == 4), learn(xs, ys, at < 0)
    # Another order of sums, in float32.
    assert all(
        np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(removed, absent, strict=True)
    )
    assert not all(np.allclose(a, b, rtol=1e-2) for a, b in zip(removed, never, strict=True))
