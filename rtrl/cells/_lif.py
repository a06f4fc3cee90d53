"""Leaky integrate-and-fire neurons."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl.cells import _surrogate
from rtrl.cells._base import Cell
from rtrl.cells._exponents import leak
from rtrl.cells._initial import dense_weight, log_uniform, weight
from rtrl.validate import require

Reset = Literal["subtract", "zero"]


class LIF(Cell):
    """Leaky integrate-and-fire neurons with surrogate gradients.

    ::

        s_{t-1} = 1 if v_{t-1} > threshold else 0
        v_t = a * (v_{t-1} - threshold * s_{t-1}) + W x_t + b       reset by subtraction
        v_t = a * v_{t-1} * (1 - s_{t-1}) + W x_t + b               reset to zero
        output s_t,   a = exp(-1 / tau),   tau = exp(tau_log)

    With ``dense=True`` the spikes of all neurons drive each; reset by subtraction::

        v_t = a * (v_{t-1} - threshold * s_{t-1}) + W x_t + U s_{t-1} + b

    The state is the membrane before its reset: it decides the spike, and the next timestep resets
    first. Exact under RTRL with respect to the surrogate: its gradient is that of BPTT with the
    same surrogate.

    Initialisation: tau log-uniform in ``[tau_min, tau_max]`` (timesteps); W normal with variance
    ``1 / H``, U with variance ``1 / N``; b zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real, the output ``(N,)`` zeros and ones.
        tau_min, tau_max: bounds on the initial time constants, timesteps,
            ``0 < tau_min <= tau_max``.
        threshold: of the membrane, in its units, positive; not learned.
        reset: ``"subtract"`` the threshold, or to ``"zero"``.
        detach_reset: whether the derivative ignores that an earlier spike resets the membrane.
        surrogate: the slope of a spike, a function of ``v - threshold``.
        dense: whether neurons see each other's spikes; then RTRL is not exact.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, bounds or threshold out of range, an unknown reset.

    Source: Neftci et al., "Surrogate gradient learning in spiking neural networks" (2019),
    equations 4-5.
    """

    tau_log: Float[Array, " N"]
    W: Float[Array, "N H"]
    U: Float[Array, "N N"] | None
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
        threshold: float = 1.0,
        reset: Reset = "subtract",
        detach_reset: bool = False,
        surrogate: _surrogate.Surrogate = _surrogate.fast_sigmoid,
        dense: bool = False,
        key: PRNGKeyArray,
    ):
        check_spiking(threshold, reset, surrogate)
        tau_key, key = jax.random.split(key)
        self.W = weight(in_size, hidden_size, key=key)
        self.U = dense_weight(hidden_size, key=key) if dense else None
        self.tau_log = log_uniform(tau_min, tau_max, hidden_size, key=tau_key)
        self.b = jnp.zeros(hidden_size)
        self.threshold = threshold
        self.reset = reset
        self.detach_reset = detach_reset
        self.surrogate = surrogate

    def project(self) -> Float[Array, "N H"]:
        return self.W

    def recurrent(self) -> Float[Array, "N N"] | None:
        return self.U

    def update(
        self, h: Float[Array, " N"], u: Float[Array, " N"], *from_others: Float[Array, " N"]
    ) -> Float[Array, " N"]:
        slope = _surrogate.never if self.detach_reset else self.surrogate
        s = _surrogate.spike(h - self.threshold, slope)
        v = h * (1 - s) if self.reset == "zero" else h - self.threshold * s
        return leak(self.tau_log) * v + sum(from_others, start=u) + self.b

    def output(self, h: Float[Array, " N"]) -> Float[Array, " N"]:
        return _surrogate.spike(h - self.threshold, self.surrogate)


class AdaptiveLIF(Cell):
    """Leaky integrate-and-fire neurons whose threshold rises with every spike.

    ::

        s_{t-1} = 1 if v_{t-1} > threshold + beta * a_{t-1} else 0
        v_t = alpha * (v_{t-1} - threshold * s_{t-1}) + W x_t + b   reset by subtraction
        v_t = alpha * v_{t-1} * (1 - s_{t-1}) + W x_t + b           reset to zero
        a_t = rho * a_{t-1} + s_{t-1}
        output s_t,   alpha = exp(-1 / tau),   rho = exp(-1 / tau_a)
        tau = exp(tau_log),   tau_a = exp(tau_a_log)

    With ``dense=True`` the spikes of all neurons drive each; reset by subtraction::

        v_t = alpha * (v_{t-1} - threshold * s_{t-1}) + W x_t + U s_{t-1} + b

    Two numbers per module: the membrane before its reset less ``beta * a``, so that the state alone
    decides the spike, and the adaptation a, a memory of past spikes that outlasts the membrane. The
    paper subtracts the threshold from the decayed membrane; here the reset comes first, as in
    `LIF`.

    Initialisation: tau log-uniform in ``[tau_min, tau_max]``, tau_a in ``[adapt_min, adapt_max]``
    (timesteps); W normal with variance ``1 / H``, U with variance ``1 / N``; b zero; beta 1.8.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(v - beta a, a)``, each ``(N,)`` real, the output
            ``(N,)`` zeros and ones.
        tau_min, tau_max: bounds on the initial time constants of the membrane, timesteps.
        adapt_min, adapt_max: bounds on those of the adaptation, timesteps.
        beta: initial rise of the threshold per spike, in units of the membrane; learned.
        threshold: without adaptation, positive; not learned.
        reset: ``"subtract"`` the threshold without adaptation, or to ``"zero"``.
        detach_reset: whether the derivative ignores that an earlier spike resets the membrane (the
            adaptation keeps its derivative).
        surrogate: the slope of a spike, a function of the membrane less its threshold.
        dense: whether neurons see each other's spikes; then RTRL is not exact.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, bounds or threshold out of range, an unknown reset.

    Source: Bellec et al., "A solution to the learning dilemma for recurrent networks of spiking
    neurons" (2020), equations 6-10 and 23.
    """

    tau_log: Float[Array, " N"]
    tau_a_log: Float[Array, " N"]
    beta: Float[Array, " N"]
    W: Float[Array, "N H"]
    U: Float[Array, "N N"] | None
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
        tau_max: float = 20.0,
        adapt_min: float = 10.0,
        adapt_max: float = 200.0,
        beta: float = 1.8,
        threshold: float = 1.0,
        reset: Reset = "subtract",
        detach_reset: bool = False,
        surrogate: _surrogate.Surrogate = _surrogate.fast_sigmoid,
        dense: bool = False,
        key: PRNGKeyArray,
    ):
        check_spiking(threshold, reset, surrogate)
        tau_key, adapt_key, key = jax.random.split(key, 3)
        self.W = weight(in_size, hidden_size, key=key)
        self.U = dense_weight(hidden_size, key=key) if dense else None
        self.tau_log = log_uniform(tau_min, tau_max, hidden_size, key=tau_key)
        self.tau_a_log = log_uniform(adapt_min, adapt_max, hidden_size, key=adapt_key, name="adapt")
        self.beta = jnp.full(hidden_size, float(beta))
        self.b = jnp.zeros(hidden_size)
        self.threshold = threshold
        self.reset = reset
        self.detach_reset = detach_reset
        self.surrogate = surrogate

    def project(self) -> Float[Array, "N H"]:
        return self.W

    def recurrent(self) -> Float[Array, "N N"] | None:
        return self.U

    def initial(self) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        return jnp.zeros_like(self.beta), jnp.zeros_like(self.beta)

    def update(
        self, h: tuple[Array, Array], u: Float[Array, " N"], *from_others: Float[Array, " N"]
    ) -> tuple[Array, Array]:
        above, a = h
        over, v = above - self.threshold, above + self.beta * a
        s = _surrogate.spike(over, self.surrogate)
        reset = _surrogate.spike(over, _surrogate.never) if self.detach_reset else s
        v = v * (1 - reset) if self.reset == "zero" else v - self.threshold * reset
        alpha, rho = leak(self.tau_log), leak(self.tau_a_log)
        v, a = alpha * v + sum(from_others, start=u) + self.b, rho * a + s
        return v - self.beta * a, a

    def output(self, h: tuple[Array, Array]) -> Float[Array, " N"]:
        return _surrogate.spike(h[0] - self.threshold, self.surrogate)


def check_spiking(threshold: float, reset: str, surrogate: object) -> None:
    require(threshold > 0, "threshold", "a positive number", threshold)
    require(reset in ("subtract", "zero"), "reset", "'subtract' or 'zero'", reset)
    require(callable(surrogate), "surrogate", "a function of v - threshold", surrogate)
