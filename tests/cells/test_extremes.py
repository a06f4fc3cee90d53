"""Every cell at the ends of float32: inputs of 1e6, parameters pushed far, gates saturated."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ALL_CELLS, DENSE, MODULES
from hypothesis import given, settings
from hypothesis import strategies as st

import rtrl
from rtrl import cells
from rtrl.cells._exponents import log_softplus, normaliser
from rtrl.cells._zero_order_hold import hold_gain
from rtrl.engine import Modules, structure

POINTS, SIZE = 512, 3
LARGEST = 1e6  # of an input or a state
PARAMETER = 1e4  # of a parameter, but for logarithms and biases, which take any number
EPS = 2.0**-23  # of float32
# Some variants differ in what is not at stake here.
NAMES = [n for n in ALL_CELLS if not n.endswith(("-detached", "-3")) and n != "LIF-dense"]
# By default those whose equation as published fails there.
FAST = ["LRU", "LeakyIntegrator", "S5", "RTU", "MinLSTM", "RGLRU", "S6"]


def default(fast, names=NAMES):
    return [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in names]


#: Where a cell's docstring says that a logarithm ends; beyond 15 an angle has no digits left.
ENDS = {"theta_log": 15, "gamma_log": 40, "re_log": 50, "delta_log": 30, "A_log": 50}


# The equations as published ---------------------------------------------------------------------
# In double precision these hold far beyond where float32 saturates, derivatives included.


class PlainLRU(cells.LRU):
    def update(self, h, u):
        nu, theta = jnp.exp(self.nu_log), jnp.exp(self.theta_log)
        return jnp.exp(jax.lax.complex(-nu, theta)) * h + jnp.exp(self.gamma_log) * u


class PlainLeakyIntegrator(cells.LeakyIntegrator):
    def update(self, h, u):
        a = jnp.exp(-1 / jnp.exp(self.tau_log))
        return a * h + (1 - a) * (u + self.bias)


class PlainRTU(cells.RTU):
    def update(self, h, u):
        r, theta = jnp.exp(-jnp.exp(self.nu_log)), jnp.exp(self.theta_log)
        z = jax.lax.complex(r * jnp.cos(theta), r * jnp.sin(theta)) * jax.lax.complex(*h)
        gamma = jnp.sqrt(-jnp.expm1(-2 * jnp.exp(self.nu_log)))
        c = z.real + gamma * u[0], z.imag + gamma * u[1]
        return c if self.activation is None else tuple(map(self.activation, c))


class PlainS5(cells.S5):
    def update(self, h, u):
        eigenvalue, delta = jax.lax.complex(-jnp.exp(self.re_log), self.im), jnp.exp(self.delta_log)
        z = eigenvalue * delta
        near = jnp.abs(z) < 0.1  # where exp(z) - 1 would cancel, also in double precision
        series = sum(jnp.where(near, z, 0) ** k / math.factorial(k + 1) for k in range(12))
        gain = jnp.where(near, delta * series, (jnp.exp(z) - 1) / jnp.where(near, 1, eigenvalue))
        return jnp.exp(z) * h + gain * u


class PlainS6(cells.S6):
    def update(self, h, u):
        delta, A = jax.nn.softplus(u[0] + self.b_delta), -jnp.exp(self.A_log)
        return jnp.exp(delta * A) * h + jnp.expm1(delta * A) / A * (u[1] * u[2])


class PlainMinLSTM(cells.MinLSTM):
    def update(self, h, u):
        f, i = jax.nn.sigmoid(u[0] + self.b_f), jax.nn.sigmoid(u[1] + self.b_i)
        return (f * h + i * (u[2] + self.b_h)) / (f + i)


class PlainRGLRU(cells.RGLRU):
    def update(self, h, u):
        r, i = jax.nn.sigmoid(u[0] + self.b_r), jax.nn.sigmoid(u[1] + self.b_i)
        log_a = 8 * r * jax.nn.log_sigmoid(self.Lambda)
        return jnp.exp(log_a) * h + jnp.sqrt(-jnp.expm1(2 * log_a)) * (i * u[2])


PLAIN = {kind.__base__: kind for kind in (
    PlainLRU, PlainLeakyIntegrator, PlainRTU, PlainS5, PlainS6, PlainMinLSTM, PlainRGLRU
)}  # fmt: skip


class ClippedRGLRU(cells.RGLRU):
    """Finite, and wrong."""

    def update(self, h, u):
        r, i = jax.nn.sigmoid(u[0] + self.b_r), jax.nn.sigmoid(u[1] + self.b_i)
        log_a = jnp.maximum(8 * r * jax.nn.log_sigmoid(self.Lambda), -1e3)
        root = jnp.sqrt(jnp.maximum(-jnp.expm1(2 * log_a), 1e-6))
        return jnp.exp(log_a) * h + root * (i * u[2])


def of_kind(kind, cell):
    """A cell of another class with the same fields."""
    made = object.__new__(kind)
    for name, value in vars(cell).items():
        object.__setattr__(made, name, value)
    return made


# One timestep -----------------------------------------------------------------------------------


def one_timestep(cell):
    """Value, D, J and E of a timestep as the engine takes them, for many points at once."""
    start = Modules(cell)

    def derivatives(leaves, h, w):
        m = Modules(start.with_leaves(leaves))
        found = {"value": m.update(h, w), "D": m.decay(h, w)}
        found |= {f"J{p}": m.gain(h, w, p) for p in range(len(w))}
        for i in structure(start).module_leaves:
            found[f"E {m.names[i]}"] = m.immediate(h, w, i)
        return found

    return jax.jit(jax.vmap(derivatives))


def takes_anything(name: str) -> bool:
    bias = name in ("b", "bias") or (name.startswith("b_") and name != "b_delta")
    return name.endswith("_log") or bias or name == "Lambda"


def draw(cell, seed):
    """Float32 numbers of every size and sign, zeros and the largest among them."""
    rng = np.random.default_rng(seed)
    m = Modules(cell)

    def numbers(like, *largest):
        def real():
            shape = (POINTS, *like.shape)
            sizes = 10 ** rng.uniform(-3, math.log10(largest[0]), shape)
            gates = rng.uniform(0, 120, shape)  # where exponentials and sigmoids saturate
            sizes = np.where(rng.random(shape) < 0.5, gates, sizes)
            sizes = np.where(rng.random(shape) < 0.2, rng.choice([0.0, *largest], shape), sizes)
            return np.asarray(sizes * rng.choice([-1, 1], shape), np.float32)

        return real() + 1j * real() if jnp.iscomplexobj(like) else real()

    leaves = [np.broadcast_to(leaf, (POINTS, *leaf.shape)) for leaf in m.leaves]
    for i in structure(m).module_leaves:
        ends = (PARAMETER, 1e30) if takes_anything(m.names[i]) else (PARAMETER,)
        leaves[i] = numbers(leaves[i][0], *ends)
    h, w = m.example()
    return leaves, numbers(h, LARGEST), tuple(numbers(v, LARGEST) for v in w)


def in_double(tree):
    return jax.tree.map(lambda a: np.asarray(a, complex if np.iscomplexobj(a) else float), tree)


def shaken(point, seed):
    """Every number moved by a rounding error or two of float32."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: a * (1 + 2 * EPS * rng.uniform(-1, 1, a.shape)), point)


