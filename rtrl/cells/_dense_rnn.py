"""Recurrences whose modules see each other: linear and vanilla RNN, GRU and LSTM."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._initial import check_sizes, chrono, connections, dense_weight, weight
from rtrl.validate import require


class LinearRNN(Cell):
    """Linear RNN with a full recurrent matrix.

    ::

        h_t = A h_{t-1} + B x_t

    Initialisation: A is drawn normal with variance ``1 / N``; its eigenvalues are moved to
    ``(nu0 + (1 - nu0) tanh|lambda|) exp(i angle(lambda) / pi * theta0)`` in their eigenbasis, so
    that all moduli are in [nu0, 1). Conjugate pairs stay pairs; a real eigenvalue, which has no
    partner, stays real, with the sign of ``cos(angle / pi * theta0)``. B normal with variance
    ``1 / H``.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        nu0: the least modulus of an eigenvalue, in [0, 1).
        theta0: the largest phase, radians in (0, pi].
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or an argument out of its range.

    Source: Zucchet et al. (2023), appendix A.4.
    """

    A: Float[Array, "N N"]
    B: Float[Array, "N H"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        nu0: float = 0.9,
        theta0: float = math.pi,
        key: PRNGKeyArray,
    ):
        check_sizes(in_size, hidden_size)
        require(0 <= nu0 < 1, "nu0", "a modulus in [0, 1)", nu0)
        require(0 < theta0 <= math.pi, "theta0", "a phase in (0, pi]", theta0)
        eigenvalues, V = jnp.linalg.eig(dense_weight(hidden_size, key=key))
        modulus = nu0 + (1 - nu0) * jnp.tanh(jnp.abs(eigenvalues))
        phase = jnp.angle(eigenvalues) / jnp.pi * theta0
        turn = jnp.where(eigenvalues.imag == 0, jnp.sign(jnp.cos(phase)), jnp.exp(1j * phase))
        A = jnp.linalg.solve(V.T, (V * (modulus * turn)).T).T.real  # V diag V^-1
        self.A = A.astype(jnp.finfo(A.dtype).dtype)
        self.B = weight(in_size, hidden_size, key=key)

    def project(self) -> Float[Array, "N H"]:
        return self.B

    def recurrent(self) -> Float[Array, "N N"]:
        return self.A

    def update(
        self, h: Float[Array, " N"], u: Float[Array, " N"], v: Float[Array, " N"]
    ) -> Float[Array, " N"]:
        return u + v


class VanillaRNN(Cell):
    """Vanilla RNN.

    ::

        h_t = tanh(W x_t + U h_{t-1} + b)

    Initialisation: W normal with variance ``1 / H``, U with variance ``gain^2 / N``; b zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        gain: of U; above 1 a large network without input is chaotic. Positive.
        density: share of the recurrent weights that there are, in (0, 1]; those that are missing
            are zero for good (`mask`), and the others scaled up to keep the variance of a sum.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or an argument out of its range.

    Source: Elman, "Finding structure in time" (1990); sparse as in Menick et al. (2021).
    """

    W: Float[Array, "N H"]
    U: Float[Array, "N N"]
    b: Float[Array, " N"]
    mask: Bool[Array, "N N"] | None

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        gain: float = 1.0,
        density: float = 1.0,
        key: PRNGKeyArray,
    ):
        check_sizes(in_size, hidden_size)
        self.mask = connections(hidden_size, density, key=key)
        self.W = weight(in_size, hidden_size, key=key)
        self.U = dense_weight(hidden_size, gain=gain, key=key) / math.sqrt(density)
        self.b = jnp.zeros(hidden_size)

    def project(self) -> Float[Array, "N H"]:
        return self.W

    def recurrent(self) -> Float[Array, "N N"]:
        return self.U if self.mask is None else jnp.where(self.mask, self.U, 0)

    def update(
        self, h: Float[Array, " N"], u: Float[Array, " N"], v: Float[Array, " N"]
    ) -> Float[Array, " N"]:
        return jnp.tanh(u + v + self.b)


class GRU(Cell):
    """Gated recurrent unit.

    ::

        r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)
        f_t = sigmoid(W_f x_t + U_f h_{t-1} + b_f)
        n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + b_h))
        h_t = f_t * h_{t-1} + (1 - f_t) * n_t

    Initialisation: ``b_f = log T``, T uniform in ``[1, 2] / (1 - nu0)`` timesteps (Chrono);
    weights W normal with variance ``1 / H``, U with variance ``1 / N``; other biases zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        nu0: how long the gates hold at first, a decay in [0, 1).
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or an argument out of its range.

    Source: Zucchet et al. (2023), equations A.15-A.18; Cho et al. (2014).
    """

    W_r: Float[Array, "N H"]
    U_r: Float[Array, "N N"]
    b_r: Float[Array, " N"]
    W_f: Float[Array, "N H"]
    U_f: Float[Array, "N N"]
    b_f: Float[Array, " N"]
    W_n: Float[Array, "N H"]
    U_n: Float[Array, "N N"]
    b_n: Float[Array, " N"]
    b_h: Float[Array, " N"]

    def __init__(self, in_size: int, hidden_size: int, *, nu0: float = 0.9, key: PRNGKeyArray):
        check_sizes(in_size, hidden_size)
        r_key, f_key, n_key, b_key = jax.random.split(key, 4)
        self.W_r, self.W_f, self.W_n = (
            weight(in_size, hidden_size, key=k) for k in (r_key, f_key, n_key)
        )
        self.U_r, self.U_f, self.U_n = (
            dense_weight(hidden_size, key=k) for k in (r_key, f_key, n_key)
        )
        self.b_f = chrono(nu0, hidden_size, key=b_key)
        self.b_r, self.b_n, self.b_h = jnp.zeros((3, hidden_size))

    def project(self) -> tuple[Float[Array, "N H"], ...]:
        return self.W_r, self.W_f, self.W_n

    def recurrent(self) -> tuple[Float[Array, "N N"], ...]:
        return self.U_r, self.U_f, self.U_n

    def update(
        self, h: Float[Array, " N"], u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> Float[Array, " N"]:
        r = jax.nn.sigmoid(u[0] + v[0] + self.b_r)
        f = jax.nn.sigmoid(u[1] + v[1] + self.b_f)
        n = jnp.tanh(u[2] + self.b_n + r * (v[2] + self.b_h))
        return f * h + (1 - f) * n


class LSTM(Cell):
    """Long short-term memory.

    ::

        i_t = sigmoid(W_i x_t + U_i y_{t-1} + b_i)
        f_t = sigmoid(W_f x_t + U_f y_{t-1} + b_f)
        o_t = sigmoid(W_o x_t + U_o y_{t-1} + b_o)
        z_t = tanh(W_z x_t + U_z y_{t-1} + b_z)
        c_t = f_t * c_{t-1} + i_t * z_t
        y_t = o_t * tanh(c_t)

    Two numbers per module: c, which is the memory, and y, which is the output.

    Initialisation: ``b_f = log T``, T uniform in ``[1, 2] / (1 - nu0)`` timesteps, ``b_i = -b_f``
    (Chrono); weights W normal with variance ``1 / H``, U with variance ``1 / N``; other biases
    zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(c, y)``, each ``(N,)`` real, the output y.
        nu0: how long the gates hold at first, a decay in [0, 1).
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or an argument out of its range.

    Source: Gers et al., "Learning to forget" (2000), without peepholes; Tallec & Ollivier, "Can
    recurrent neural networks warp time?" (2018), section 3 (Chrono).
    """

    W_i: Float[Array, "N H"]
    U_i: Float[Array, "N N"]
    b_i: Float[Array, " N"]
    W_f: Float[Array, "N H"]
    U_f: Float[Array, "N N"]
    b_f: Float[Array, " N"]
    W_o: Float[Array, "N H"]
    U_o: Float[Array, "N N"]
    b_o: Float[Array, " N"]
    W_z: Float[Array, "N H"]
    U_z: Float[Array, "N N"]
    b_z: Float[Array, " N"]

    def __init__(self, in_size: int, hidden_size: int, *, nu0: float = 0.9, key: PRNGKeyArray):
        check_sizes(in_size, hidden_size)
        b_key, *keys = jax.random.split(key, 5)
        self.W_i, self.W_f, self.W_o, self.W_z = (weight(in_size, hidden_size, key=k) for k in keys)
        self.U_i, self.U_f, self.U_o, self.U_z = (dense_weight(hidden_size, key=k) for k in keys)
        self.b_f = chrono(nu0, hidden_size, key=b_key)
        self.b_i = -self.b_f
        self.b_o, self.b_z = jnp.zeros((2, hidden_size))

    def project(self) -> tuple[Float[Array, "N H"], ...]:
        return self.W_i, self.W_f, self.W_o, self.W_z

    def recurrent(self) -> tuple[Float[Array, "N N"], ...]:
        return self.U_i, self.U_f, self.U_o, self.U_z

    def initial(self) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        return jnp.zeros_like(self.b_f), jnp.zeros_like(self.b_f)

    def update(
        self, h: tuple[Array, Array], u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        i = jax.nn.sigmoid(u[0] + v[0] + self.b_i)
        f = jax.nn.sigmoid(u[1] + v[1] + self.b_f)
        o = jax.nn.sigmoid(u[2] + v[2] + self.b_o)
        c = f * h[0] + i * jnp.tanh(u[3] + v[3] + self.b_z)
        return c, o * jnp.tanh(c)

    def output(self, h: tuple[Array, Array]) -> Float[Array, " N"]:
        return h[1]
