"""The Kalman filter against recursive least squares and a dense filter written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from dense_filter import DenseFilter

import rtrl
from rtrl.engine import Observations


def feed(optimizer, params, state, jacobian, errors, weights=None, time=0):
    """One timestep; leaves of the jacobian ``(outputs, *parameter)``."""
    e = jnp.asarray(errors, jnp.result_type(*jax.tree.leaves(params)))[None, None]
    w = jnp.ones_like(e) if weights is None else jnp.asarray(weights, e.dtype)[None, None]
    seen = Observations(jax.tree.map(lambda a: jnp.asarray(a, e.dtype)[None, None], jacobian), e, w)
    updates, state = compiled(optimizer)(params, state, params, seen, jnp.uint32(time))
    return jax.tree.map(jnp.add, params, updates), state


@functools.lru_cache
def compiled(optimizer):
    return jax.jit(lambda *now: optimizer.update(*now[:3], observations=now[3], time=now[4]))


def covariance(state):
    """Of the first parameter array, row by row."""
    S = np.asarray(jax.tree.leaves(state.roots)[0], np.float64)
    return S @ S.swapaxes(1, 2)


def linear_law(length=40):
    rng = np.random.default_rng(0)
    xs = np.concatenate([rng.normal(size=(length, 3)), np.ones((length, 1))], 1)
    return xs, xs @ np.array([1.0, -2.0, 0.5, 3.0]) + 0.1 * rng.normal(size=length)


@pytest.mark.parametrize("forgetting", [1.0, 0.9])
def test_on_a_linear_model_it_is_least_squares_with_exponential_weights(forgetting, float64):
    xs, ys = linear_law()
    optimizer = rtrl.kalman(prior=7.0, forgetting=forgetting, gate=None)
    weights = jnp.zeros(4)
    state = optimizer.init(weights)
    for t, (x, y) in enumerate(zip(xs, ys, strict=True)):
        weights, state = feed(optimizer, weights, state, x[None], [x @ weights - y])
        age = forgetting ** np.arange(t, -1, -1)
        # The prior is forgotten by every target but the first, which finds it as it is.
        seen, A = xs[: t + 1], np.eye(4) / 7.0 * forgetting**t
        ridge = np.linalg.solve((age * seen.T) @ seen + A, (age * seen.T) @ ys[: t + 1])
        assert np.allclose(weights, ridge, atol=1e-9)


PARAMS = {"matrix": np.zeros((3, 5)), "vector": np.zeros(4), "scalar": np.zeros(())}
DIAGONAL = {"matrix": "diagonal", "vector": "rows", "scalar": "rows"}


@pytest.mark.parametrize("groups", ["rows", "diagonal", "some"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_several_outputs_and_groups_are_those_of_a_dense_filter(groups, outputs, float64):
    """A covariance of everything, from which what the groups leave out is struck."""
    kinds = DIAGONAL if groups == "some" else dict.fromkeys(PARAMS, groups)
    options = {"forgetting": 0.97, "drift": 1e-3, "prior": 3.0}
    noise = (0.5, 2.0, 1.0)[:outputs]
    optimizer = rtrl.kalman(**options, noise=noise, gate=None, groups=lambda _: kinds)
    dense = DenseFilter(PARAMS, kinds, **options, drift_every=64)
    wrong = DenseFilter(PARAMS, dict.fromkeys(PARAMS, "rows"), **options, drift_every=10**9)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(params, outputs=outputs)
    rng = np.random.default_rng(1)
    for t in range(40):
        # A gap in the data, and weights, one of them missing.
        time = t + 200 * (t > 20)
        H = {k: rng.normal(size=(outputs, *a.shape)) for k, a in PARAMS.items()}
        e, w = rng.normal(size=outputs), rng.uniform(0.5, 2, outputs) * (rng.random(outputs) > 0.2)
        params, state = feed(optimizer, params, state, H, e, w, time)
        for one in (dense, wrong):
            one.step(H, e, w, noise, time)
    assert np.allclose(dense.flat(params), dense.weights, atol=1e-9)
    assert not np.allclose(wrong.weights, dense.weights, atol=1e-2)


def test_outputs_of_one_group_are_the_joint_filter(float64):
    """``A = (R + H^T P H)^-1`` of Puskorius & Feldkamp, all outputs at once."""
    rng = np.random.default_rng(2)
    optimizer = rtrl.kalman(prior=2.0, noise=(0.5, 2.0), gate=None)
    params, P, w = jnp.zeros(6), 2 * np.eye(6), np.zeros(6)
    state = optimizer.init(params, outputs=2)
    for _ in range(10):
        H, e = rng.normal(size=(6, 2)), rng.normal(size=2)
        params, state = feed(optimizer, params, state, H.T, e)
        A = np.linalg.inv(np.diag([0.5, 2.0]) + H.T @ P @ H)
        w, P = w - P @ H @ A @ e, P - P @ H @ A @ H.T @ P
    assert np.allclose(params, w, atol=1e-10) and np.allclose(covariance(state)[0], P, atol=1e-10)


def test_the_gate_scales_an_outlier_to_it(float64):
    """Against a plain loop; and the outlier does to the weights what a common error would."""
    rng = np.random.default_rng(3)
    xs, g, P, w = rng.normal(size=(60, 2)), 4.0, 10 * np.eye(2), np.zeros(2)
    ys = xs @ [1.0, -1.0] + 0.1 * rng.normal(size=60)
    ys[40], ys[45] = 1e6, -30.0
    optimizer = rtrl.kalman(gate=g, memory=20.0)
    weights = jnp.zeros(2)
    state, square, gated = optimizer.init(weights), 0.0, 0
    for t, (x, y) in enumerate(zip(xs, ys, strict=True)):
        weights, state = feed(optimizer, weights, state, x[None], [x @ weights - y])
        e = x @ w - y
        bound = g * np.sqrt(square) if t >= 10 else np.inf
        c = min(1.0, bound / abs(e))
        gated += c < 1
        k, e = P @ x * c, e * c
        v = 1 + x @ k * c
        w, P = w - k * e / v, P - np.outer(k, k) / v
        square += max(1 / (t + 1), 1 / 20) * (min(abs(e), bound) ** 2 - square)
        assert np.allclose(weights, w, atol=1e-9) and np.isclose(state.spread[0], square)
    assert int(state.gated[0]) == gated == 2
    assert np.allclose(weights, [1, -1], atol=0.1)
    optimizer, weights = rtrl.kalman(gate=None), jnp.zeros(2)
    state = optimizer.init(weights)
    for x, y in zip(xs, ys, strict=True):
        weights, state = feed(optimizer, weights, state, x[None], [x @ weights - y])
    assert np.abs(weights).max() > 100  # without a gate


def test_noise_is_estimated(float64):
    """Of every output; it tells the filter which to trust."""
    rng = np.random.default_rng(4)
    law, outputs = rng.normal(size=4), 2
    errors = {}
    for noise in (None, (1.0, 1.0)):
        optimizer = rtrl.kalman(noise=noise, prior=1e3, memory=100.0)
        weights, rng = jnp.zeros(4), np.random.default_rng(5)
        state = optimizer.init(weights, outputs=outputs)
        for _ in range(1000):
            H = rng.normal(size=(2, 4))
            y = H @ law + rng.normal(size=2) * [0.1, 3.0]
            weights, state = feed(optimizer, weights, state, H, H @ weights - y)
        errors[noise] = np.linalg.norm(weights - law)
        if noise is None:  # a deviation of 100 samples has one of 7%
            assert np.allclose(np.sqrt(state.noise), [0.1, 3.0], rtol=0.2)
    assert errors[None] < 0.3 * errors[1.0, 1.0]


def test_without_excitation_it_does_not_wind_up():
    x = np.array([[1.0, 0.0, 0.0]], "f4")
    for options in ({"forgetting": 0.9}, {"drift": 0.1}):
        for groups in ("rows", "diagonal"):
            optimizer = rtrl.kalman(**options, groups=groups, prior=2.0)

            def step(state, t, optimizer=optimizer):
                one = jnp.ones((1, 1, 1))
                seen = Observations(jnp.asarray(x)[None, None], 0 * one, one)
                return optimizer.update(
                    jnp.zeros(3), state, jnp.zeros(3), observations=seen, time=t
                )[1], None

            state, _ = jax.lax.scan(
                step, optimizer.init(jnp.zeros(3)), jnp.arange(3000, dtype="u4")
            )
            root = np.asarray(state.roots)
            assert np.isfinite(root).all() and (root**2).sum() / 3 < 2.0 * (1 + 1e-4)
            assert (root**2).sum() > 2.0  # and it does forget what nothing tells it of


def test_single_precision_keeps_the_covariance_positive():
    """Inputs 10^4 apart: P carried as it is loses its sign, its root is as in double precision."""
    rng = np.random.default_rng(6)
    xs = rng.normal(size=(5000, 8)) * np.logspace(-2, 2, 8)
    xs = xs @ np.linalg.qr(rng.normal(size=(8, 8)))[0]
    found = {}
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            optimizer = rtrl.kalman(gate=None)

            def step(carry, x, optimizer=optimizer):
                state, P = carry
                one = jnp.ones((1, 1, 1), x.dtype)
                seen = Observations(x[None, None, None], 0 * one, one)
                state = optimizer.update(x, state, x, observations=seen, time=jnp.uint32(0))[1]
                k = P @ x
                return (state, P - jnp.outer(k, k) / (1 + x @ k)), None

            first = optimizer.init(jnp.zeros(8, dtype)), 10 * jnp.eye(8, dtype=dtype)
            (state, plain), _ = jax.lax.scan(step, first, jnp.asarray(xs, dtype))
            found[dtype] = covariance(state)[0], np.asarray(plain, np.float64)
    (P, plain), (exact, _) = found.values()
    assert np.linalg.eigvalsh(plain)[0] < 0 < np.linalg.eigvalsh(P)[0]
    variances, right = (np.einsum("ti,ij,tj->t", xs, A, xs) for A in (P, exact))
    # The strong direction's root is 10^-4 of the weak one's, whose rounding is 6e-8 a step.
    assert np.allclose(variances, right, rtol=0.02)


@pytest.mark.parametrize("j, e", [(1e30, 1.0), (1.0, 3e38), (np.inf, 1.0), (np.nan, 0.0)])
def test_what_is_not_finite_is_left_out(j, e):
    optimizer = rtrl.kalman()
    before = optimizer.init(jnp.zeros(2))
    weights, state = feed(optimizer, jnp.full(2, 3.3e38), before, np.array([[j, 3.0]]), [-e])
    assert int(state.left_out) == 1 and (weights == np.float32(3.3e38)).all()
    for was, now in zip(before, state._replace(left_out=before.left_out), strict=True):
        np.testing.assert_array_equal(was, now)


# With a learner ------------------------------------------------------------------------------


def network(outputs=1, depth=1, key=1):
    return rtrl.SequenceModel(
        2, outputs, 6, depth, lambda size, key: rtrl.cells.LRU(size, 6, r_max=0.9, key=key),
        norm=None, glu=None, activation=lambda y: y, key=jax.random.key(key),
    )  # fmt: skip


def half_square(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


def learner(**options):
    return rtrl.OnlineLearner(half_square, rtrl.kalman(**options), donate=False)


def delayed(length, *shape):
    """Inputs and what they were two timesteps before."""
    xs = jax.random.normal(jax.random.key(0), (length, *shape, 2))
    return np.asarray(xs), np.roll(xs, 2, axis=0)


def test_it_learns_a_recurrence_online():
    """A delayed copy in one pass: the decayed memory of a module has to be found. Two outputs, one
    target or both missing at times."""
    xs, ys = delayed(1200)
    ys = ys.copy()
    ys[300:400, 0], ys[600::50] = np.nan, np.nan
    one = learner()
    state, out = one.scan(one.init(network(2)), xs, ys)
    error = np.asarray(out.prediction) - ys
    assert np.nanmean(error[-200:] ** 2) < 0.4 < np.nanmean(error[:50] ** 2)  # the variance is 1
    assert list(np.asarray(state.opt_state.seen)) == [1088, 1188] and int(out.skipped.sum()) == 12
    assert np.isfinite(np.asarray(out.loss)).sum() == 1188  # of what targets there are


def test_chunks_and_batches_are_more_observations():
    """In chunks, and of a batch: both learn; what is alike is equal."""
    xs, ys = delayed(300, 3)
    ys, one = ys[..., :1], learner()
    _, out = one.scan(one.init(network()), xs[:, 0], ys[:, 0], chunk=4)
    assert float(out.loss[-50:].mean()) < 0.35 < float(out.loss[:30].mean())
    state, out = one.scan(one.init(network(), batch_size=3), xs, ys)
    assert float(out.loss[-50:].mean()) < 0.35 < float(out.loss[:20].mean())
    assert (np.asarray(state.opt_state.seen) == 900).all()
    # The others of a batch without a weight: as if there were no others.
    weights = np.zeros((300, 3), "f4")
    weights[:20, 0] = 1
    batch, _ = one.scan(one.init(network(), batch_size=3), xs, ys, weights=weights)
    alone, _ = one.scan(one.init(network()), xs[:, 0], ys[:, 0], weights=weights[:, 0])
    for a, b in zip(jax.tree.leaves(batch.model), jax.tree.leaves(alone.model), strict=True):
        if hasattr(a, "dtype"):
            np.testing.assert_allclose(a, b, atol=1e-4)  # single precision, other sums


def test_without_a_target_nothing_moves():
    """But the states, and once a target comes the process noise of the time between."""
    xs, ys = delayed(20)
    one = learner(forgetting=0.9, drift=1e-3)
    before, _ = one.scan(one.init(network(2)), xs, ys)
    later = before
    for _ in range(5):
        later, _ = one.scan(later, xs, np.full_like(ys, np.nan))
    for name in ("model", "opt_state"):
        for a, b in zip(*(jax.tree.leaves(getattr(s, name)) for s in (before, later)), strict=True):
            if hasattr(a, "dtype"):
                np.testing.assert_array_equal(a, b)
    assert int(before.opt_state.time) == 0
    known, _ = one.scan(later, xs, ys)
    assert int(known.opt_state.time) == 120  # more than 64 timesteps: the noise is due


def test_it_wants_half_the_squared_error_and_a_learner():
    def refused(match, make):
        with pytest.raises(ValueError, match=match):
            make()

    def with_loss(loss):
        return rtrl.OnlineLearner(loss, rtrl.kalman()).init(network(2))

    refused("^loss: expected half the squared error", lambda: with_loss(
        lambda p, y: jnp.sum((p - y) ** 2)))  # fmt: skip
    refused("^loss: .*another derivative", lambda: with_loss(
        lambda p, y: optax.huber_loss(p, y).sum()))  # fmt: skip
    refused("^loss: .*raises", lambda: with_loss(
        optax.softmax_cross_entropy_with_integer_labels))  # fmt: skip
    refused("^update_every: expected 1", lambda: rtrl.OnlineLearner(
        half_square, rtrl.kalman(), update_every=2))  # fmt: skip
    chained = rtrl.OnlineLearner(half_square, optax.chain(rtrl.kalman()))
    xs, ys = delayed(2)
    refused("^optimizer: .*optax.chain", lambda: chained.step(
        chained.init(network(2)), xs[0], ys[0]))  # fmt: skip
    one = learner()
    refused("^ys: expected targets like predictions", lambda: one.step(
        one.init(network(2)), xs[0], ys[0][:1]))  # fmt: skip
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("b",))
    spread = jax.jit(jax.shard_map(
        lambda xs, ys: one.scan(one.init(network(2), batch_size=1), xs, ys)[1].loss, mesh=mesh,
        in_specs=jax.P(None, "b"), out_specs=jax.P(),
    ))  # fmt: skip
    refused("^optimizer: .*over devices", lambda: spread(xs[:, None], ys[:, None]))


@pytest.mark.parametrize(
    "argument, value",
    [("prior", 0.0), ("forgetting", 1.1), ("forgetting", 0.0), ("drift", -1.0), ("gate", 0.0),
     ("noise", (1.0, 0.0)), ("memory", 0.5), ("groups", "columns")],
)  # fmt: skip
def test_arguments_out_of_range_are_named(argument, value):
    with pytest.raises(ValueError, match=f"^{argument}: expected"):
        rtrl.kalman(**{argument: value})


def test_arguments_that_do_not_fit_the_network_are_named():
    with pytest.raises(ValueError, match="^noise: .*each of 2 outputs"):
        learner(noise=(1.0, 1.0, 1.0)).init(network(2))
    with pytest.raises(ValueError, match="^groups: .*every parameter"):
        learner(groups=lambda params: jax.tree.map(lambda a: "row", params)).init(network(2))


def test_mixed_groups_keep_covariances_where_they_are_small():
    state = learner(groups="mixed").init(network(2))
    kinds = jax.tree.map(lambda root: root.ndim, state.opt_state.roots)
    assert kinds.decoder.weight == kinds.decoder.bias == kinds.encoder.weight == 3
    params = {"square": jnp.zeros((64, 64)), "wide": jnp.zeros((8, 64)), "many": jnp.zeros((9, 64))}
    roots = rtrl.kalman(groups="mixed").init(params).roots
    assert {k: a.ndim for k, a in roots.items()} == {"square": 2, "wide": 3, "many": 2}