class Comparison:
    """A cell's timestep in single precision with what it should be in double, compiled once."""

    def __init__(self, cell, correct=None):
        self.cell = cell
        self.single = one_timestep(cell)
        with jax.enable_x64(True):
            correct = in_double(cell if correct is None else correct)
            plain = PLAIN.get(type(correct))
            self.double = one_timestep(correct)
            self.plain = plain and one_timestep(of_kind(plain, correct))

    def expected(self, point, inside):
        """By the cell in double precision, and by the plain equation wherever that is finite."""
        with jax.enable_x64(True):
            expected = jax.tree.map(np.asarray, self.double(*point))
            plain = self.plain(*point) if self.plain else {}
        for name, b in plain.items():
            at = np.isfinite(b) & per_module(inside, b)
            expected[name] = np.where(at, b, expected[name])
        return expected

    def mistakes(self, seed):
        """What is not finite, or is not what it is in double precision, and by what factor.

        A number may be as wrong as errors of rounding in the arguments make it (an angle of 1e6
        has few of its digits left), and by rounding of what it is a sum or product of: a gate that
        is 1 to rounding has slope 0 to rounding, times a state of 1e6 if it mixes such states.
        """
        leaves, h, w = point = draw(self.cell, seed)
        names = Modules(self.cell).names
        named = {
            n: np.broadcast_to(a.reshape(POINTS, -1), (POINTS, MODULES))
            for n, a in zip(names, leaves, strict=True)
            if a.ndim < 3 and takes_part(self.cell, n)
        }
        got = jax.tree.map(np.asarray, self.single(*point))
        double = in_double(point)
        inside = np.ones((POINTS, MODULES), bool)
        for name, end in ENDS.items():
            inside &= named[name] <= end if name in named else True
        expected = self.expected(double, inside)
        moved = [self.expected(shaken(double, [seed, s]), inside) for s in range(4)]

        def size(arrays):
            return sum(np.abs(a).reshape(POINTS, -1, a.shape[-1]).max(1) for a in arrays)

        angle = np.exp(np.minimum(named.get("theta_log", np.full((POINTS, MODULES), -1.0)), 20))
        biases = [a for n, a in named.items() if n.startswith("b") and n != "beta"]
        weights = [a for n, a in named.items() if not takes_anything(n)]
        state = 1 + size([h, expected["value"], *w, *biases])
        through = state * (1 + size([angle, *weights]))
        if structure(Modules(self.cell)).affine:
            scales = {"D": np.ones_like(state), "J": state, "E": state, "v": state}
        else:  # the state goes through gates, each with a weight
            scales = {"D": through, "J": through, "E": through * state, "v": through}
        no_digits = angle > math.exp(ENDS["theta_log"])
        found = {}
        for name, a in got.items():
            b = expected[name]
            change = np.max([np.abs(m[name] - b) for m in moved], axis=0)
            allowed = 32 * EPS * (per_module(scales[name[0]], b) + np.abs(b)) + 8 * change
            allowed = np.where(per_module(no_digits, b), np.inf, allowed)
            with np.errstate(invalid="ignore"):
                excess = np.where(np.isfinite(a), np.abs(a - b) / allowed, np.inf).max()
            if not excess <= 1:
                found[name] = float(excess)
        return found


