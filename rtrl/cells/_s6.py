"""The selective state space recurrence of Mamba, one state per channel."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._exponents import capped
from rtrl.cells._initial import log_uniform, weight
from rtrl.cells._zero_order_hold import hold_gain

A_LOG = 50.0  # near the end of float32's range: the rate multiplies steps and inputs


class S6(Cell):
    """Selective state space model: the input decides how fast a channel forgets.

    ::

        Delta_t = softplus(W_delta x_t + b_delta),   A = -exp(A_log)
        h_t = exp(Delta_t A) * h_{t-1} + (exp(Delta_t A) - 1) / A * ((w_B . x_t) (W x_t))

    The exact solution of ``dh/dt = A h + B_t v_t`` for an input ``v_t = W x_t`` held over Delta_t;
    B_t is one number that all channels share.

    Left out of Mamba: more than one state per channel, the readout C_t that depends on the input
    (a cell's output sees its state only), the short convolution, the gate and the skip (the
    network's readout has them). Delta_t has a full weight where Mamba's is of low rank.

    Initialisation: A = -1; ``softplus(b_delta)`` log-uniform in ``[delta_min, delta_max]``; weights
    and w_B normal with variance ``1 / H``. At zero input a channel forgets over ``1 / Delta``
    timesteps. Beyond ``A_log = 50``, near the end of float32's range, it changes nothing.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules (channels); the state is ``(N,)`` real.
        delta_min, delta_max: bounds on the initial step size (continuous time per timestep),
            ``0 < delta_min <= delta_max``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Gu & Dao, "Mamba: linear-time sequence modeling with selective state spaces" (2023),
    equation 4, algorithm 2 and section 3.6.
    """

    A_log: Float[Array, " N"]
    W_delta: Float[Array, "N H"]
    b_delta: Float[Array, " N"]
    w_B: Float[Array, "1 H"]
    W: Float[Array, "N H"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        delta_min: float = 0.001,
        delta_max: float = 0.1,
        key: PRNGKeyArray,
    ):
        w_delta_key, b_delta_key, b_key, key = jax.random.split(key, 4)
        self.W_delta = weight(in_size, hidden_size, key=w_delta_key)
        self.w_B = weight(in_size, 1, key=b_key)
        self.W = weight(in_size, hidden_size, key=key)
        delta_log = log_uniform(delta_min, delta_max, hidden_size, key=b_delta_key, name="delta")
        self.b_delta = jnp.log(jnp.expm1(jnp.exp(delta_log)))  # the inverse of softplus
        self.A_log = jnp.zeros(hidden_size)

    def project(self) -> tuple[Float[Array, "N H"], Float[Array, "1 H"], Float[Array, "N H"]]:
        return self.W_delta, self.w_B, self.W

    def update(self, h: Float[Array, " N"], u: tuple[Array, ...]) -> Float[Array, " N"]:
        delta = jax.nn.softplus(u[0] + self.b_delta)
        A = -jnp.exp(capped(self.A_log, A_LOG))
        return jnp.exp(delta * A) * h + hold_gain(A, delta) * (u[1] * u[2])
