"""What the tests of a learner that never dies share."""

import equinox as eqx
import jax
import numpy as np
import optax
from cases import ALL_CELLS, squared_error

import rtrl


def leaves(tree):
    return [np.asarray(a) for a in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


def finite(tree):
    return all(np.isfinite(a).all() for a in leaves(tree))


def identical(a, b):
    return all(np.array_equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


def learner(optimizer=None, **options):
    options = {"donate": False, **options}
    return rtrl.OnlineLearner(squared_error, optimizer or optax.adam(1e-2), **options)


def sine(length):
    xs = np.sin(0.3 * np.arange(length + 1))[:, None].astype(np.float32)
    return xs[:-1], xs[1:]


def one_layer(depth=1, cell="LRU"):
    """A small network for it, without a norm."""
    return rtrl.SequenceModel(1, 1, 8, depth, ALL_CELLS[cell], key=jax.random.key(1), norm=None)
