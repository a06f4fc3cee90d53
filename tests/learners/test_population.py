"""A population of learners by `vmap`: seeds and learning rates side by side, as many as one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import data, squared_error

import rtrl

RATES = (0.0, 1e-2, 3e-2)


def test_a_population_learns_as_its_members_do_alone():
    def model(seed):
        return rtrl.SequenceModel(
            3, 2, 6, 1, lambda size, key: rtrl.cells.LRU(size, 4, key=key), glu=None, key=seed
        )

    # A rate that is a number of the state, not of the program.
    learner = rtrl.OnlineLearner(
        squared_error, optax.inject_hyperparams(optax.sgd)(learning_rate=0.0), donate=False
    )

    def begin(seed, rate):
        state = learner.init(model(seed), key=seed)
        return eqx.tree_at(lambda s: s.opt_state.hyperparams["learning_rate"], state, rate)

    def learn(state, xs, ys):
        return learner.scan(state, xs, ys, chunk=2)

    xs, ys, *_ = data(6, None, 0)
    seeds, rates = jax.random.split(jax.random.key(0), len(RATES)), jnp.array(RATES)
    population = eqx.filter_vmap(begin)(seeds, rates)
    population, outs = eqx.filter_jit(eqx.filter_vmap(learn, in_axes=(0, None, None)))(
        population, xs, ys
    )
    assert outs.loss.shape == (len(RATES), 6)
    assert len(np.unique(outs.loss[:, 0])) == len(RATES)  # members are not alike
    for i, rate in enumerate(RATES):
        state, out = learn(begin(seeds[i], jnp.array(rate)), xs, ys)
        member = jax.tree.map(lambda a, i=i: a[i], eqx.filter(population, eqx.is_array))
        # float32: products of several networks are taken together, in another order.
        np.testing.assert_allclose(outs.loss[i], out.loss, rtol=1e-5)
        for a, b in zip(
            jax.tree.leaves(eqx.filter(member.model, eqx.is_inexact_array)),
            jax.tree.leaves(eqx.filter(state.model, eqx.is_inexact_array)),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    still = eqx.filter(begin(seeds[0], rates[0]).model, eqx.is_inexact_array)
    for a, b in zip(
        jax.tree.leaves(eqx.filter(population.model, eqx.is_inexact_array)),
        jax.tree.leaves(still),
        strict=True,
    ):
        np.testing.assert_array_equal(a[0], b)  # a rate of zero
