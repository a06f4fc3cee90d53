"""The linear recurrent unit."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._exponents import ANGLE_LOG, GAIN_LOG, RATE_LOG, capped
from rtrl.validate import require


class LRU(Cell):
    """Linear recurrent unit: a diagonal complex linear recurrence with stable parametrisation.

    ::

        h_t = lambda * h_{t-1} + gamma * (B x_t)
        lambda = exp(-exp(nu_log) + i exp(theta_log)),   gamma = exp(gamma_log),   B = B_re + i B_im

    Initialisation: ``|lambda|^2`` uniform in ``[r_min^2, r_max^2]``, phase uniform in
    ``[0, max_phase]`` (radians), ``gamma = sqrt(1 - |lambda|^2)``, real and imaginary parts of B
    normal with variance ``1 / (2 H)``. A module forgets over about ``-1 / log|lambda|`` timesteps.

    Any finite parameters are fit to use: beyond ``theta_log = 20``, where neighbouring float32
    angles are turns apart, and ``gamma_log = 40``, near the end of its range, they change nothing.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` complex.
        r_min, r_max: bounds on the initial ``|lambda|``, ``0 <= r_min <= r_max <= 1``.
        max_phase: largest initial phase, radians, positive.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Zucchet et al. (2023), equations B.1-B.4; Orvieto et al. (2023), section 3.
    """

    nu_log: Float[Array, " N"]
    theta_log: Float[Array, " N"]
    gamma_log: Float[Array, " N"]
    B_re: Float[Array, "N H"]
    B_im: Float[Array, "N H"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 6.2832,
        key: PRNGKeyArray,
    ):
        nu, theta = ring(hidden_size, r_min, r_max, max_phase, key=jax.random.fold_in(key, 0))
        self.nu_log = jnp.log(nu)
        self.theta_log = jnp.log(theta)
        self.gamma_log = 0.5 * jnp.log(-jnp.expm1(-2 * nu))  # log sqrt(1 - |lambda|^2)
        self.B_re, self.B_im = complex_weight(in_size, hidden_size, key=jax.random.fold_in(key, 1))

    def project(self) -> Complex[Array, "N H"]:
        return jax.lax.complex(self.B_re, self.B_im)

    def update(self, h: Complex[Array, " N"], u: Complex[Array, " N"]) -> Complex[Array, " N"]:
        nu, theta = capped(self.nu_log, RATE_LOG), capped(self.theta_log, ANGLE_LOG)
        eigenvalue = jnp.exp(jax.lax.complex(-jnp.exp(nu), jnp.exp(theta)))
        return eigenvalue * h + jnp.exp(capped(self.gamma_log, GAIN_LOG)) * u


def ring(
    hidden_size: int, r_min: float, r_max: float, max_phase: float, *, key: PRNGKeyArray
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Draw eigenvalues ``exp(-nu + i theta)`` uniformly on a ring of the complex plane."""
    require(hidden_size >= 1, "hidden_size", "at least 1", hidden_size)
    require(0 <= r_min <= 1, "r_min", "a modulus between 0 and 1", r_min)
    require(r_min <= r_max <= 1, "r_max", f"a modulus between r_min = {r_min} and 1", r_max)
    require(max_phase > 0, "max_phase", "a positive angle in radians", max_phase)
    radius_key, phase_key = jax.random.split(key)
    # The clamp keeps |lambda| off 0 and 1, and the phase off 0: each would reach a log as zero.
    squared = jax.random.uniform(radius_key, (hidden_size,), minval=r_min**2, maxval=r_max**2)
    nu = -0.5 * jnp.log(jnp.clip(squared, 1e-6, 1 - 1e-6))
    theta = max_phase * jnp.clip(jax.random.uniform(phase_key, (hidden_size,)), 1e-6)
    return nu, theta


def complex_weight(
    in_size: int, hidden_size: int, *, key: PRNGKeyArray
) -> tuple[Float[Array, "N H"], Float[Array, "N H"]]:
    """Draw the two parts of a complex input weight, each with variance ``1 / (2 H)``."""
    require(in_size >= 1, "in_size", "at least 1", in_size)
    parts = jax.random.normal(key, (2, hidden_size, in_size)) / jnp.sqrt(2 * in_size)
    return parts[0], parts[1]