def takes_part(cell, name) -> bool:
    m = Modules(cell)
    return m.names.index(name) in structure(m).module_leaves


def per_module(a, like):
    """``(POINTS, N)`` along the axes of ``(POINTS, ..., N)``."""
    return np.asarray(a).reshape(POINTS, *[1] * (like.ndim - 2), MODULES)


@pytest.mark.parametrize("name", default(FAST))
def test_a_timestep_is_finite_and_right_at_any_parameters_and_inputs(name):
    comparison = Comparison(ALL_CELLS[name](SIZE, jax.random.key(0)))

    @settings(max_examples=2, deadline=None)
    @given(st.integers(0, 2**31 - 1))
    def check(seed):
        assert comparison.mistakes(seed) == {}

    check()


@pytest.mark.parametrize(
    "kind",
    [
        kind
        if kind in (PlainRGLRU, PlainMinLSTM, PlainS6, ClippedRGLRU)
        else pytest.param(kind, marks=pytest.mark.slow)
        for kind in (*PLAIN.values(), ClippedRGLRU)
    ],
    ids=lambda kind: kind.__name__,
)
def test_the_comparison_sees_the_plain_equation_and_a_clipped_one_fail(kind):
    cell = kind(SIZE, MODULES, key=jax.random.key(0))
    found = Comparison(cell, of_kind(kind.__base__, cell)).mistakes(0)
    assert max(found.values()) == math.inf if kind is not ClippedRGLRU else found
    assert np.isfinite([*found.values()]).all() == (kind is ClippedRGLRU)


