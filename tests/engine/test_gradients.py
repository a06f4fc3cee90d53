"""Every gradient against an oracle that knows nothing of traces, with controls that must fail."""

import itertools

import jax
import jax.numpy as jnp
import pytest
from cases import EVERY_CELL, ONLINE_RULES, data, network, squared_error
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import oracle_gradient, relative_errors

import rtrl
from rtrl.engine import Modules, structure

T = 20  # 7 and 16 leave a ragged tail
# Rounding of sums over T timesteps and a few layers; the bars of the project.
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=5, deadline=None)


def from_last_recurrence(grads, norm="pre"):
    """What an online rule must get right: the last cell and all above it."""
    block = grads.layers[-1]
    above = (block.cell, block.readout, block.mixer, grads.decoder)
    return (*above, block.norm) if norm == "post" else above


def compare(a, b):
    return max(relative_errors(a, b).values())


# Every chunk size; batch and none take turns, single precision half as often; `slow`: the product.
CHUNKS = [(1, None), (2, 3), (7, None), (16, 3), (T, None), (1, 3)]
ALWAYS = [("float64", *case) for case in CHUNKS]
ALWAYS += [("float32", 1, None), ("float32", 7, 3), ("float32", T, None)]
PRODUCT = itertools.product(TOLERANCE, (1, 2, 7, 16, T), (None, 3))
ALL_CHUNKS = ALWAYS + [
    pytest.param(*case, marks=pytest.mark.slow) for case in PRODUCT if case not in ALWAYS
]


@pytest.mark.core
@pytest.mark.parametrize(("dtype", "chunk", "batch"), ALL_CHUNKS, indirect=["dtype"])
@pytest.mark.parametrize("cell", EVERY_CELL)
def test_rtrl_is_bptt_from_the_last_recurrence_upward(cell, chunk, batch, dtype):
    @few
    @given(seeds)
    def check(seed):
        model = network(cell, norm="post")
        xs, ys, weights, resets = data(T, batch, seed)
        loss, exact = oracle_gradient("bptt", model, squared_error, xs, ys, weights, resets)
        # Weights of both signs cancel in the loss: its rounding is that of the sum of sizes.
        size, _ = oracle_gradient("bptt", model, squared_error, xs, ys, abs(weights), resets)
        for errors in ("chunk", "timestep") if chunk in (1, T) else ("chunk",):
            value, grads = rtrl.sequence_gradient(
                model, squared_error, xs, ys, rule=rtrl.RTRL(errors), chunk=chunk,
                weights=weights, resets=resets,
            )  # fmt: skip
            assert abs(value - loss) <= TOLERANCE[dtype] * size
            last = from_last_recurrence(grads, "post"), from_last_recurrence(exact, "post")
            assert compare(*last) <= TOLERANCE[dtype]
            if chunk == T and errors == "chunk":  # then every parameter of every layer
                assert compare(grads, exact) <= TOLERANCE[dtype]

    check()


@pytest.mark.parametrize("cell", EVERY_CELL)
@pytest.mark.parametrize("chunk", [7, T])
def test_one_sequence_without_resets_is_bptt_too(cell, chunk, float64):
    """Where the decay is that of every timestep, one value stands for all of them."""
    model = network(cell, norm="post")
    xs, ys, weights, resets = data(T, 3, 4)
    never = jnp.zeros_like(resets)
    _, exact = oracle_gradient("bptt", model, squared_error, xs, ys, weights, never)
    _, grads = rtrl.sequence_gradient(
        model, squared_error, xs, ys, rule=rtrl.RTRL(), chunk=chunk, weights=weights
    )
    part = (lambda g: g) if chunk == T else lambda g: from_last_recurrence(g, "post")
    assert compare(part(grads), part(exact)) <= TOLERANCE["float64"]


@pytest.mark.core
@pytest.mark.parametrize("cell", EVERY_CELL)
@pytest.mark.parametrize("chunk", [1, 7])
def test_lower_layers_are_approximate_before_the_chunk_is_the_sequence(cell, chunk, float64):
    """The negative control of the test above: it could see a gradient that is wrong there.

    At a fixed draw: resets and zero weights may leave nothing to approximate.
    """
    model = network(cell, norm="post")
    xs, ys, weights, resets = data(T, 3, 0)
    _, exact = oracle_gradient("bptt", model, squared_error, xs, ys, weights, resets)
    _, grads = rtrl.sequence_gradient(
        model, squared_error, xs, ys, rule=rtrl.RTRL(), chunk=chunk, weights=weights, resets=resets
    )
    assert compare(grads.layers[0], exact.layers[0]) > 1e-3


@pytest.mark.core
@pytest.mark.parametrize("cell", EVERY_CELL)
@pytest.mark.parametrize("rule", [rtrl.Truncated(), rtrl.Spatial()], ids=["truncated", "spatial"])
def test_rules_without_a_trace_fail_the_comparison(cell, rule, float64):
    model = network(cell)
    xs, ys, weights, resets = data(T, 3, 0)
    _, exact = oracle_gradient("bptt", model, squared_error, xs, ys, weights, resets)
    _, grads = rtrl.sequence_gradient(
        model, squared_error, xs, ys, rule=rule, weights=weights, resets=resets
    )
    assert compare(grads.layers[-1].cell, exact.layers[-1].cell) > 1e-2
    assert compare(grads.decoder, exact.decoder) <= TOLERANCE["float64"]


