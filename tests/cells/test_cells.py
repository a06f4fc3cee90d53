"""The contract of every cell, the refusals of cells that break it, and a user's own neuron."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import (
    ALL_CELLS,
    CELLS,
    EVERY_CELL,
    MODULES,
    ONLINE_RULES,
    WIDTH,
    combinations,
    data,
    network,
    squared_error,
)
from jaxtyping import Array
from oracles import oracle_gradient, relative_errors

import rtrl


class Leaky(rtrl.Cell):
    """The example of the README: one number per module."""

    weight: Array
    decay: Array

    def project(self):
        return self.weight

    def update(self, h, u):
        a = jax.nn.sigmoid(self.decay)
        return a * h + (1 - a) * jnp.tanh(u)


class Oscillator(rtrl.Cell):
    """Two numbers per module, two projections, a shared row and a shared parameter."""

    weight: Array
    row: Array
    angle: Array
    damping: Array

    def project(self):
        return self.weight, self.row

    def initial(self):
        n = self.angle.shape[0]
        return {"position": jnp.zeros(n), "speed": jnp.full(n, 0.1)}

    def update(self, h, u):
        p, v = h["position"], h["speed"]
        c, s = jnp.cos(self.angle), jnp.sin(self.angle)
        gain = jax.nn.sigmoid(u[1])
        decay = jax.nn.sigmoid(self.damping)
        return {
            "position": decay * (c * p - s * v) + gain * u[0],
            "speed": decay * (s * p + c * v) + jnp.tanh(u[0] * p),
        }

    def output(self, h):
        return h["position"]


@jax.custom_jvp
def spike(v):
    return (v > 0).astype(v.dtype)


@spike.defjvp
def _(primals, tangents):
    (v,), (t,) = primals, tangents
    return spike(v), t / (1 + 10 * jnp.abs(v)) ** 2


class Spiking(rtrl.Cell):
    """A membrane stored before its reset; what others see is its spike. No weight: x drives it."""

    decay: Array
    threshold: Array

    def project(self):
        return None

    def update(self, h, u):
        h = h - self.threshold * spike(h - self.threshold)
        return jax.nn.sigmoid(self.decay) * h + u

    def output(self, h):
        return spike(h - self.threshold)


class DetachedReset(Spiking):
    """Its derivative does not depend on the state, the state itself does."""

    def update(self, h, u):
        spiked = jax.lax.stop_gradient((h > self.threshold).astype(h.dtype))
        return 0.8 * (h - self.threshold * spiked) + u * self.decay


def keys(key, n):
    return jax.random.split(key, n)


OWN = {
    "Leaky": lambda size, key: Leaky(
        jax.random.normal(key, (MODULES, size)), jnp.linspace(-1.0, 2.0, MODULES)
    ),
    "Oscillator": lambda size, key: Oscillator(
        jax.random.normal(key, (MODULES, size)) / 3,
        jax.random.normal(keys(key, 2)[1], (1, size)),
        jnp.linspace(0.1, 2.0, MODULES),
        jnp.array(1.0),
    ),
    "DetachedReset": lambda size, key: DetachedReset(
        jnp.linspace(0.5, 2.0, size), jnp.full(size, 0.5)
    ),
    "Spiking": lambda size, key: Spiking(
        jnp.linspace(0.0, 2.0, size), jnp.full(size, 0.3)
    ),
}  # fmt: skip


@pytest.mark.core
@pytest.mark.parametrize("name", OWN)
def test_a_users_own_neuron_learns_exactly(name, float64):
    """BPTT in the last layer, for one and two numbers per module and for surrogate gradients."""
    model = rtrl.SequenceModel(3, 2, WIDTH, 2, OWN[name], norm="post", key=jax.random.key(0))
    xs, ys, weights, resets = data(20, 2, 0)
    _, exact = oracle_gradient("bptt", model, squared_error, xs, ys, weights, resets)
    for chunk in (1, 7, 20):
        _, grads = rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rtrl.RTRL(), chunk=chunk, weights=weights,
            resets=resets,
        )  # fmt: skip
        part = (lambda g: g) if chunk == 20 else (lambda g: (g.layers[-1], g.decoder))
        assert max(relative_errors(part(grads), part(exact)).values()) < 1e-10


@pytest.mark.parametrize(("cell", "rule", "batch"), list(combinations()))
def test_contract(cell, rule, batch):
    """Shapes and dtypes kept, the same under jit, gradients finite and real, reset to the start."""
    size = 4
    layer = ALL_CELLS[cell](size, jax.random.key(0))
    carry = rtrl.init_carry(layer, rule, batch)
    lead = () if batch is None else (batch,)
    xs = jax.random.normal(jax.random.key(1), (6, *lead, size))

    def run(layer, xs, carry):
        hs, carry = rtrl.recur(layer, xs, carry, rule=rule)
        return jnp.stack([jnp.abs(h).sum() for h in jax.tree.leaves(hs)]).sum(), (hs, carry)

    grads, (hs, after) = jax.jit(jax.grad(run, has_aux=True))(layer, xs, carry)
    # Operation by operation takes ten times as long: one cell for every rule, one rule for others.
    eager = cell in ("LeakyIntegrator", "VanillaRNN") or rule == rtrl.RTRL()
    hs_eager = run(layer, xs, carry)[1][0] if eager else hs
    output = layer.output(layer.initial())
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(
        lambda a: (a.shape, a.dtype), carry
    )
    for h, eager, h0 in zip(*map(jax.tree.leaves, (hs, hs_eager, output)), strict=True):
        assert h.shape == (6, *lead, *h0.shape) and h.dtype == h0.dtype
        assert np.allclose(h, eager, atol=1e-6)
    for g, p in zip(jax.tree.leaves(grads), jax.tree.leaves(layer), strict=True):
        assert g.shape == p.shape and g.dtype == p.dtype and np.isfinite(g).all()


@pytest.mark.parametrize("cell", EVERY_CELL)
def test_vmap_over_samples_is_the_batch_axis(cell):
    layer = ALL_CELLS[cell](4, jax.random.key(0))
    rule = rtrl.RTRL()
    xs = jax.random.normal(jax.random.key(1), (6, 3, 4))

    def loss(layer, xs, carry):
        hs, _ = rtrl.recur(layer, xs, carry, rule=rule)
        return jnp.stack([jnp.abs(h).sum() for h in jax.tree.leaves(hs)]).sum()

    batched = jax.jit(jax.grad(loss))(layer, xs, rtrl.init_carry(layer, rule, 3))
    alone = rtrl.init_carry(layer, rule)
    single = jax.jit(
        jax.grad(lambda layer: jax.vmap(loss, (None, 1, None))(layer, xs, alone).sum())
    )(layer)
    for a, b in zip(jax.tree.leaves(batched), jax.tree.leaves(single), strict=True):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5)


# Cells that are refused -----------------------------------------------------------------------


class Mixing(Leaky):
    def update(self, h, u):
        return 0.5 * h + 0.1 * jnp.roll(h, 1) + u


class MixingParameters(Leaky):
    def update(self, h, u):
        return jax.nn.softmax(self.decay) * h + u


class NotHolomorphic(Leaky):
    def initial(self):
        return jnp.zeros(self.decay.shape, complex)

    def update(self, h, u):
        return jnp.abs(h) * 0.5 * (1 + 0j) + u


class ComplexField(Leaky):
    pass


class WrongState(Leaky):
    def update(self, h, u):
        return jnp.stack([h, u])


class MatrixParameter(Leaky):
    def update(self, h, u):
        return 0.5 * h + u + self.weight.sum(1)


class LearnedStart(Leaky):
    def initial(self):
        return jnp.tanh(self.decay)


REFUSED = {
    Mixing: r"Mixing.update\(\): its modules are not independent: the state h .*module 0 reaches",
    MixingParameters: r"not independent: the parameter decay of one module reaches",
    NotHolomorphic: r"NotHolomorphic.update\(\) is complex but not holomorphic in the state h.*two",
    ComplexField: r"ComplexField.decay: expected a real parameter, got complex64",
    WrongState: r"WrongState.update\(\): expected a new state like initial\(\)",
    MatrixParameter: r"MatrixParameter.weight: expected a module parameter of shape \(5,\)",
    LearnedStart: r"LearnedStart.initial\(\): expected a constant",
}


@pytest.mark.core
@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_a_cell_that_breaks_the_contract_is_refused_by_name(kind):
    decay = jnp.linspace(0.1, 0.9, 5)
    cell = kind(jnp.ones((5, 3)), decay + 0j if kind is ComplexField else decay)
    with pytest.raises(ValueError, match=REFUSED[kind]):
        rtrl.init_carry(cell, rtrl.RTRL())
    with pytest.raises(ValueError, match=REFUSED[kind]):  # also where no value can be looked at
        eqx.filter_jit(rtrl.init_carry)(cell, rtrl.RTRL())


@pytest.mark.core
def test_recur_refuses_what_does_not_fit():
    cell = CELLS["LRU"](4, jax.random.key(0))
    carry = rtrl.init_carry(cell, rtrl.RTRL())
    xs = jnp.ones((6, 4))
    for arguments, options, message in [
        ((cell, xs[:, :3], carry), {}, r"xs: expected \(time, 4\) for this LRU"),
        ((cell, xs[:, None], carry), {}, r"xs: expected \(time, 4\)"),
        ((cell, xs, rtrl.init_carry(cell, rtrl.BPTT())), {}, "carry: .*without a trace"),
        ((cell, xs, (carry,)), {}, "carry: expected a Carry"),
        ((cell, xs, carry), {"resets": jnp.ones(5, bool)}, r"resets: expected \(6,\)"),
        ((cell, xs + 0j, carry), {}, "xs: expected real inputs"),
        ((cell, xs, carry), {"rule": "RTRL"}, "rule: expected a rule"),
    ]:
        with pytest.raises(ValueError, match=message):
            rtrl.recur(*arguments, **{"rule": rtrl.RTRL(), **options})
    with pytest.raises(ValueError, match="tree: expected a cell or a network"):
        rtrl.init_carry(eqx.nn.Linear(2, 2, key=jax.random.key(0)), rtrl.RTRL())
    for options, message in [
        ({"hidden_size": 0}, "hidden_size: expected at least 1, got 0"),
        ({"r_min": 0.9, "r_max": 0.5}, "r_max: expected a modulus between r_min = 0.9 and 1"),
        ({"max_phase": 0.0}, "max_phase: expected a positive angle"),
    ]:
        with pytest.raises(ValueError, match=message):
            rtrl.cells.LRU(**{"in_size": 3, "hidden_size": 4, "key": jax.random.key(0), **options})


# The LRU exactly as published -----------------------------------------------------------------


@pytest.mark.core
def test_lru_initialisation():
    cell = rtrl.cells.LRU(50, 2000, r_min=0.4, r_max=0.9, max_phase=3.0, key=jax.random.key(0))
    modulus = np.exp(-np.exp(cell.nu_log))
    phase = np.exp(cell.theta_log)
    assert 0.4 <= modulus.min() and modulus.max() <= 0.9
    assert abs(np.mean(modulus**2) - (0.16 + 0.81) / 2) < 0.02  # uniform in the squared modulus
    assert 0 < phase.min() and phase.max() <= 3.0 and abs(phase.mean() - 1.5) < 0.1
    assert np.allclose(np.exp(cell.gamma_log), np.sqrt(1 - modulus**2), atol=1e-5)
    assert abs(np.var(cell.B_re) * 100 - 1) < 0.05 and abs(np.var(cell.B_im) * 100 - 1) < 0.05
    edge = rtrl.cells.LRU(2, 5000, key=jax.random.key(1))  # the whole disk: no infinite logs
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(edge))


@pytest.mark.core
def test_traces_follow_the_published_recursion(float64):
    """Equations B.5-B.7, written out."""
    cell = CELLS["LRU"](3, jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (9, 3))
    rule = rtrl.RTRL()
    _, carry = jax.jit(partial(rtrl.recur, rule=rule))(cell, xs, rtrl.init_carry(cell, rule))
    eigenvalue = np.exp(-np.exp(cell.nu_log) + 1j * np.exp(cell.theta_log))
    gamma, B = np.exp(cell.gamma_log), np.asarray(cell.B_re + 1j * cell.B_im)
    h = s_lambda = s_gamma = np.zeros(MODULES, complex)
    s_B = np.zeros((MODULES, 3), complex)
    for x in np.asarray(xs):
        s_lambda = eigenvalue * s_lambda + h
        s_gamma = eigenvalue * s_gamma + B @ x
        s_B = eigenvalue[:, None] * s_B + gamma[:, None] * x
        h = eigenvalue * h + gamma * (B @ x)
    assert np.allclose(carry.state, h, atol=1e-12)
    assert np.allclose(carry.trace.projections[0][0], s_B, atol=1e-12)
    chain = eigenvalue * 1j * np.exp(cell.theta_log)  # dlambda/dtheta_log
    assert np.allclose(carry.trace.modules["theta_log"][0], s_lambda * chain, atol=1e-12)
    assert np.allclose(carry.trace.modules["gamma_log"][0], s_gamma * gamma, atol=1e-12)


# Any network, any loss --------------------------------------------------------------------------


class Policy(eqx.Module):
    """A user's network around our cell: no protocol of ours, no SequenceModel."""

    cell: rtrl.cells.LRU
    head: eqx.nn.Linear

    def __call__(self, xs, carry, rule, **steps):
        hs, carry = rtrl.recur(self.cell, xs, carry, rule=rule, **steps)
        features = jnp.concatenate([hs.real, hs.imag], -1)
        axes = features.ndim - 1
        head = self.head
        for _ in range(axes):
            head = jax.vmap(head)
        return head(features), carry


