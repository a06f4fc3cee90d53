"""The engine with the fused kernel, interpreted: the same gradients, traces and learning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import data, network, squared_error
from oracles import relative_errors

import rtrl

# One complex number per module, two projections, two numbers per module, a recurrent projection.
CASES = [
    ("LRU", rtrl.RTRL, 1, 2),
    ("LRU", rtrl.RTRL, 3, None),
    ("MinGRU", rtrl.RTRL, 1, None),
    ("RTU", rtrl.RTRL, 3, 2),
    ("VanillaRNN", rtrl.SnAp1, 1, 2),
]


@pytest.fixture
def launches(monkeypatch):
    """Counts how often the kernel is called, to be sure that it was."""
    from rtrl.kernels import _api

    counted = []

    def launch(*arguments, interpret, **options):
        counted.append(interpret)
        return run(*arguments, interpret=interpret, **options)

    run = _api.launch
    monkeypatch.setattr(_api, "launch", launch)
    return counted


@pytest.mark.parametrize(("cell", "kind", "chunk", "batch"), CASES)
def test_gradients_with_the_kernel_are_those_of_xla(cell, kind, chunk, batch, launches):
    model = network(cell)
    xs, ys, weights, resets = data(7, batch, 0)

    def gradient(implementation):
        rule = kind(implementation=implementation)
        return rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rule, chunk=chunk, weights=weights, resets=resets
        )[1]

    expected = gradient("xla")
    assert not launches
    got = gradient("pallas_interpret")
    assert launches and all(launches)
    # Rounding of float32 sums in another order, over 7 timesteps and two layers.
    assert max(relative_errors(got, expected).values()) < 1e-4


def test_a_learner_with_the_kernel_learns_the_same(launches):
    xs, ys, _, resets = data(6, 2, 0)
    states = []
    for implementation in ("xla", "pallas_interpret"):
        rule = rtrl.RTRL(implementation=implementation)
        learner = rtrl.OnlineLearner(squared_error, optax.sgd(1e-3), rule=rule)
        state = learner.init(network("LRU"), 2)
        state, _ = learner.scan(state, xs, ys, resets=resets, chunk=2)
        states.append(jax.tree.leaves((state.model, state.carry)))
    assert launches
    for a, b in zip(*states, strict=True):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_vmap_over_samples_with_the_kernel(launches):
    cell = rtrl.cells.LRU(3, 4, key=jax.random.key(0))
    rule = rtrl.RTRL(implementation="pallas_interpret")
    xs = jax.random.normal(jax.random.key(1), (2, 5, 3))
    carry = rtrl.init_carry(cell, rule)

    def loss(cell, xs, rule):
        hs, _ = rtrl.recur(cell, xs, carry, rule=rule)
        return jnp.abs(hs).sum()

    got, expected = (
        jax.vmap(jax.grad(loss), (None, 0, None))(cell, xs, r) for r in (rule, rtrl.RTRL())
    )
    assert launches
    assert max(relative_errors(got, expected).values()) < 1e-4


def test_an_unknown_implementation_is_refused():
    with pytest.raises(ValueError, match="implementation: expected None, 'xla'.*got 'cuda'"):
        rtrl.RTRL(implementation="cuda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="D: expected one or two numbers per module"):
        model = network("BlockDiagonal-3")
        xs, ys, _, _ = data(2, None, 0)
        rule = rtrl.RTRL(implementation="pallas_interpret")
        rtrl.sequence_gradient(model, squared_error, xs, ys, rule=rule)
