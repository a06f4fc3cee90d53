"""Minimal gated recurrences: the gates see the input only."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._initial import hold, log_uniform, weight


class MinGRU(Cell):
    """Minimal GRU: a convex mix of the past and a candidate, gated by the input.

    ::

        z_t = sigmoid(W_z x_t + b_z),   h_t = (1 - z_t) * h_{t-1} + z_t * (W_h x_t + b_h)

    Initialisation: b_z such that ``1 - sigmoid(b_z) = exp(-1 / tau)``, tau log-uniform in
    ``[tau_min, tau_max]`` (timesteps; the paper's b_z of one value gives every module the same
    memory); weights normal with variance ``1 / H``; b_h zero. The decay ``1 - z_t`` is positive:
    no module can count modulo two.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        tau_min, tau_max: bounds on the initial time constants, timesteps,
            ``0 < tau_min <= tau_max``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Feng et al., "Were RNNs all we needed?" (2024), section 3.1.
    """

    W_z: Float[Array, "N H"]
    b_z: Float[Array, " N"]
    W_h: Float[Array, "N H"]
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
        z_key, h_key, tau_key = jax.random.split(key, 3)
        self.W_z = weight(in_size, hidden_size, key=z_key)
        self.b_z = -hold(log_uniform(tau_min, tau_max, hidden_size, key=tau_key))
        self.W_h = weight(in_size, hidden_size, key=h_key)
        self.b_h = jnp.zeros(hidden_size)

    def project(self) -> tuple[Float[Array, "N H"], Float[Array, "N H"]]:
        return self.W_z, self.W_h

    def update(self, h: Float[Array, " N"], u: tuple[Array, Array]) -> Float[Array, " N"]:
        z = jax.nn.sigmoid(u[0] + self.b_z)
        return (1 - z) * h + z * (u[1] + self.b_h)


class MinLSTM(Cell):
    """Minimal LSTM: forget and input gates from the input, normalised to sum to one.

    ::

        f_t = sigmoid(W_f x_t + b_f),   i_t = sigmoid(W_i x_t + b_i)
        h_t = f_t / (f_t + i_t) * h_{t-1} + i_t / (f_t + i_t) * (W_h x_t + b_h)

    Initialisation: ``b_f = -b_i`` such that ``f / (f + i) = exp(-1 / tau)`` at zero input, tau
    log-uniform in ``[tau_min, tau_max]`` (timesteps); weights normal with variance ``1 / H``; b_h
    zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        tau_min, tau_max: bounds on the initial time constants, timesteps,
            ``0 < tau_min <= tau_max``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Feng et al., "Were RNNs all we needed?" (2024), section 3.2.
    """

    W_f: Float[Array, "N H"]
    b_f: Float[Array, " N"]
    W_i: Float[Array, "N H"]
    b_i: Float[Array, " N"]
    W_h: Float[Array, "N H"]
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
        f_key, i_key, h_key, tau_key = jax.random.split(key, 4)
        self.W_f = weight(in_size, hidden_size, key=f_key)
        self.W_i = weight(in_size, hidden_size, key=i_key)
        self.W_h = weight(in_size, hidden_size, key=h_key)
        # f / i = sigmoid(b) / sigmoid(-b) = exp(b) is the odds of the gate f / (f + i).
        self.b_f = hold(log_uniform(tau_min, tau_max, hidden_size, key=tau_key))
        self.b_i = -self.b_f
        self.b_h = jnp.zeros(hidden_size)

    def project(self) -> tuple[Float[Array, "N H"], ...]:
        return self.W_f, self.W_i, self.W_h

    def update(self, h: Float[Array, " N"], u: tuple[Array, ...]) -> Float[Array, " N"]:
        # f / (f + i) as the sigmoid of log f - log i: where both vanish their quotient does not.
        log_odds = jax.nn.log_sigmoid(u[0] + self.b_f) - jax.nn.log_sigmoid(u[1] + self.b_i)
        return jax.nn.sigmoid(log_odds) * h + jax.nn.sigmoid(-log_odds) * (u[2] + self.b_h)
