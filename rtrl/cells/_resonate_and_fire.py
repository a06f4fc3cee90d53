"""Resonate-and-fire neurons."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl.cells import _surrogate
from rtrl.cells._base import Cell
from rtrl.cells._exponents import leak
from rtrl.cells._initial import log_uniform, weight
from rtrl.cells._lif import Reset, check_spiking
from rtrl.validate import require


class ResonateAndFire(Cell):
    """Resonate-and-fire neurons: damped oscillators that spike, tuned to a rhythm of their input.

    ::

        s_{t-1} = 1 if y_{t-1} > threshold else 0
        (x', y') = (x_{t-1}, y_{t-1} - threshold * s_{t-1})         reset by subtraction
        (x', y') = (1 - s_{t-1}) * (x_{t-1}, y_{t-1})               reset to zero
        x_t = a (cos(omega) x' - sin(omega) y') + W input_t + b
        y_t = a (sin(omega) x' + cos(omega) y')
        output s_t,   a = exp(-1 / tau),   tau = exp(tau_log)

    Two real numbers per module: the current-like x and the voltage-like y, before its reset. The
    oscillation ``z' = (-1/tau + i omega) z`` is integrated exactly over a timestep; an input
    current is a kick to x. The paper resets z to i at a spike, where it is; here y is lowered or
    both are cleared.

    Initialisation: tau log-uniform in ``[tau_min, tau_max]`` (timesteps); omega uniform in
    ``[0, max_omega]`` (radians per timestep); W normal with variance ``1 / H``; b zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(x, y)``, each ``(N,)`` real, the output ``(N,)``
            zeros and ones.
        tau_min, tau_max: bounds on the initial time constants, timesteps,
            ``0 < tau_min <= tau_max``.
        max_omega: largest initial frequency, radians per timestep, positive.
        threshold: of y, positive; not learned.
        reset: ``"subtract"`` the threshold from y, or x and y to ``"zero"``.
        detach_reset: whether the derivative ignores that an earlier spike resets the state.
        surrogate: the slope of a spike, a function of ``y - threshold``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, bounds or threshold out of range, an unknown reset.

    Source: Izhikevich, "Resonate-and-fire neurons" (2001), equations 1-3.
    """

    tau_log: Float[Array, " N"]
    omega: Float[Array, " N"]
    W: Float[Array, "N H"]
    b: Float[Array, " N"]
    threshold: float = eqx.field(static=True)
    reset: Reset = eqx.field(static=True)
    detach_reset: bool = eqx.field(static=True)
    surrogate: _surrogate.Surrogate = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        tau_min: float = 1.0,
        tau_max: float = 100.0,
        max_omega: float = math.pi / 2,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        detach_reset: bool = False,
        surrogate: _surrogate.Surrogate = _surrogate.fast_sigmoid,
        key: PRNGKeyArray,
    ):
        check_spiking(threshold, reset, surrogate)
        require(max_omega > 0, "max_omega", "a positive frequency", max_omega)
        tau_key, omega_key, key = jax.random.split(key, 3)
        self.W = weight(in_size, hidden_size, key=key)
        self.tau_log = log_uniform(tau_min, tau_max, hidden_size, key=tau_key)
        self.omega = jax.random.uniform(omega_key, (hidden_size,), maxval=max_omega)
        self.b = jnp.zeros(hidden_size)
        self.threshold = threshold
        self.reset = reset
        self.detach_reset = detach_reset
        self.surrogate = surrogate

    def project(self) -> Float[Array, "N H"]:
        return self.W

    def initial(self) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        return jnp.zeros_like(self.omega), jnp.zeros_like(self.omega)

    def update(self, h: tuple[Array, Array], u: Float[Array, " N"]) -> tuple[Array, Array]:
        x, y = h
        slope = _surrogate.never if self.detach_reset else self.surrogate
        s = _surrogate.spike(y - self.threshold, slope)
        if self.reset == "zero":
            x, y = x * (1 - s), y * (1 - s)
        else:
            y = y - self.threshold * s
        a = leak(self.tau_log)
        cos, sin = a * jnp.cos(self.omega), a * jnp.sin(self.omega)
        return cos * x - sin * y + u + self.b, sin * x + cos * y

    def output(self, h: tuple[Array, Array]) -> Float[Array, " N"]:
        return _surrogate.spike(h[1] - self.threshold, self.surrogate)
