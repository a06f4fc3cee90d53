"""Graphs of NIR: against a simulation of their differential equations, there and back."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import nir
import numpy as np
import optax
import pytest

import rtrl
from rtrl import cells
from rtrl.device import from_nir, to_nir

KEY, DT, T = jax.random.key(0), 1e-3, 40
XS = np.random.default_rng(0).standard_normal((T, 3)) * 3
SPIKING: dict[str, Any] = {"tau_min": 2.0, "tau_max": 20.0, "threshold": 0.1}


def simulated(graph, xs, substeps=400):
    """A chain, by Euler's method in many steps inside every timestep.

    A synapse is first brought to the end of the timestep, then the membrane: `CubaLIF`.
    """
    nodes = [n for n in graph.nodes.values() if type(n).__name__ not in ("Input", "Output")]
    state = [np.zeros((2, np.size(getattr(n, "v_leak", 0)))) for n in nodes]
    outputs = []
    for x in xs:
        for node, at in zip(nodes, state, strict=True):
            kind, step = type(node).__name__, DT / substeps
            if kind in ("Linear", "Affine"):
                x = node.weight @ x + getattr(node, "bias", 0)
                continue
            current, tau = x, getattr(node, "tau", np.inf)
            if kind == "CubaLIF":
                for _ in range(substeps):
                    at[1] += step / node.tau_syn * (node.w_in * x - at[1])
                current, tau = at[1], node.tau_mem
            for _ in range(substeps):
                at[0] += step / tau * (node.v_leak - at[0] + node.r * current)
            x = at[0].copy()
            if kind != "LI":
                x = (at[0] > node.v_threshold).astype(float)
                at[0] = np.where(x > 0, node.v_reset, at[0])
        outputs.append(x)
    return np.stack(outputs)


def run(network, xs):
    carry = rtrl.init_carry(network, rtrl.Spatial())
    call = jax.jit(lambda n, xs, c: n(xs, c, rule=rtrl.Spatial(), resets=None, mask=None, key=None))
    return np.asarray(call(network, jnp.asarray(xs), carry)[0])


def stack():
    keys = jax.random.split(KEY, 4)
    return rtrl.Sequential(3, [
        cells.LIF(3, 8, reset="zero", **SPIKING, key=keys[0]),
        eqx.nn.Linear(8, 5, use_bias=False, key=keys[1]),
        cells.CubaLIF(5, 6, **SPIKING, key=keys[2]),
        cells.LeakyIntegrator(6, 4, tau_min=2.0, tau_max=20.0, key=keys[3]),
        eqx.nn.Linear(4, 2, key=KEY),
    ])  # fmt: skip


def test_a_network_as_a_graph_does_what_it_did(float64):
    network = stack()
    graph = to_nir(network, DT)
    expected = run(network, XS)
    hidden = run(rtrl.Sequential(3, network.layers[:3]), XS)
    assert 0.05 < hidden.mean() < 0.95  # neurons do spike
    np.testing.assert_allclose(simulated(graph, XS), expected, atol=0.01)  # of Euler's steps
    wrong = eqx.tree_at(lambda n: n.layers[3].tau_log, network, network.layers[3].tau_log + 1)
    assert np.abs(simulated(to_nir(wrong, DT), XS) - expected).max() > 0.05


def test_a_graph_comes_back_from_a_file_as_it_was(tmp_path, float64):
    network = stack()
    nir.write(tmp_path / "network.nir", to_nir(network, DT))
    back = from_nir(nir.read(tmp_path / "network.nir"), DT)
    assert back.in_size == 3
    # A linear layer before a neuron has become part of it.
    assert [type(layer).__name__ for layer in back.layers] == [
        "LIF", "Linear", "CubaLIF", "LeakyIntegrator", "Linear"
    ]  # fmt: skip
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(network), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    twice = from_nir(to_nir(back, 2.0), 2.0)  # seconds of a timestep are a unit, no more
    np.testing.assert_allclose(run(twice, XS), run(network, XS), rtol=1e-10)


def test_what_other_tools_write_is_understood(float64):
    """Leaks, resistances, weights of a synapse, thresholds of every neuron's own."""
    rng = np.random.default_rng(1)

    def positive(n):
        return rng.uniform(0.5, 2.0, n)

    tau = rng.uniform(2e-3, 2e-2, (5, 6))
    graph = nir.NIRGraph.from_list(
        nir.Affine(rng.standard_normal((6, 3)), rng.standard_normal(6)),
        nir.LIF(tau=tau[0], r=3 * positive(6), v_leak=0.1 * positive(6),
                v_threshold=0.3 * positive(6)),
        nir.CubaLIF(tau_syn=tau[1], tau_mem=tau[2], r=5 * positive(6), v_leak=np.zeros(6),
                    v_threshold=0.3 * positive(6), w_in=positive(6)),
        nir.Linear(rng.standard_normal((6, 6))),
        nir.LI(tau=tau[3], r=positive(6), v_leak=positive(6)),
    )  # fmt: skip
    network = from_nir(graph, DT)
    np.testing.assert_allclose(run(network, XS), simulated(graph, XS), atol=0.02)
    spikes = run(rtrl.Sequential(3, network.layers[:2]), XS)
    assert 0.05 < spikes.mean() < 0.95


