"""Leaky integrate-and-fire neurons behind a synapse that filters their current."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl.cells import _surrogate
from rtrl.cells._base import Cell
from rtrl.cells._exponents import leak
from rtrl.cells._initial import log_uniform, weight
from rtrl.cells._lif import Reset, check_spiking


class CubaLIF(Cell):
    """Current-based leaky integrate-and-fire neurons with surrogate gradients.

    ::

        s_{t-1} = 1 if v_{t-1} > threshold else 0
        i_t = b * i_{t-1} + (1 - b) * (W x_t + bias),              b = exp(-1 / tau_syn)
        v_t = a * v_{t-1} * (1 - s_{t-1}) + (1 - a) * i_t          a = exp(-1 / tau)
        v_t = a * (v_{t-1} - threshold * s_{t-1}) + (1 - a) * i_t  reset by subtraction
        output s_t,   tau = exp(tau_log),   tau_syn = exp(tau_syn_log)

    Two numbers per module: the membrane before its reset, and the synaptic current, both of unit
    gain at rest. Exact under RTRL with respect to the surrogate.

    Initialisation: tau log-uniform in ``[tau_min, tau_max]``, tau_syn in ``[syn_min, syn_max]``
    (timesteps); W normal with variance ``1 / H``; bias zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(v, i)``, each ``(N,)`` real, the output ``(N,)``
            zeros and ones.
        tau_min, tau_max: bounds on the initial time constants of the membrane, timesteps.
        syn_min, syn_max: bounds on those of the current, timesteps.
        threshold: of the membrane, in its units, positive; not learned.
        reset: to ``"zero"``, or ``"subtract"`` the threshold.
        detach_reset: whether the derivative ignores that an earlier spike resets the membrane.
        surrogate: the slope of a spike, a function of ``v - threshold``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, bounds or threshold out of range, an unknown reset.

    Source: the primitive of this name in Pedersen et al., "Neuromorphic intermediate
    representation" (2024), integrated exactly over a timestep: first the current, then the
    membrane.
    """

    tau_log: Float[Array, " N"]
    tau_syn_log: Float[Array, " N"]
    W: Float[Array, "N H"]
    bias: Float[Array, " N"]
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
        syn_min: float = 1.0,
        syn_max: float = 20.0,
        threshold: float = 1.0,
        reset: Reset = "zero",
        detach_reset: bool = False,
        surrogate: _surrogate.Surrogate = _surrogate.fast_sigmoid,
        key: PRNGKeyArray,
    ):
        check_spiking(threshold, reset, surrogate)
        tau_key, syn_key, key = jax.random.split(key, 3)
        self.W = weight(in_size, hidden_size, key=key)
        self.tau_log = log_uniform(tau_min, tau_max, hidden_size, key=tau_key)
        self.tau_syn_log = log_uniform(syn_min, syn_max, hidden_size, key=syn_key, name="syn")
        self.bias = jnp.zeros(hidden_size)
        self.threshold = threshold
        self.reset = reset
        self.detach_reset = detach_reset
        self.surrogate = surrogate

    def project(self) -> Float[Array, "N H"]:
        return self.W

    def initial(self) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        return jnp.zeros_like(self.bias), jnp.zeros_like(self.bias)

    def update(self, h: tuple[Array, Array], u: Float[Array, " N"]) -> tuple[Array, Array]:
        v, i = h
        slope = _surrogate.never if self.detach_reset else self.surrogate
        s = _surrogate.spike(v - self.threshold, slope)
        v = v * (1 - s) if self.reset == "zero" else v - self.threshold * s
        a, b = leak(self.tau_log), leak(self.tau_syn_log)
        i = b * i + (1 - b) * (u + self.bias)
        return a * v + (1 - a) * i, i

    def output(self, h: tuple[Array, Array]) -> Float[Array, " N"]:
        return _surrogate.spike(h[0] - self.threshold, self.surrogate)