def policy(seed=0):
    a, b = keys(jax.random.key(seed), 2)
    return Policy(rtrl.cells.LRU(3, 8, key=a), eqx.nn.Linear(16, 2, key=b))


@pytest.mark.core
@pytest.mark.parametrize("rule", ONLINE_RULES.values(), ids=ONLINE_RULES.keys())
def test_plain_jax_gives_the_learners_gradient(rule):
    """scan over timesteps, vmap over nothing, grad of a sum: the same numbers as the learner's."""

    class Protocol(Policy):
        def __call__(self, xs, carry, *, rule, resets, mask, key):
            ys, after = Policy.__call__(self, xs, carry[0], rule, resets=resets, mask=mask)
            return ys, (after,)

    net = policy()
    xs = jax.random.normal(jax.random.key(1), (10, 3))
    ys = jax.random.normal(jax.random.key(2), (10, 2))

    def total(net):
        def body(carry, xy):
            prediction, carry = net(xy[0][None], carry, rule)
            return carry, squared_error(prediction[0], xy[1])

        return jax.lax.scan(body, rtrl.init_carry(net.cell, rule), (xs, ys))[1].sum()

    grads = jax.jit(jax.grad(total))(net)
    learner = rtrl.OnlineLearner(
        squared_error, optax.sgd(1.0), rule=rule, update_every=10, donate=False
    )
    model = Protocol(net.cell, net.head)
    state, _ = learner.scan(learner.init(model), xs, ys)
    for g, a, b in zip(*map(jax.tree.leaves, (grads, model, state.model)), strict=True):
        assert np.allclose(g, a - b, rtol=1e-3, atol=1e-4)