def test_a_network_from_a_graph_learns(float64):
    network = from_nir(to_nir(stack(), DT), DT)
    learner = rtrl.OnlineLearner(lambda p, y: ((p - y) ** 2).sum(), optax.adam(1e-2), donate=False)
    ys = np.full((T, 2), 0.5)
    state, first = learner.scan(learner.init(network), XS, ys)
    for _ in range(10):
        state, last = learner.scan(state, XS, ys)
    assert last.loss.mean() < 0.9 * first.loss.mean()
    batched = learner.init(network, 2)
    _, out = learner.scan(batched, np.stack([XS, XS], 1), np.stack([ys, ys], 1))
    np.testing.assert_allclose(out.loss, first.loss)


def test_gradients_of_a_sequential_are_exact_in_its_last_cell(float64):
    network, ys = stack(), XS[:, :2]

    def gradient(rule, chunk):
        loss = lambda p, y: ((p - y) ** 2).sum()  # noqa: E731
        grads = rtrl.sequence_gradient(network, loss, XS, ys, rule=rule, chunk=chunk)[1]
        return jax.tree.leaves(grads.layers[3:])

    for a, b in zip(gradient(rtrl.RTRL(), 8), gradient(rtrl.BPTT(), T), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def chain(*nodes):
    return nir.NIRGraph.from_list(*nodes)


ONE = np.ones(1)
LEAKY: dict[str, Any] = {"tau": ONE, "r": ONE, "v_leak": ONE}
LOOP = nir.NIRGraph(
    {
        "input": nir.Input({"input": np.array([1])}),
        "a": nir.LI(**LEAKY),
        "b": nir.Linear(np.ones((1, 1))),
        "output": nir.Output({"output": np.array([1])}),
    },
    [("input", "a"), ("a", "output"), ("a", "b"), ("b", "a")],
)
REFUSED = [
    (lambda: to_nir(cells.LRU(3, 4, key=KEY)), r"layers\[0\]: expected LIF, .*got 'LRU'"),
    (lambda: to_nir(cells.LIF(3, 4, key=KEY)), r"layers\[0\].reset: expected 'zero'"),
    (lambda: to_nir(cells.LIF(3, 4, reset="zero", dense=True, key=KEY)), r"layers\[0\].U: exp"),
    (lambda: to_nir(eqx.nn.Linear(2, 2, key=KEY)), "network: expected a cell or"),
    (lambda: to_nir(cells.LeakyIntegrator(3, 4, key=KEY), 0.0), "dt: expected seconds"),
    (lambda: from_nir(stack()), "graph: expected an nir.NIRGraph, got 'Sequential'"),
    (lambda: from_nir(LOOP), "graph: expected a chain of nodes"),
    (lambda: from_nir(chain(nir.Linear(np.ones((1, 1))))), "graph: expected one with a neuron"),
    (lambda: from_nir(chain(nir.IF(r=ONE, v_threshold=ONE))), "nodes.+: expected Line.* got 'IF'"),
    (lambda: from_nir(chain(nir.LIF(**LEAKY, v_threshold=ONE, v_reset=-ONE))), "v_reset: expected"),
    (lambda: from_nir(chain(nir.LIF(**LEAKY, v_threshold=-ONE))), "v_threshold: expected positive"),
    (lambda: from_nir(chain(nir.CubaLIF(tau_syn=ONE, tau_mem=ONE, r=ONE, v_leak=ONE,
                                        v_threshold=ONE))), "v_leak: expected zero"),
    (lambda: rtrl.Sequential(3, [eqx.nn.Linear(3, 3, key=KEY)]), "layers: expected at least one"),
    (lambda: rtrl.Sequential(0, [cells.LIF(3, 4, key=KEY)]), "in_size: expected at least 1"),
    (lambda: rtrl.Sequential(3, [cells.LIF(3, 4, key=KEY), 3]), "layers: expected cells and"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"), REFUSED, ids=lambda v: v if isinstance(v, str) else ""
)
def test_what_can_not_be_said_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
