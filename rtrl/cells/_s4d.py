"""The diagonal S4 of Zucchet et al. (2023)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._exponents import GROWTH_LOG, capped
from rtrl.cells._initial import check_sizes, log_uniform
from rtrl.cells._lru import complex_weight


class S4D(Cell):
    """Diagonal state space model with a learned step size per module.

    ::

        h_t = exp((w_re + i w_im) Delta) * h_{t-1} + Delta * (B x_t)
        Delta = softplus(w_delta),   B = B_re + i B_im

    Initialisation: Delta log-uniform in ``[delta_min, delta_max]``; w_re = -1/2; w_im of module n
    is ``pi n`` (S4D-Lin); real and imaginary parts of B normal with variance ``1 / (2 H)``. A
    module forgets over about ``2 / Delta`` timesteps. Nothing keeps w_re negative: where learning
    pushes it above zero the module is unstable; ``w_re Delta`` counts as 60 beyond, near the end
    of float32's range, so that one timestep stays finite.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` complex.
        delta_min, delta_max: bounds on the initial step size (continuous time per timestep),
            ``0 < delta_min <= delta_max``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Zucchet et al. (2023), equations A.12-A.14; initialisation of Gu et al., "On the
    parameterization and initialization of diagonal state space models" (2022), section 4.
    """

    w_re: Float[Array, " N"]
    w_im: Float[Array, " N"]
    w_delta: Float[Array, " N"]
    B_re: Float[Array, "N H"]
    B_im: Float[Array, "N H"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        delta_min: float = 0.001,
        delta_max: float = 0.1,
        key: PRNGKeyArray,
    ):
        check_sizes(in_size, hidden_size)
        delta_key, weight_key = jax.random.split(key)
        delta_log = log_uniform(delta_min, delta_max, hidden_size, key=delta_key, name="delta")
        self.w_re = jnp.full(hidden_size, -0.5)
        self.w_im = math.pi * jnp.arange(float(hidden_size))
        self.w_delta = jnp.log(jnp.expm1(jnp.exp(delta_log)))  # the inverse of softplus
        self.B_re, self.B_im = complex_weight(in_size, hidden_size, key=weight_key)

    def project(self) -> Complex[Array, "N H"]:
        return jax.lax.complex(self.B_re, self.B_im)

    def update(self, h: Complex[Array, " N"], u: Complex[Array, " N"]) -> Complex[Array, " N"]:
        delta = jax.nn.softplus(self.w_delta)
        exponent = jax.lax.complex(capped(self.w_re * delta, GROWTH_LOG), self.w_im * delta)
        return jnp.exp(exponent) * h + delta * u
