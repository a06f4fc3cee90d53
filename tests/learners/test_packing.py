"""A state as few arrays, and back: the same arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import data, network, squared_error

import rtrl
from rtrl.learners._packing import packing_of

TREE = {
    "vector": jnp.arange(3.0),
    "matrix": jnp.arange(6.0).reshape(2, 3),
    "large": jnp.arange(40.0),
    "number": jnp.float32(2),
    "complex": jnp.array([1, 2j, 3, 4], "c8"),
    "whole": jnp.arange(5),
    "flag": jnp.array(True),
    "half": jnp.arange(3, dtype=jnp.bfloat16),
    "weak": jnp.asarray(0.1) * 1.0,
    "key": jax.random.key(3),
    "empty": jnp.zeros((0, 2)),
    "name": "of no array",
    "numpy": np.arange(3, dtype="f4"),
}


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if isinstance(one, str):
            assert one == other
            continue
        assert one.dtype == other.dtype and one.shape == other.shape
        assert getattr(one, "weak_type", False) == getattr(other, "weak_type", False)
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = map(jax.random.key_data, (one, other))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("small", "kinds"), [(0, 1), (3, 3), (1024, 5)])
def test_what_is_unpacked_is_what_was_packed(small, kinds):
    packing = packing_of(TREE, small)
    packed = packing.begin(TREE)
    same(packing.end(packed), TREE)
    assert packed.proven == 0
    assert any(a is TREE["large"] for a in packed.alone) == (small < 40)
    assert len(packed.together) == kinds  # of floats, complex, integers, booleans, halves

    @jax.jit
    def inside(packed):
        return packing.pack(packing.unpack(packed), packed.proven + 1)

    again = inside(packed)
    same(packing.end(again), TREE)
    assert again.proven == 1


def test_steps_are_the_same_however_much_is_packed(monkeypatch):
    learner = rtrl.OnlineLearner(squared_error, optax.adam(1e-2))
    xs, ys, _, _ = data(5, None, 0)
    states = []
    for small in (0, 6, 1024):
        monkeypatch.setattr(
            "rtrl.learners._live.packing_of", lambda state, n=small: packing_of(state, n)
        )
        live = rtrl.Live(learner, learner.init(network("LRU", depth=1)))
        for x, y in zip(xs, ys, strict=True):
            live.step(x, y)
        states.append(live.state)
    for other in states[1:]:
        for a, b in zip(jax.tree.leaves(states[0]), jax.tree.leaves(other), strict=True):
            if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
                # As several kernels and as one: products may meet their sums.
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_live_step_proves_its_updates():
    """The count of proven updates goes from step to step, and begins anew with a new state."""
    learner = rtrl.OnlineLearner(squared_error, optax.sgd(1e-2))
    live = rtrl.Live(learner, learner.init(network("LRU", depth=1)))
    counts = []
    for _ in range(4):
        live.step(np.ones(3), np.ones(2))
        assert live._held is not None
        counts.append(int(live._held.packed.proven))
    assert counts[0] > 0 and counts == list(range(counts[0], counts[0] - 4, -1))
    with jax.debug_nans(True):
        live.step(np.ones(3), np.ones(2))
    assert live._held is None
    live.step(np.ones(3), np.ones(2))
    assert live._held is not None and int(live._held.packed.proven) == counts[0]
