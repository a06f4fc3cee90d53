"""Recurrences gated by their own state, module by module: RNN, GRU and LSTM."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._initial import hold, log_uniform, weight

RECURRENT_STD = 0.5  # of the recurrent weights of gates and candidates: one input each


class ElementwiseRNN(Cell):
    """Vanilla RNN whose neurons see no other neuron's state.

    ::

        h_t = tanh(W x_t + w * h_{t-1} + b)

    Initialisation: ``w = exp(-1 / tau)``, tau log-uniform in ``[tau_min, tau_max]`` (timesteps, of
    a neuron near zero); W normal with variance ``1 / H``; b zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        tau_min, tau_max: bounds on the initial time constants, timesteps,
            ``0 < tau_min <= tau_max``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Li et al., "Independently recurrent neural network" (2018), equation 2, with tanh.
    """

    W: Float[Array, "N H"]
    w: Float[Array, " N"]
    b: Float[Array, " N"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        tau_min: float = 1.0,
        tau_max: float = 100.0,
        key: PRNGKeyArray,
    ):
        tau_key, key = jax.random.split(key)
        self.W = weight(in_size, hidden_size, key=key)
        self.w = jnp.exp(-jnp.exp(-log_uniform(tau_min, tau_max, hidden_size, key=tau_key)))
        self.b = jnp.zeros(hidden_size)

    def project(self) -> Float[Array, "N H"]:
        return self.W

    def update(self, h: Float[Array, " N"], u: Float[Array, " N"]) -> Float[Array, " N"]:
        return jnp.tanh(u + self.w * h + self.b)


class ElementwiseGRU(Cell):
    """Gated recurrent unit whose neurons see no other neuron's state.

    ::

        r_t = sigmoid(W_r x_t + w_r * h_{t-1} + b_r)
        f_t = sigmoid(W_f x_t + w_f * h_{t-1} + b_f)
        n_t = tanh(W_n x_t + b_n + r_t * (w_n * h_{t-1} + b_h))
        h_t = f_t * h_{t-1} + (1 - f_t) * n_t

    Initialisation: ``sigmoid(b_f) = exp(-1 / tau)``, tau log-uniform in ``[tau_min, tau_max]``
    (timesteps); weights W normal with variance ``1 / H``, w normal with standard deviation 1/2;
    other biases zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        tau_min, tau_max: bounds on the initial time constants, timesteps,
            ``0 < tau_min <= tau_max``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Zucchet et al. (2023), equations A.15-A.18, with diagonal recurrent weights.
    """

    W_r: Float[Array, "N H"]
    w_r: Float[Array, " N"]
    b_r: Float[Array, " N"]
    W_f: Float[Array, "N H"]
    w_f: Float[Array, " N"]
    b_f: Float[Array, " N"]
    W_n: Float[Array, "N H"]
    w_n: Float[Array, " N"]
    b_n: Float[Array, " N"]
    b_h: Float[Array, " N"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        tau_min: float = 1.0,
        tau_max: float = 100.0,
        key: PRNGKeyArray,
    ):
        r_key, f_key, n_key, w_key, tau_key = jax.random.split(key, 5)
        self.W_r = weight(in_size, hidden_size, key=r_key)
        self.W_f = weight(in_size, hidden_size, key=f_key)
        self.W_n = weight(in_size, hidden_size, key=n_key)
        self.w_r, self.w_f, self.w_n = RECURRENT_STD * jax.random.normal(w_key, (3, hidden_size))
        self.b_f = hold(log_uniform(tau_min, tau_max, hidden_size, key=tau_key))
        self.b_r, self.b_n, self.b_h = jnp.zeros((3, hidden_size))

    def project(self) -> tuple[Float[Array, "N H"], ...]:
        return self.W_r, self.W_f, self.W_n

    def update(self, h: Float[Array, " N"], u: tuple[Array, ...]) -> Float[Array, " N"]:
        r = jax.nn.sigmoid(u[0] + self.w_r * h + self.b_r)
        f = jax.nn.sigmoid(u[1] + self.w_f * h + self.b_f)
        n = jnp.tanh(u[2] + self.b_n + r * (self.w_n * h + self.b_h))
        return f * h + (1 - f) * n


class ElementwiseLSTM(Cell):
    """The eLSTM: an LSTM with coupled gates whose neurons see no other neuron's state.

    ::

        f_t = sigmoid(W_f x_t + w_f * c_{t-1} + b_f)
        z_t = tanh(W_z x_t + w_z * c_{t-1} + b_z)
        c_t = f_t * c_{t-1} + (1 - f_t) * z_t
        o_t = sigmoid(W_o x_t + w_o * c_t + b_o),   y_t = o_t * c_t

    Two numbers per module: c, which is the memory, and y, which is the output. The paper's output
    gate has a full matrix on ``c_t``; that would let modules interact, so it is diagonal here.

    Initialisation: ``sigmoid(b_f) = exp(-1 / tau)``, tau log-uniform in ``[tau_min, tau_max]``
    (timesteps); weights W normal with variance ``1 / H``, w normal with standard deviation 1/2;
    other biases zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(c, y)``, each ``(N,)`` real, the output y.
        tau_min, tau_max: bounds on the initial time constants, timesteps,
            ``0 < tau_min <= tau_max``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Irie et al., "Exploring the promise and limits of real-time recurrent learning" (2024),
    section 3.1.
    """

    W_f: Float[Array, "N H"]
    w_f: Float[Array, " N"]
    b_f: Float[Array, " N"]
    W_z: Float[Array, "N H"]
    w_z: Float[Array, " N"]
    b_z: Float[Array, " N"]
    W_o: Float[Array, "N H"]
    w_o: Float[Array, " N"]
    b_o: Float[Array, " N"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        tau_min: float = 1.0,
        tau_max: float = 100.0,
        key: PRNGKeyArray,
    ):
        f_key, z_key, o_key, w_key, tau_key = jax.random.split(key, 5)
        self.W_f = weight(in_size, hidden_size, key=f_key)
        self.W_z = weight(in_size, hidden_size, key=z_key)
        self.W_o = weight(in_size, hidden_size, key=o_key)
        self.w_f, self.w_z, self.w_o = RECURRENT_STD * jax.random.normal(w_key, (3, hidden_size))
        self.b_f = hold(log_uniform(tau_min, tau_max, hidden_size, key=tau_key))
        self.b_z, self.b_o = jnp.zeros((2, hidden_size))

    def project(self) -> tuple[Float[Array, "N H"], ...]:
        return self.W_f, self.W_z, self.W_o

    def initial(self) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        return jnp.zeros_like(self.b_f), jnp.zeros_like(self.b_f)

    def update(self, h: tuple[Array, Array], u: tuple[Array, ...]) -> tuple[Array, Array]:
        c, _ = h
        f = jax.nn.sigmoid(u[0] + self.w_f * c + self.b_f)
        z = jnp.tanh(u[1] + self.w_z * c + self.b_z)
        c = f * c + (1 - f) * z
        o = jax.nn.sigmoid(u[2] + self.w_o * c + self.b_o)
        return c, o * c

    def output(self, h: tuple[Array, Array]) -> Float[Array, " N"]:
        return h[1]
