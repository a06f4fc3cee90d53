"""Gates that change sign or rotate with the input, for tracking a state."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._initial import hold, log_uniform, weight
from rtrl.cells._lru import complex_weight
from rtrl.validate import require


class SignedGate(Cell):
    """Linear recurrence whose gate takes both signs: the input may flip the state.

    ::

        h_t = a_t * h_{t-1} + W_v x_t + b_v,   a_t = tanh(W_a x_t + b_a)

    A gate of -1 where the input is one, and 1 where it is zero, computes parity, which no positive
    gate can hold over long sequences.

    Initialisation: ``|tanh(b_a)| = exp(-1 / tau)``, tau log-uniform in ``[tau_min, tau_max]``
    (timesteps), the signs random; weights normal with variance ``1 / H``; b_v zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        tau_min, tau_max: bounds on the initial time constants, timesteps,
            ``0 < tau_min <= tau_max``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: the diagonal recurrences of Grazzi et al., "Unlocking state-tracking in linear RNNs
    through negative eigenvalues" (2024), section 4.
    """

    W_a: Float[Array, "N H"]
    b_a: Float[Array, " N"]
    W_v: Float[Array, "N H"]
    b_v: Float[Array, " N"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        tau_min: float = 1.0,
        tau_max: float = 100.0,
        key: PRNGKeyArray,
    ):
        a_key, v_key, tau_key, sign_key = jax.random.split(key, 4)
        self.W_a = weight(in_size, hidden_size, key=a_key)
        self.W_v = weight(in_size, hidden_size, key=v_key)
        tau_log = log_uniform(tau_min, tau_max, hidden_size, key=tau_key)
        sign = jax.random.rademacher(sign_key, (hidden_size,), tau_log.dtype)
        self.b_a = sign * jnp.arctanh(jnp.exp(-jnp.exp(-tau_log)))
        self.b_v = jnp.zeros(hidden_size)

    def project(self) -> tuple[Float[Array, "N H"], Float[Array, "N H"]]:
        return self.W_a, self.W_v

    def update(self, h: Float[Array, " N"], u: tuple[Array, Array]) -> Float[Array, " N"]:
        return jnp.tanh(u[0] + self.b_a) * h + u[1] + self.b_v


class ComplexGate(Cell):
    """Linear recurrence whose gate is complex: the input decides how far the state turns.

    ::

        h_t = a_t * h_{t-1} + B x_t + b
        a_t = sigmoid(W_r x_t + b_r) exp(i (W_phi x_t + b_phi))
        B = B_re + i B_im,   b = b_re + i b_im

    ``|a_t| < 1``, its angle is free: a turn of ``2 pi k / m`` for the symbol k adds modulo m.

    Initialisation: ``sigmoid(b_r) = exp(-1 / tau)``, tau log-uniform in ``[tau_min, tau_max]``
    (timesteps); b_phi uniform in ``[0, max_phase]``; W_r, W_phi normal with variance ``1 / H``,
    real and imaginary parts of B with ``1 / (2 H)``; b zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` complex.
        tau_min, tau_max: bounds on the initial time constants, timesteps,
            ``0 < tau_min <= tau_max``.
        max_phase: largest initial angle at zero input, radians, positive.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: ours, after the complex diagonal recurrences of Grazzi et al. (2024), section 4.
    """

    W_r: Float[Array, "N H"]
    b_r: Float[Array, " N"]
    W_phi: Float[Array, "N H"]
    b_phi: Float[Array, " N"]
    B_re: Float[Array, "N H"]
    B_im: Float[Array, "N H"]
    b_re: Float[Array, " N"]
    b_im: Float[Array, " N"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        tau_min: float = 1.0,
        tau_max: float = 100.0,
        max_phase: float = 2 * math.pi,
        key: PRNGKeyArray,
    ):
        require(max_phase > 0, "max_phase", "a positive angle in radians", max_phase)
        r_key, phi_key, b_key, tau_key, phase_key = jax.random.split(key, 5)
        self.W_r = weight(in_size, hidden_size, key=r_key)
        self.W_phi = weight(in_size, hidden_size, key=phi_key)
        self.B_re, self.B_im = complex_weight(in_size, hidden_size, key=b_key)
        self.b_r = hold(log_uniform(tau_min, tau_max, hidden_size, key=tau_key))
        self.b_phi = jax.random.uniform(phase_key, (hidden_size,), maxval=max_phase)
        self.b_re, self.b_im = jnp.zeros((2, hidden_size))

    def project(self) -> tuple[Float[Array, "N H"], Float[Array, "N H"], Complex[Array, "N H"]]:
        return self.W_r, self.W_phi, jax.lax.complex(self.B_re, self.B_im)

    def initial(self) -> Complex[Array, " N"]:
        return jax.lax.complex(jnp.zeros_like(self.b_r), jnp.zeros_like(self.b_r))

    def update(self, h: Complex[Array, " N"], u: tuple[Array, ...]) -> Complex[Array, " N"]:
        r, phi = jax.nn.sigmoid(u[0] + self.b_r), u[1] + self.b_phi
        a = jax.lax.complex(r * jnp.cos(phi), r * jnp.sin(phi))
        return a * h + u[2] + jax.lax.complex(self.b_re, self.b_im)
