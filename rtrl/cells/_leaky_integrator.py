"""The leaky integrator."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._exponents import leak
from rtrl.validate import require


class LeakyIntegrator(Cell):
    """Leaky integrator: a real low-pass filter of its input current, one timescale a module.

    ::

        h_t = a * h_{t-1} + (1 - a) * (W x_t + b),   a = exp(-1 / tau),   tau = exp(tau_log)

    W is the field ``weight``, b is ``bias``.

    Initialisation: tau log-uniform in ``[tau_min, tau_max]`` (timesteps), so that short and long
    memories are both there to be learned from; W normal with variance ``1 / H``; b zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        tau_min, tau_max: bounds on the initial time constants, timesteps,
            ``0 < tau_min <= tau_max``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Gerstner et al., "Neuronal Dynamics" (2014), equation 1.5, integrated exactly over a
    timestep.
    """

    tau_log: Float[Array, " N"]
    weight: Float[Array, "N H"]
    bias: Float[Array, " N"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        tau_min: float = 1.0,
        tau_max: float = 100.0,
        key: PRNGKeyArray,
    ):
        require(in_size >= 1, "in_size", "at least 1", in_size)
        require(hidden_size >= 1, "hidden_size", "at least 1", hidden_size)
        require(tau_min > 0, "tau_min", "a positive number of timesteps", tau_min)
        require(tau_max >= tau_min, "tau_max", f"at least tau_min = {tau_min}", tau_max)
        tau_key, weight_key = jax.random.split(key)
        self.tau_log = jax.random.uniform(
            tau_key, (hidden_size,), minval=math.log(tau_min), maxval=math.log(tau_max)
        )
        self.weight = jax.random.normal(weight_key, (hidden_size, in_size)) / math.sqrt(in_size)
        self.bias = jnp.zeros(hidden_size)

    def project(self) -> Float[Array, "N H"]:
        return self.weight

    def update(self, h: Float[Array, " N"], u: Float[Array, " N"]) -> Float[Array, " N"]:
        a = leak(self.tau_log)
        return a * h + (1 - a) * (u + self.bias)
