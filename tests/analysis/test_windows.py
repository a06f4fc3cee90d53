"""The choice of chunk and overlap, against plain autodiff of the whole stretch."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analysis.learners import loss
from jax.flatten_util import ravel_pytree
from oracles import oracle_gradient

import rtrl
from rtrl import analysis

T = 32
XS, YS = np.random.default_rng(3).normal(size=(2, T, 1))
WINDOWS = [(4, 0), (2, 0), (16, 16)]
OPTIONS = {"resets": np.arange(T) == 10, "weights": np.linspace(0.5, 1, T)}


@functools.cache
def network(r_min, r_max):
    """Short memory in the first layer; in the second what is given."""
    model = rtrl.SequenceModel(
        1, 1, 6, 2, lambda size, key: rtrl.cells.LRU(size, 5, r_max=0.5, key=key),
        key=jax.random.key(0),
    )  # fmt: skip
    cell = rtrl.cells.LRU(6, 5, r_min=r_min, r_max=r_max, key=jax.random.key(1))
    other = rtrl.SequenceModel(1, 1, 6, 1, lambda size, key: cell, key=jax.random.key(2))
    return eqx.tree_at(lambda m: m.layers[1], model, other.layers[0])


def cosine(a, b):
    a, b = (np.asarray(ravel_pytree(t)[0]) for t in (a, b))
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_the_first_window_that_is_near_bptt_is_chosen(float64):
    model = network(0.9, 0.99)
    found = analysis.choose_window(model, loss, XS, YS, windows=WINDOWS, **OPTIONS)
    data = map(jnp.asarray, (XS, YS, OPTIONS["weights"], OPTIONS["resets"]))
    exact = oracle_gradient("bptt", model, loss, *data)[1]
    for (chunk, overlap), layers in found.cosines.items():
        _, grads = rtrl.sequence_gradient(
            model, loss, XS, YS, rule=rtrl.RTRL(), chunk=chunk, overlap=overlap, **OPTIONS
        )
        expected = [cosine(grads.encoder, exact.encoder), cosine(grads.layers[0], exact.layers[0]),
                    cosine(grads.layers[1], exact.layers[1]),
                    cosine(grads.decoder, exact.decoder)]  # fmt: skip
        assert list(layers) == ["encoder", "layers[0]", "layers[1]", "decoder"]
        np.testing.assert_allclose(list(layers.values()), expected, rtol=1e-9)
        assert found.worst[chunk, overlap] == pytest.approx(min(expected), rel=1e-9)
    # The window of all timesteps is BPTT; the layer above remembers too much for the others.
    assert found.worst[16, 16] == pytest.approx(1, abs=1e-12)
    assert max(found.worst[4, 0], found.worst[2, 0]) < 0.99
    assert found.chosen == (16, 16) and found.clears
    assert str(found).endswith("<-") and str(found).count("<-") == 1


def test_a_short_memory_asks_for_a_short_window_only(float64):
    found = analysis.choose_window(network(0.0, 0.2), loss, XS, YS, windows=WINDOWS, **OPTIONS)
    assert found.chosen == (4, 0) and found.clears
    for windows in (WINDOWS[:2], WINDOWS[1::-1]):  # none clears: the best there is
        few = analysis.choose_window(network(0.9, 0.99), loss, XS, YS, windows=windows, **OPTIONS)
        assert few.chosen == max(windows, key=lambda w: few.worst[w]) and not few.clears


def test_a_layer_without_a_gradient_in_its_windows_fails(float64):
    model = network(0.9, 0.99)
    linear = eqx.nn.Linear(1, 6, use_bias=False, key=jax.random.key(5))
    model = eqx.tree_at(lambda m: m.encoder, model, linear)
    early, late = np.where(np.arange(T)[:, None] < 4, XS, 0), np.float64(np.arange(T) >= 28)
    # What the encoder reads and what it is judged by are in no window together.
    options = {"windows": [(4, 0), (16, 16)], "weights": late, "bar": -1}
    found = analysis.choose_window(model, loss, early, YS, **options)
    assert np.isnan(found.cosines[4, 0]["encoder"]) and found.worst[4, 0] == -np.inf
    assert found.chosen == (16, 16) and found.worst[16, 16] == pytest.approx(1, abs=1e-12)
    alone = analysis.choose_window(model, loss, early, YS, **{**options, "windows": [(4, 0)]})
    assert alone.chosen == (4, 0) and not alone.clears
    # BPTT itself gives it none: it says nothing.
    found = analysis.choose_window(model, loss, 0 * XS, YS, **options)
    layers = found.cosines[4, 0]
    known = [cosine for cosine in layers.values() if cosine == cosine]
    assert np.isnan(layers["encoder"]) and known
    assert found.worst[4, 0] == min(known) and found.clears


@pytest.mark.parametrize("size", [1e-30, 1e-13, 1e30])
def test_a_cosine_has_no_size(size):
    a, b = np.random.default_rng(4).normal(size=(2, 30))
    small = (
        {"l": {"a": jnp.float32(size * g[:9]), "b": jnp.float32(size * g[9:])}} for g in (a, b)
    )
    (found,) = analysis.cosine_by_layer(*small).values()
    assert found.dtype == jnp.float32
    assert found == pytest.approx(cosine(a, b), abs=1e-6)
    zero = {"l": {"a": jnp.zeros(3), "b": jnp.zeros((0,))}}
    assert all(np.isnan(c) for c in analysis.cosine_by_layer(zero, zero).values())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"windows": []}, "windows: expected at least one"),
        ({"windows": [(0, 4)]}, "windows: expected an integer of at least 1"),
        ({"windows": [(4, -1)]}, "windows: expected an integer of at least 0"),
        ({"bar": 2.0}, "bar: expected a cosine"),
        ({"rule": rtrl.RTRL("timestep"), "windows": [(4, 4)]}, "overlap: expected 0 with"),
    ],
)
def test_what_is_no_window_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        analysis.choose_window(network(0.0, 0.2), loss, XS, YS, **options)
