"""Recurrent trace units."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._exponents import ANGLE_LOG, capped, decay, normaliser
from rtrl.cells._initial import weight
from rtrl.cells._lru import ring


class RTU(Cell):
    """Recurrent trace unit: a damped rotation of two real numbers per module.

    ::

        c1_t = f(r cos(theta) * c1_{t-1} - r sin(theta) * c2_{t-1} + gamma * (W1 x_t))
        c2_t = f(r sin(theta) * c1_{t-1} + r cos(theta) * c2_{t-1} + gamma * (W2 x_t))
        r = exp(-exp(nu_log)),   theta = exp(theta_log),   gamma = sqrt(1 - r^2)

    The `LRU` in real numbers, but gamma follows r as it is learned, and it may be nonlinear: f is
    the identity by default (the paper's linear RTU, whose nonlinearity acts on what is read).

    Initialisation: r^2 uniform in ``[r_min^2, r_max^2]``, theta uniform in ``[0, max_phase]``, W1
    and W2 normal with variance ``1 / H``. A module forgets over about ``-1 / log r`` timesteps.

    Any finite parameters are fit to use: beyond ``theta_log = 20``, where neighbouring float32
    angles are turns apart, it changes nothing.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state and the output are ``(c1, c2)``, each ``(N,)`` real.
        r_min, r_max: bounds on the initial r, ``0 <= r_min <= r_max <= 1``.
        max_phase: largest initial angle, radians, positive.
        activation: f, elementwise; ``None`` for the identity. With ``jax.nn.relu`` or ``jnp.tanh``
            the paper's nonlinear RTU.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Elelimy et al., "Real-time recurrent learning using trace units in reinforcement
    learning" (2024), section 3.
    """

    nu_log: Float[Array, " N"]
    theta_log: Float[Array, " N"]
    W1: Float[Array, "N H"]
    W2: Float[Array, "N H"]
    activation: Callable[[Array], Array] | None = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 6.2832,
        activation: Callable[[Array], Array] | None = None,
        key: PRNGKeyArray,
    ):
        ring_key, key1, key2 = jax.random.split(key, 3)
        nu, theta = ring(hidden_size, r_min, r_max, max_phase, key=ring_key)
        self.nu_log = jnp.log(nu)
        self.theta_log = jnp.log(theta)
        self.W1 = weight(in_size, hidden_size, key=key1)
        self.W2 = weight(in_size, hidden_size, key=key2)
        self.activation = activation

    def project(self) -> tuple[Float[Array, "N H"], Float[Array, "N H"]]:
        return self.W1, self.W2

    def initial(self) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        return jnp.zeros_like(self.nu_log), jnp.zeros_like(self.nu_log)

    def update(self, h, u):
        c1, c2 = h
        theta = jnp.exp(capped(self.theta_log, ANGLE_LOG))
        r, gamma = decay(self.nu_log), normaliser(self.nu_log)
        cos, sin = r * jnp.cos(theta), r * jnp.sin(theta)
        c1, c2 = cos * c1 - sin * c2 + gamma * u[0], sin * c1 + cos * c2 + gamma * u[1]
        return (c1, c2) if self.activation is None else (self.activation(c1), self.activation(c2))