def test_reinforce_learns_to_remember_a_cue():
    """A cue at the first timestep, a reward for the action at the last: forward only."""
    length, envs, updates = 8, 64, 150

    def episode_gradient(net, rule, key):
        cue_key, act_key = jax.random.split(key)
        cue = jax.random.bernoulli(cue_key, shape=(envs,)).astype(int)

        def step(carry, data):
            carry, grads = carry
            t, key = data
            x = jnp.zeros((envs, 3)).at[:, 2].set(t == length - 1)
            x = jnp.where((t == 0), x.at[jnp.arange(envs), cue].set(1.0), x)

            def loss(net):
                logits, after = net(x[None], carry, rule)
                action = jax.random.categorical(key, logits[0])
                reward = (action == cue) * 2.0 - 1.0
                log_p = jax.nn.log_softmax(logits[0])[jnp.arange(envs), action]
                acts = t == length - 1
                return -(acts * reward * log_p).mean(), (after, (reward > 0).mean())

            g, (carry, success) = jax.grad(loss, has_aux=True)(net)
            return (carry, jax.tree.map(jnp.add, grads, g)), success

        init = (rtrl.init_carry(net.cell, rule, envs), jax.tree.map(jnp.zeros_like, net))
        times = (jnp.arange(length), jax.random.split(act_key, length))
        (_, grads), success = jax.lax.scan(step, init, times)
        return grads, success[-1]

    def train(rule):
        optimizer = optax.adam(1e-2)
        net = eqx.tree_at(lambda n: n.cell.nu_log, policy(1), jnp.linspace(-0.5, 1.0, 8))

        @jax.jit
        def run(net, opt):
            def update(state, key):
                net, opt = state
                grads, success = episode_gradient(net, rule, key)
                updates, opt = optimizer.update(grads, opt)
                return (optax.apply_updates(net, updates), opt), success

            return jax.lax.scan(update, (net, opt), keys(jax.random.key(3), updates))[1]

        return float(run(net, optimizer.init(net))[-20:].mean())

    assert train(rtrl.RTRL()) > 0.95
    assert train(rtrl.Spatial()) < 0.8  # the credit for remembering goes through the trace