@pytest.mark.parametrize(
    ("function", "low", "high", "value", "slope"),
    [
        (
            normaliser, -80, 0,
            lambda x: np.sqrt(-np.expm1(-2 * np.exp(x))),
            lambda x: np.exp(x - 2 * np.exp(x)) / np.sqrt(-np.expm1(-2 * np.exp(x))),
        ),
        (
            log_softplus, -1e3, 1e3,
            lambda x: np.where(x < -700, x, np.log(np.logaddexp(0, x))),
            lambda x: np.where(x < -700, 1, 1 / (1 + np.exp(-x)) / np.logaddexp(0, x)),
        ),
        (
            lambda x: hold_gain(-x, jnp.ones_like(x)), 0, 50,
            lambda x: np.where(x > 0, -np.expm1(-x) / x, 1),
            lambda x: np.where(x > 1e-3, (np.exp(-x) * (1 + x) - 1) / x**2, x / 3 - 1 / 2),
        ),
    ],
    ids=["normaliser", "log_softplus", "hold_gain"],
)  # fmt: skip
def test_relative_accuracy(function, low, high, value, slope):
    """Also of what is far below one, which the comparison above leaves to rounding."""
    x = np.linspace(low, high, 4001, dtype=np.float32)
    x = np.concatenate([x, x / 1000, x * 1e-30])
    got, derivative = jax.jvp(function, (jnp.asarray(x),), (jnp.ones_like(x),))
    with np.errstate(all="ignore"):
        expected = value(x.astype(float)), slope(x.astype(float))
    # An exponent of 80 has a rounding error of 80 EPS, and so has the exponential; the series
    # takes over where the difference has lost a tenth.
    assert np.allclose(got, expected[0], rtol=160 * EPS, atol=4 * EPS if low == -1e3 else 1e-37)
    assert np.allclose(derivative, expected[1], rtol=160 * EPS, atol=1e-37)


# A sequence -------------------------------------------------------------------------------------

#: Parameters at which a recurrence is unstable, or each timestep multiplies its trace.
LEFT_ALONE = (
    "w",
    "w_r",
    "w_f",
    "w_n",
    "w_z",
    "w_o",
    "w_s",
    "w_re",
    "lambda_re",
    "lambda_im",
    "beta",
)


@pytest.mark.parametrize("name", default(["MinLSTM", "RGLRU", "S6"]))
def test_a_sequence_with_inputs_of_1e6_leaves_states_traces_and_gradients_finite(name):
    """And with parameters far out, but for those at which the recurrence itself is unstable."""
    cell = ALL_CELLS[name](SIZE, jax.random.key(0))
    m = Modules(cell)
    rng = np.random.default_rng(0)
    leaves = [
        np.asarray(rng.choice([-1e4, -100, -20, 0, 20, 100, 1e4], leaf.shape), np.float32)
        if i in structure(m).module_leaves and m.names[i].split(".")[0] not in (*LEFT_ALONE, "A")
        else leaf
        for i, leaf in enumerate(m.leaves)
    ]
    T = 21
    xs = np.asarray(rng.standard_normal((T, SIZE)), np.float32)
    xs[7:12] *= [[1e6], [-1e6], [0], [1e6], [3e5]]
    rule = rtrl.SnAp1() if name in DENSE else rtrl.RTRL()

    @jax.jit
    def learn(leaves, carry, xs):
        def loss(leaves, x, carry):
            hs, after = rtrl.recur(m.with_leaves(leaves), x[None], carry, rule=rule)
            return sum(jnp.real(h).sum() for h in jax.tree.leaves(hs)), (hs, after)

        def step(carry, x):
            grads, (hs, after) = jax.grad(loss, has_aux=True)(leaves, x, carry)
            return after, (grads, hs, after)

        return jax.lax.scan(step, carry, xs)[1]

    for starts in (leaves, m.leaves):
        found = learn(starts, rtrl.init_carry(cell, rule), xs)
        for path, a in jax.tree_util.tree_leaves_with_path(found):
            assert np.isfinite(a).all(), jax.tree_util.keystr(path)
