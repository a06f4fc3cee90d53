"""What the engine takes a cell for is proven: against loops that take it for nothing."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.experimental
import jax.numpy as jnp
import jax.ref
import numpy as np
import pytest
from cases import ALL_CELLS
from hypothesis import given, settings
from hypothesis import strategies as st

import rtrl
from rtrl.engine import Modules, structure
from rtrl.engine._dependence import depends

N, H, T = 3, 2, 6
RULES = (rtrl.BPTT(), rtrl.RTRL())
stop = jax.lax.stop_gradient


class Linear(rtrl.Cell):
    """What all cells here are made of; ``b`` is there to be used."""

    W: jax.Array
    a: jax.Array
    b: jax.Array
    mask: jax.Array

    def project(self):
        return self.W

    def update(self, h, u):
        return self.a * h + u


def make(kind, b=3.0, **more):
    rng = np.random.default_rng(1)
    return kind(
        jnp.asarray(rng.standard_normal((N, H))),
        jnp.array([0.9, 0.5, -0.7]),
        jnp.array([b, b + 0.1, b + 0.2]),
        jnp.array([1, 0, 1]),
        **more,
    )


def by_a_loop(cell, xs):
    """The states of a cell, one timestep after the other, as it is written."""
    h, states = cell.initial(), []
    for x in xs:
        v = () if cell.recurrent() is None else (cell.recurrent() @ cell.output(h),)
        h = cell.update(h, jax.tree.map(functools.partial(jnp.matmul, b=x), cell.project()), *v)
        states.append(h)
    return jax.tree.map(lambda *hs: jnp.stack(hs), *states)


def by_the_engine(cell, xs, rule):
    """The same by `recur`; BPTT in one chunk and others in two, so that a trace is carried."""
    carry, states = rtrl.init_carry(cell, rule), []
    for chunk in jnp.split(xs, 1 if isinstance(rule, rtrl.BPTT) else 2):
        hs, carry = rtrl.recur(cell, chunk, carry, rule=rule)
        states.append(hs)
    return jax.tree.map(lambda *hs: jnp.concatenate(hs), *states)


@eqx.filter_jit
def states_and_gradients(cell, rules):
    """By the loop and under every rule: the states, and the gradient of a weighted sum of them."""
    rng = np.random.default_rng(2)
    xs = rng.standard_normal((T, H))
    sizes = jax.tree.leaves(jax.eval_shape(by_a_loop, cell, xs))
    weights = [rng.standard_normal((2, *h.shape)) for h in sizes]

    def result(run):
        def objective(cell):
            states = jax.tree.leaves(run(cell, xs))
            total = sum(
                (re * h.real + im * h.imag).sum()
                for h, (re, im) in zip(states, weights, strict=True)
            )
            return total, states

        gradient, states = eqx.filter_grad(objective, has_aux=True)(cell)
        return states + jax.tree.leaves(gradient)

    return [result(by_a_loop)] + [
        result(functools.partial(by_the_engine, rule=rule)) for rule in rules
    ]


def agree(cell, rules=RULES):
    expected, *results = states_and_gradients(cell, rules)
    return all(
        np.allclose(a, b, rtol=1e-9, atol=1e-9)  # double precision, sums of a few dozen numbers
        for result in results
        for a, b in zip(result, expected, strict=True)
    )


# Cells that samples took for affine, or might --------------------------------------------------


@jax.custom_jvp
def spike(x):
    return (x > 0).astype(x.dtype)


@spike.defjvp
def _(primals, tangents):
    return spike(primals[0]), tangents[0] / (1 + jnp.abs(primals[0])) ** 2


@jax.custom_jvp
def doubled_slope(x):
    return x


@doubled_slope.defjvp
def _(primals, tangents):
    return primals[0], 2 * tangents[0]


#: Not affine, or only in value: (cell, h, u) -> h. The first three once had wrong states.
NOT_AFFINE = {
    "window": lambda c, h, u: c.a * h + (jnp.abs(h) < 0.5) * u,
    "sign": lambda c, h, u: c.a * h + u * jnp.sign(h + 0.1),
    "away from one": lambda c, h, u: c.a * h + u - (c.b - 1) * (h > 0.5),
    "far away": lambda c, h, u: c.a * h + u - jnp.where(h > 1e4, h, 0),
    "stopped": lambda c, h, u: c.a * stop(h) + u,
    "stopped in part": lambda c, h, u: c.a * h + u + 0.1 * stop(h),
    "another slope": lambda c, h, u: c.a * doubled_slope(h) + u,
    "spike": lambda c, h, u: c.a * h + u - spike(h - 0.5),
    "floor": lambda c, h, u: c.a * h + u + 0.1 * jnp.floor(3 * h),
    "integer": lambda c, h, u: c.a * h + u + 0.1 * (3 * h).astype(int),
    "clipped": lambda c, h, u: c.a * jnp.clip(h, -5, 0.7) + u,
    "by the mask": lambda c, h, u: jnp.where(c.mask > 1, jnp.abs(h), c.a * h) + u,
    "square": lambda c, h, u: 0.1 * h * h + u,
    "quotient": lambda c, h, u: u / (2 + h),
    "branch": lambda c, h, u: c.a * h + jax.vmap(
        lambda h, u: jax.lax.cond(h > 0.3, lambda: u, lambda: -u))(h, u),
    "loop": lambda c, h, u: jax.lax.scan(lambda z, _: (z * h, None), c.a, None, length=2)[0] + u,
}  # fmt: skip
CONTROLS = ["window", "sign", "away from one", "stopped", "another slope"]
#: Without a gradient that could be compared: one is rounded, the other does not exist backwards.
ONLY_STATES = {
    "half precision": lambda c, h, u: c.a * h.astype(jnp.float16).astype(h.dtype) + u,
    "while": lambda c, h, u: jax.vmap(
        lambda h: jax.lax.while_loop(lambda z: jnp.abs(z) > 0.5, lambda z: z / 2, h))(h) + u,
}  # fmt: skip
#: Affine, in ways that a proof must see through.
AFFINE = {
    "plain": lambda c, h, u: c.a * h + u,
    "gates": lambda c, h, u: (jnp.tanh(u) * h + spike(u) * c.b) / (2 + c.a**2) - -h * stop(u),
    "where": lambda c, h, u: jnp.where((u > 0) & (c.mask == 1), c.a * h, h / c.b) + u,
    "jit": lambda c, h, u: jax.jit(lambda h: jax.checkpoint(lambda h: c.a * h)(h))(h) + u,
    "branch": lambda c, h, u: jax.lax.cond(
        c.mask.sum() > 1, lambda h: c.a * h, lambda h: -h, h) + u,
    "loop": lambda c, h, u: jax.lax.fori_loop(0, 2, lambda i, z: c.a * z + u, h),
    "stacked": lambda c, h, u: jnp.einsum("ijn,jn->in", jnp.stack([jnp.stack([c.a, c.b])]),
                                          jnp.stack([h, 0.1 * h]))[0] + u,
    "wider": lambda c, h, u: (c.a * h.astype(complex)).real + u,
}  # fmt: skip


class Written(Linear):
    """A cell of one of these tables."""

    equation: Callable = eqx.field(static=True)

    def update(self, h, u):
        return self.equation(self, h, u)


class Dense(Written):
    def recurrent(self):
        return jnp.outer(self.a, self.a)

    def update(self, h, u, v):
        return self.equation(self, v, u) + 0.3 * h


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_a_cell_that_is_not_affine_has_the_states_of_its_code(name, float64):
    cell = make(Written, equation=NOT_AFFINE[name])
    assert not structure(Modules(cell)).affine
    assert agree(cell, RULES if name in CONTROLS else RULES[1:])
    dense = make(Dense, equation=NOT_AFFINE[name])
    assert not structure(Modules(dense)).affine


@pytest.mark.parametrize("name", CONTROLS)
def test_taken_for_affine_it_has_others(name, float64, monkeypatch):
    """The control of the test above."""
    # A function of its own, so that no compiled program is used again.
    cell = make(Written, equation=lambda *arguments: NOT_AFFINE[name](*arguments))
    guess = structure(Modules(cell))._replace(affine=True)
    monkeypatch.setattr("rtrl.engine._forward.structure", lambda modules: guess)
    assert not agree(cell)


@pytest.mark.parametrize("name", AFFINE)
def test_an_affine_cell_is_proven_so(name, float64):
    cell = make(Written, equation=AFFINE[name])
    assert structure(Modules(cell)).affine
    assert agree(cell)
    assert structure(Modules(make(Dense, equation=AFFINE[name]))).affine


@pytest.mark.parametrize("name", ONLY_STATES)
def test_so_has_one_without_a_gradient(name, float64):
    cell, xs = make(Written, equation=ONLY_STATES[name]), np.ones((T, H))
    assert not structure(Modules(cell)).affine
    assert np.allclose(by_the_engine(cell, xs, rtrl.BPTT()), by_a_loop(cell, xs), atol=1e-12)


def test_a_dense_cell_has_the_states_of_its_code(float64):
    for equation in (NOT_AFFINE["window"], AFFINE["gates"]):
        assert agree(make(Dense, equation=equation), rules=(rtrl.BPTT(),))


def test_cells_keep_their_fast_path():
    """Speed depends on it; and all contracts are proven, so that no cell is run at samples."""
    fast = {
        "LRU", "ComplexDiagonal", "LeakyIntegrator", "S4D", "S5", "RTU", "BlockDiagonal",
        "BlockDiagonal-3", "MinGRU", "MinLSTM", "HGRN", "RGLRU", "S6", "SignedGate", "ComplexGate",
        "LinearRNN",
    }  # fmt: skip
    for name, cell in ALL_CELLS.items():
        shown = structure(Modules(cell(4, jax.random.key(0))))
        assert shown.affine == (name in fast), name
        assert shown.independent and shown.holomorphic, name


# Cells drawn at random -------------------------------------------------------------------------

BINARY = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul,
    "div": lambda x, y: x / (2 + jnp.tanh(y)), "max": jnp.maximum,
    "mask": lambda x, y: x * (y > 0.3), "spikes": lambda x, y: x - spike(y - 0.5),
    "far": lambda x, y: jnp.where(y > 3, -x, x),
}  # fmt: skip
UNARY = {
    "neg": operator.neg, "tanh": jnp.tanh, "abs": jnp.abs, "sign": jnp.sign, "stop": stop,
    "floor": jnp.floor, "doubled": doubled_slope, "half": lambda x: 0.5 * x,
    "int": lambda x: x.astype(int).astype(float),
}  # fmt: skip
COMPLEX_BINARY = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul,
    "div": lambda x, y: x / (3 + 1j + jnp.tanh(y)),
    "far": lambda x, y: jnp.where(abs(y) > 1, -x, x),
}  # fmt: skip
COMPLEX_UNARY = {
    "neg": operator.neg, "exp": lambda x: jnp.exp(-0.1 * x), "stop": stop, "turn": lambda x: 1j * x,
    "conj": jnp.conj, "real": lambda x: x.real + 0j, "imag": lambda x: x.imag + 0j,
    "abs": lambda x: abs(x) + 0j,
}  # fmt: skip
LEAVES = ["h", "u", "a", "b", "away", "masked"]


def trees(unary, binary):
    def larger(parts):
        return st.one_of(
            st.tuples(st.sampled_from([*unary]), parts),
            st.tuples(st.sampled_from([*binary]), parts, parts),
        )

    return st.recursive(st.sampled_from([*LEAVES, "h", "h"]), larger, max_leaves=6)


class Drawn(Linear):
    tree: object = eqx.field(static=True)
    complex: bool = eqx.field(static=True)

    def initial(self):
        return jnp.zeros(N, complex if self.complex else float)

    def project(self):
        return self.W * (1 + 0.5j) if self.complex else self.W

    def update(self, h, u):
        unary, binary = (COMPLEX_UNARY, COMPLEX_BINARY) if self.complex else (UNARY, BINARY)
        leaves = {
            "h": h, "u": u, "a": self.a, "b": self.b, "away": (self.b - 1) * h,
            "masked": jnp.where(self.mask, h, u),
        }  # fmt: skip

        def value(node):
            if isinstance(node, str):
                return leaves[node] * (1 + 0j) if self.complex else leaves[node]
            name, *parts = node
            return {**unary, **binary}[name](*map(value, parts))

        return self.a * h + u + 0.3 * value(self.tree)


def uses(tree, names):
    return tree in names if isinstance(tree, str) else any(uses(part, names) for part in tree)


rules = st.sampled_from([(rule,) for rule in RULES])


def test_drawn_real_cells_have_the_states_and_gradients_of_a_loop(float64):
    affine = []

    @settings(max_examples=24)
    @given(trees(UNARY, BINARY), rules)
    def check(tree, rules):
        cell = make(Drawn, b=1.3, tree=tree, complex=False)
        affine.append(structure(Modules(cell)).affine)
        assert agree(cell, rules)

    check()
    assert 4 < sum(affine) < len(affine) - 4  # both paths have been tried


def test_drawn_complex_cells_have_them_or_are_refused(float64):
    outcomes = {"affine": 0, "general": 0, "refused": 0}

    @settings(max_examples=20)
    @given(trees(COMPLEX_UNARY, COMPLEX_BINARY), rules)
    def check(tree, rules):
        cell = make(Drawn, b=1.3, tree=tree, complex=True)
        try:
            rtrl.init_carry(cell, rtrl.BPTT())
        except ValueError as error:
            assert "not holomorphic" in str(error) and uses(tree, {"conj", "real", "imag", "abs"})
            outcomes["refused"] += 1
            return
        outcomes["affine" if structure(Modules(cell)).affine else "general"] += 1
        assert agree(cell, rules)

    check()
    assert min(outcomes.values()) > 2, outcomes


# Independent modules, holomorphic cells ----------------------------------------------------------


@jax.custom_jvp
def mixed_slope(x):
    return x


@mixed_slope.defjvp
def _(primals, tangents):
    return primals[0], jnp.roll(tangents[0], 1)


class Complex(Written):
    def initial(self):
        return jnp.zeros(N, complex)


class SharedRow(Written):
    """All modules see the first projected input, and share a parameter."""

    shared: jax.Array

    def project(self):
        return jnp.ones((1, H)), self.W

    def update(self, h, u):
        return self.shared * self.equation(self, h, u[0][0] * u[1])


class Seeing(Dense):
    def output(self, h):
        return jnp.where(jnp.abs(h) > 50, h[::-1], h)


#: Contradicted by a sample only where states are large, or parameters the cell's own.
CONTRADICTED = {
    "far away": (
        Written, lambda c, h, u: c.a * h + jnp.where(abs(h) > 50, jnp.roll(h, 1), u), "h of"),
    "own parameters": (
        Written, lambda c, h, u: c.a * h + u + (c.b > 9e4) * jnp.roll(h, 1), "h of"),
    "no derivative": (Written, lambda c, h, u: c.a * h + u * (h > h.mean()), "h of"),
    "derivative alone": (Written, lambda c, h, u: c.a * mixed_slope(h) + u, "h of"),
    "weak": (Written, lambda c, h, u: c.a * h + u + 1e-9 * jnp.roll(u, 1), r"u\[0\] of"),
    "beside what is not finite": (
        Written, lambda c, h, u: h * jnp.array([jnp.nan, 1, 1]) + jnp.roll(u, 1), r"u\[0\] of"),
    "output": (Seeing, lambda c, h, u: c.a * h + u, r"Seeing.output\(\): its modules"),
    "conj far away": (
        Complex, lambda c, h, u: c.a * jnp.where(abs(h) > 50, h.conj(), h) + u, "not holomorphic"),
    "own conj": (
        Complex, lambda c, h, u: jnp.where(c.b > 9e4, h.conj(), h) + u, "not holomorphic"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTED)
def test_a_sample_that_contradicts_the_contract_refuses_the_cell(name, float64):
    kind, equation, message = CONTRADICTED[name]
    cell = make(kind, equation=equation, b=1e5)
    shown = structure(Modules(cell))
    assert not (shown.independent and shown.holomorphic)
    with pytest.raises(ValueError, match=message):
        rtrl.init_carry(cell, rtrl.SnAp1())


#: Neither proven nor contradicted.
OPEN = {
    "there and back": (
        Written, lambda c, h, u: c.a * h[jnp.array([2, 0, 1])][jnp.array([1, 2, 0])] + u),
    "mixed nowhere": (Written, lambda c, h, u: c.a * h + u + (h > 1e9) * jnp.roll(h, 1)),
    "shared by all": (
        SharedRow, lambda c, h, u: (c.a * h)[jnp.array([2, 0, 1])][jnp.array([1, 2, 0])]
        + u),
    "two halves": (Complex, lambda c, h, u: c.a * jax.lax.complex(h.real, h.imag) + u),
}  # fmt: skip


@pytest.mark.parametrize("name", OPEN)
def test_what_is_neither_proven_nor_contradicted_takes_the_general_path(name, float64):
    kind, equation = OPEN[name]
    more: dict[str, Any] = {"shared": jnp.array(0.8)} if kind is SharedRow else {}
    cell = make(kind, equation=equation, **more)
    shown = structure(Modules(cell))
    assert not (shown.independent and shown.holomorphic) and not shown.affine
    assert agree(cell)


def test_a_proof_holds_for_the_precision_it_was_made_in():
    """A cell may ask for it."""

    def asks(c, h, u):
        return c.a * h + u if jnp.zeros(()).dtype == jnp.float32 else h * h

    with jax.enable_x64(False):
        cell = make(Written, equation=asks)
        assert structure(Modules(cell)).affine
    with jax.enable_x64(True):
        assert not structure(Modules(cell)).affine


def test_holomorphy_is_proven_of_what_is_not_affine(float64):
    cell = make(Complex, equation=lambda c, h, u: jnp.tanh(c.a * h) / (2 + jnp.exp(-h * h)) + u)
    assert structure(Modules(cell))[2:] == (False, True, True)
    assert agree(cell)


def test_code_that_no_proof_can_read_is_refused_by_name(float64):
    def python(c, h, u):
        return c.a * h + u if c.b[0] > 1 else h * h

    def backwards(c, h, u):
        f = jax.custom_vjp(lambda x: x)
        f.defvjp(lambda x: (x, None), lambda _, g: (g,))
        return c.a * f(h) + u

    for equation, message in ((python, "Written: .*Python looks"), (backwards, "jax.custom_vjp")):
        with pytest.raises(ValueError, match=message):
            rtrl.init_carry(make(Written, equation=equation), rtrl.BPTT())


def remembered(x):
    memory = jax.new_ref(jnp.zeros_like(x))
    memory[...] = x
    return memory[...]


def added_up(x):
    """Nothing comes out of what puts x there."""
    memory = jax.new_ref(jnp.zeros_like(x))
    jax.ref.addupdate(memory, ..., x)
    return memory[...]


def seen_later(x):
    """What a loop reads before it writes is what the round before wrote."""
    memory = jax.new_ref(jnp.zeros_like(x))

    def both(nothing, _):
        before = memory[...]
        memory[...] = x
        return nothing, before

    return jax.lax.scan(both, None, None, length=2)[1][1]


def called_back(x):
    """Through the host, which remembers: the second call is not given x."""
    call = jax.experimental.io_callback
    call(lambda value: value, x, x, ordered=True)
    return call(lambda: np.zeros(x.shape, x.dtype), x, ordered=True)


def across(h):
    return jnp.broadcast_to(h[:, None], (N, N))


def cumulated(h):
    return jax.lax.scan(lambda total, x: (total + x, total + x), 0.0, h)[1]


#: Of ``(c, h, u)``: independent, in ways that a proof must see through.
APART = [
    lambda c, h, u: jnp.stack([h, u]).T.reshape(N, 2, 1).sum((1, 2)),
    lambda c, h, u: jnp.cumsum(jnp.concatenate([h[None], u[None], 2 * h[None]]), 0)[1],
    lambda c, h, u: jnp.transpose(jnp.stack([h, u])[None], (2, 0, 1)).sum((1, 2)),
    lambda c, h, u: (jnp.ones((1, 2)) @ jnp.stack([h, u]))[0],
    lambda c, h, u: jnp.einsum("nd,d->n", jnp.stack([h, u], 1), jnp.ones(2)),
    lambda c, h, u: jax.lax.dynamic_index_in_dim(jnp.stack([h, u]), c.mask[0], 0, False),
    lambda c, h, u: jax.lax.scan(lambda z, x: (z * x, z), h, jnp.stack([h, u]))[1].sum(0),
    lambda c, h, u: jax.lax.cond(c.mask[0] > 1, lambda: h * u, lambda: jnp.ones(N)),
    lambda c, h, u: jax.lax.cond(c.mask[0] > 1, lambda: jnp.ones(N), lambda: h * u),
    lambda c, h, u: jnp.split(jnp.stack([spike(h), doubled_slope(u)]), 2)[0][0],
]  # fmt: skip
#: Not independent.
MIXED = [
    lambda c, h, u: h.sum() + u,
    lambda c, h, u: h[::-1] + u,
    lambda c, h, u: jnp.concatenate([h[1:], h[:1]]) + u,
    lambda c, h, u: h + u + jax.lax.slice(jnp.concatenate([h, h]), (1,), (1 + N,)),
    lambda c, h, u: jnp.cumsum(h),
    lambda c, h, u: jnp.broadcast_to(jax.lax.slice(h, (1,), (2,)), N) + u,
    lambda c, h, u: jnp.broadcast_to(jax.lax.dynamic_slice(h, c.mask[:1], (1,)), N) + u,
    lambda c, h, u: cumulated(h),
    lambda c, h, u: sum(jnp.unstack(across(h))) + u,
    lambda c, h, u: jax.lax.scan(lambda z, row: (z + row, None), u, across(h))[0],
    lambda c, h, u: jnp.sort(h),
    lambda c, h, u: h[c.mask],
    lambda c, h, u: jnp.ones((N, N)) @ h,
    lambda c, h, u: u * (h @ u),
    lambda c, h, u: (h[:, None] * u[None, :]).sum(1),
    lambda c, h, u: jnp.stack([h, u]).reshape(N, 2).sum(1),
    lambda c, h, u: jax.lax.cond(h.sum() > 0, lambda: u, lambda: -u),
    lambda c, h, u: jax.lax.cond(c.mask[0] > 0, lambda: h, lambda: h[::-1]),
    lambda c, h, u: jax.lax.cond(c.mask[0] > 0, lambda: across(h), lambda: across(h).T).sum(1),
    lambda c, h, u: jax.lax.cond(c.mask[0] > 0, lambda: across(h).T, lambda: across(h)).sum(1),
    lambda c, h, u: jax.lax.while_loop(lambda z: z.sum() > 1, lambda z: z / 2, h),
    lambda c, h, u: jnp.einsum("in,jn->ij", jnp.stack([h, u, h]), jnp.stack([h, u, u]))[0],
    lambda c, h, u: jnp.einsum("nm,nm->n", *jnp.broadcast_arrays(h[:, None], u[None, :])),
    lambda c, h, u: jax.lax.dot_general(
        across(h)[..., None], across(u).T[..., None], (((2,), (2,)), ((0, 1), (0, 1)))).sum(1),
    lambda c, h, u: h + remembered(u)[::-1],
    lambda c, h, u: h + added_up(u)[::-1],
    lambda c, h, u: h + jax.jit(added_up)(u)[::-1],
    lambda c, h, u: mixed_slope(h) + u,
]  # fmt: skip


def test_independence_is_proven_of_independent_modules_alone(float64):
    for place, equation in enumerate(APART):
        assert structure(Modules(make(Written, equation=equation))).independent, place
    for place, equation in enumerate(MIXED):
        assert not structure(Modules(make(Written, equation=equation))).independent, place


def test_one_module_may_branch_on_its_state(float64):
    """Of a single module nothing is mixed, so all hangs on what is affine."""

    class Single(Written):
        def initial(self):
            return jnp.zeros(1)

    for expected, equation in (
        (False, lambda c, h, u: jax.lax.cond(h[0] > 0.1, lambda: h + u, lambda: u - h)),
        (
            False,
            lambda c, h, u: jax.lax.fori_loop(0, (3 * h[0]).astype(int), lambda i, z: z / 2, u),
        ),
        (True, lambda c, h, u: jax.lax.cond(u[0] > 0.1, lambda: h + u, lambda: u - h)),
    ):
        cell = Single(jnp.ones((1, H)), jnp.ones(1), jnp.ones(1), jnp.ones(1, int), equation)
        shown = structure(Modules(cell))
        assert (shown.affine, shown.independent) == (expected, True)


def test_what_a_proof_may_not_overlook(float64):
    """Numbers of another kind, and what is done on the side."""

    def cut(c, h, u):
        real = jax.lax.convert_element_type_p.bind(
            h, new_dtype=np.dtype("f8"), weak_type=False, sharding=None
        )
        return real + u

    def printed(c, h, u):
        jax.debug.print("{}", h)
        return c.a * h + u

    assert not structure(Modules(make(Complex, equation=cut))).affine
    shown = structure(Modules(make(Written, equation=printed)))
    assert shown.independent and not shown.affine
    with jax.enable_x64(False):
        coarse = make(Written, equation=lambda c, h, u: h.astype(jnp.bfloat16).astype("f4") + u)
        assert coarse.a.dtype == jnp.float32 and not structure(Modules(coarse)).affine


# What depends on what ----------------------------------------------------------------------------


def test_dependence_is_proven():
    """Where values do not tell, where a batching rule lies, and through memory."""

    @jax.custom_batching.custom_vmap
    def liar(x):
        return 2 * x

    @liar.def_vmap
    def _(size, batched, x):
        return 2 * x[0], False

    one, dependent = jnp.ones(()), {
        "away from one": lambda x: (x - 1) * 3,
        "stopped": stop,
        "compared": lambda x: jnp.where(x > 5, 1.0, 2.0),
        "counted": lambda x: jax.lax.while_loop(lambda z: z < x, lambda z: z + 1, 0.0),
        "carried": lambda x: jax.lax.fori_loop(0, 3, lambda i, z: (z[1], x), (0.0, 0.0))[0],
        "carried on": lambda x: jax.lax.while_loop(
            lambda z: z[0] < 3, lambda z: (z[0] + 1, x, z[1]), (0, 0.0, 0.0))[2],
        "branch": lambda x: jax.lax.cond(x > 5, lambda: 1.0, lambda: 2.0),
        "spike": spike,
        "liar": liar,
        "remembered": remembered,
        "added up": added_up,
        "called back": called_back,
        "seen later": seen_later,
    }  # fmt: skip
    for name, function in dependent.items():
        assert depends(function, one), name
    free = {
        "shape": jnp.zeros_like,
        "other half": lambda x: jax.jit(lambda a, b: (a, b))(x, 3.0)[1],
        "carried": lambda x: jax.lax.fori_loop(0, 3, lambda i, z: (x, 2 * z[1]), (0.0, 1.0))[1],
        "slope": lambda x: jax.jvp(lambda x: 3 * x, (x,), (1.0,))[1],
    }
    for name, function in free.items():
        assert not depends(function, one), name


def test_a_parameter_that_matters_nowhere_near_one_is_a_module_parameter(float64):
    for equation in (
        lambda c, h, u: c.a * h + (c.b - 1) * (h > 0.5) * u,
        lambda c, h, u: c.a * h + jnp.where(c.mask > 1, c.b, 0) * u,
        lambda c, h, u: jax.lax.cond(c.mask[0] > 7, lambda: c.b, lambda: c.a) * h + u,
    ):
        shown = structure(Modules(make(Written, equation=equation)))
        assert (shown.module_leaves, shown.projection_leaves) == ((1, 2), (0,))


def test_constants_that_compare_equal_are_not_the_same_cell():
    class Powered(Linear):
        power: float

        def update(self, h, u):
            return self.a * h + u if isinstance(self.power, int) else self.a * h**self.power + u

    assert structure(Modules(make(Powered, power=2))).affine
    assert not structure(Modules(make(Powered, power=2.0))).affine