class InHalves(Policy):
    """Runs its cell twice per call, so its trace can't wait for the backward pass."""

    def __call__(self, xs, carry, *, rule, resets, mask, key):
        assert resets is None and mask is None
        half = xs.shape[0] // 2
        first, between = Policy.__call__(self, xs[:half], carry[0], rule)
        second, after = Policy.__call__(self, xs[half:], between, rule)
        return jnp.concatenate([first, second]), (after,)


class OnceInHalves(InHalves):
    recurs_once = True


def test_a_model_may_run_a_cell_more_than_once_per_call(float64):
    net = policy()
    xs, ys = jax.random.normal(jax.random.key(1), (12, 3)), jnp.ones((12, 2))

    def gradient(kind, rule, chunk):
        model = kind(net.cell, net.head)
        return rtrl.sequence_gradient(model, squared_error, xs, ys, rule=rule, chunk=chunk)[1]

    exact = gradient(InHalves, rtrl.BPTT(), 12)
    for chunk in (2, 4, 12):  # one layer: RTRL is exact in chunks of any size
        got = gradient(InHalves, rtrl.RTRL(), chunk)
        assert max(relative_errors(got, exact).values()) < 1e-10
    with pytest.raises(ValueError, match=r"recurs_once .*LRU \(cell\) run once .*got 2 runs of it"):
        gradient(OnceInHalves, rtrl.RTRL(), 4)