@pytest.mark.parametrize(
    ("rule", "kind"),
    [(rtrl.RTRL("timestep"), "rtrl"), (rtrl.Truncated(), "truncated"), (rtrl.Spatial(), "spatial")],
    ids=["rtrl", "truncated", "spatial"],
)
@pytest.mark.parametrize("cell", EVERY_CELL)
@pytest.mark.parametrize("norm", ["pre", pytest.param("post", marks=pytest.mark.slow)])
def test_online_rules_equal_their_surrogate_in_every_layer(cell, rule, kind, norm, float64):
    @few
    @given(seeds)
    def check(seed):
        model = network(cell, depth=3, norm=norm)
        xs, ys, weights, resets = data(T, 3, seed)
        # The spatial rule is the truncated one where D depends on the state.
        linear = structure(Modules(model.layers[0].cell)).affine
        same = "truncated" if kind == "spatial" and not linear else kind
        _, expected = oracle_gradient(same, model, squared_error, xs, ys, weights, resets)
        _, grads = rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rule, chunk=3, weights=weights, resets=resets
        )
        assert compare(grads, expected) <= TOLERANCE["float64"]

    check()


@pytest.mark.parametrize("rule", ONLINE_RULES.values(), ids=ONLINE_RULES.keys())
@pytest.mark.parametrize("cell", EVERY_CELL)
def test_chunks_equal_single_steps(cell, rule, float64):
    """With errors of the same timestep in every layer; with chunk errors in the last."""
    model = network(cell)
    xs, ys, weights, resets = data(T, 3, 1)

    def gradient(chunk):
        _, grads = rtrl.sequence_gradient(
            model, squared_error, xs, ys, rule=rule, chunk=chunk, weights=weights, resets=resets
        )
        return from_last_recurrence(grads) if rule == rtrl.RTRL("chunk") else grads

    single = gradient(1)
    for chunk in (7, T):
        assert compare(gradient(chunk), single) <= TOLERANCE["float64"]


@pytest.mark.core
@pytest.mark.parametrize("cell", EVERY_CELL)
@pytest.mark.parametrize(("depth", "chunk", "batch"), [(1, 1, None), (3, 1, 3), (3, 7, None)])
def test_exact_rtrl_is_bptt_at_any_depth(cell, depth, chunk, batch, float64):
    model = network(cell, depth=depth)
    xs, ys, weights, resets = data(12, batch, 2)
    loss, exact = oracle_gradient("bptt", model, squared_error, xs, ys, weights, resets)
    value, grads = rtrl.sequence_gradient(
        model, squared_error, xs, ys, rule=rtrl.ExactRTRL(), chunk=chunk, weights=weights,
        resets=resets,
    )  # fmt: skip
    assert abs(value - loss) <= TOLERANCE["float64"]
    assert compare(grads, exact) <= TOLERANCE["float64"]


@pytest.mark.core
@pytest.mark.parametrize("cell", EVERY_CELL)
def test_bptt_is_the_unrolled_network(cell, dtype):
    model = network(cell)
    xs, ys, weights, resets = data(T, 3, 3)
    _, exact = oracle_gradient("bptt", model, squared_error, xs, ys, weights, resets)
    _, grads = rtrl.sequence_gradient(
        model, squared_error, xs, ys, rule=rtrl.BPTT(), weights=weights, resets=resets
    )
    assert compare(grads, exact) <= TOLERANCE[dtype]


def test_chunk_errors_approach_bptt_as_chunks_grow():
    """Mean cosine over five seeds, four layers: K = 64 >= K = 16 >= K = 1, and 1 at K = T."""
    length = 128
    means = {1: 0.0, 16: 0.0, 64: 0.0, length: 1.0}
    for seed in range(5):
        model = rtrl.SequenceModel(
            4, 4, 16, 4, lambda size, key: rtrl.cells.LRU(size, 12, key=key),
            key=jax.random.key(seed),
        )  # fmt: skip
        keys = jax.random.split(jax.random.key(100 + seed))
        xs, ys = (jax.random.normal(key, (length, 2, 4)) for key in keys)

        def gradient(rule, chunk=None, model=model, xs=xs, ys=ys):
            return rtrl.sequence_gradient(model, squared_error, xs, ys, rule=rule, chunk=chunk)[1]

        exact = gradient(rtrl.BPTT())
        for chunk in means:
            cosines = rtrl.analysis.cosine_by_layer(gradient(rtrl.RTRL(), chunk), exact)
            layers = [float(v) for name, v in cosines.items() if name.startswith("layers")]
            if chunk == length:
                means[chunk] = min(means[chunk], *layers)
            else:
                means[chunk] += sum(layers) / len(layers) / 5
    assert means[64] >= means[16] >= means[1] > 0
    assert means[length] >= 1 - 1e-6
    assert means[1] < 1 - 1e-3  # else there is nothing to approach