def test_masked_timesteps_did_not_happen(float64):
    cell = CELLS["LRU"](4, jax.random.key(0))
    xs = jax.random.normal(jax.random.key(1), (7, 4))
    mask = jnp.array([True, False, True, True, False, False, True])
    for rule in ONLINE_RULES.values():
        carry = rtrl.init_carry(cell, rule)
        recur = jax.jit(partial(rtrl.recur, rule=rule))
        hs, masked = recur(cell, xs, carry, mask=mask)
        expected, after = recur(cell, xs[mask], carry)
        assert np.allclose(hs[mask], expected)
        for a, b in zip(jax.tree.leaves(masked), jax.tree.leaves(after), strict=True):
            assert np.allclose(a, b)


def test_network_parts_can_be_replaced():
    model = network("LRU")
    swapped = eqx.tree_at(
        lambda m: m.layers[0].mixer, model, lambda y, g: 2 * g, is_leaf=lambda n: n is None
    )
    xs, ys, _, _ = data(4, None, 0)
    value, grads = rtrl.sequence_gradient(swapped, squared_error, xs, ys, rule=rtrl.RTRL())
    assert np.isfinite(value) and grads.layers[0].mixer is None
    tokens = rtrl.SequenceModel(
        None, 2, WIDTH, 1, CELLS["LRU"],
        encoder=eqx.nn.Embedding(11, WIDTH, key=jax.random.key(0)), key=jax.random.key(1),
    )  # fmt: skip
    value, _ = rtrl.sequence_gradient(
        tokens, squared_error, jnp.array([1, 5, 10, 0]), ys, rule=rtrl.RTRL()
    )
    assert np.isfinite(value)
    for options, message in [
        ({"glu": "third"}, "glu: expected 'full', 'half1' or 'half2'"),
        ({"norm": "batch"}, "norm: expected 'pre', 'post' or None"),
        ({"dropout": 1.0}, r"dropout: expected a probability in \[0, 1\)"),
        ({"depth": 0}, "depth: expected at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            network("LRU", **options)


def test_paper_network_has_268430_parameters():
    model = rtrl.SequenceModel(
        8, 14, 128, 4, lambda size, key: rtrl.cells.LRU(size, 64, key=key), key=jax.random.key(0)
    )
    assert sum(a.size for a in jax.tree.leaves(model)) == 268_430


def test_paper_optimizer_slows_the_modules():
    model = network("LRU")
    ones = jax.tree.map(jnp.ones_like, model)

    def moves(**options):
        optimizer = rtrl.paper_optimizer(model, 1e-2, module_factor=0.5, **options)
        params: Any = model
        updates: Any = optimizer.update(ones, optimizer.init(params), params)[0]
        cell = updates.layers[0].cell
        return [float(a.ravel()[0]) for a in (cell.nu_log, cell.B_re, updates.decoder.weight)]

    assert np.allclose(moves(), [-5e-3, -1e-2, -1e-2])
    assert np.allclose(moves(slow_projections=True), [-5e-3, -5e-3, -1e-2])
    decayed = moves(weight_decay=0.1)
    assert np.isclose(decayed[0], -5e-3) and not np.isclose(decayed[2], -1e-2)
    assert np.allclose(moves(warmup=10), 0)
