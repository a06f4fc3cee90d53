"""The real-gated linear recurrent unit."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._exponents import decay, log_softplus, normaliser
from rtrl.cells._initial import weight
from rtrl.validate import require

SHARPNESS = 8.0  # the paper's c


class RGLRU(Cell):
    """Real-gated linear recurrent unit, the recurrence of Hawk and Griffin.

    ::

        r_t = sigmoid(W_r x_t + b_r),   i_t = sigmoid(W_i x_t + b_i)
        a_t = a^(8 r_t),   a = sigmoid(Lambda)
        h_t = a_t * h_{t-1} + sqrt(1 - a_t^2) * (i_t * (W x_t))

    The paper gates ``x_t`` itself, an affine map of the layer's input after a short convolution;
    here the gates see the input of the layer, W is that map, and there is no convolution.

    Initialisation: ``a^8`` uniform in ``[a_min, a_max]``; weights normal with variance ``1 / H``;
    biases zero. At ``r_t = 1/2`` a module forgets over about ``-2 / log(a^8)`` timesteps.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` real.
        a_min, a_max: bounds on the initial ``a^8``, ``0 < a_min <= a_max < 1``.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: De et al., "Griffin: mixing gated linear recurrences with local attention" (2024),
    equations 1-4 and section 2.4.
    """

    Lambda: Float[Array, " N"]
    W_r: Float[Array, "N H"]
    b_r: Float[Array, " N"]
    W_i: Float[Array, "N H"]
    b_i: Float[Array, " N"]
    W: Float[Array, "N H"]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        *,
        a_min: float = 0.9,
        a_max: float = 0.999,
        key: PRNGKeyArray,
    ):
        require(0 < a_min < 1, "a_min", "a decay in (0, 1)", a_min)
        require(a_min <= a_max < 1, "a_max", f"a decay in [a_min = {a_min}, 1)", a_max)
        a_key, r_key, i_key, key = jax.random.split(key, 4)
        self.W_r = weight(in_size, hidden_size, key=r_key)
        self.W_i = weight(in_size, hidden_size, key=i_key)
        self.W = weight(in_size, hidden_size, key=key)
        a = jax.random.uniform(a_key, (hidden_size,), minval=a_min, maxval=a_max) ** (1 / SHARPNESS)
        self.Lambda = jnp.log(a / (1 - a))
        self.b_r, self.b_i = jnp.zeros((2, hidden_size))

    def project(self) -> tuple[Float[Array, "N H"], ...]:
        return self.W_r, self.W_i, self.W

    def update(self, h: Float[Array, " N"], u: tuple[Array, ...]) -> Float[Array, " N"]:
        # a_t = exp(-rate) by the logarithm of the rate, 8 r_t softplus(-Lambda): it stays finite
        # where r_t or the softplus vanishes, and sqrt(1 - a_t^2) has a derivative by it.
        rate_log = jax.nn.log_sigmoid(u[0] + self.b_r) + log_softplus(-self.Lambda)
        rate_log = rate_log + math.log(SHARPNESS)
        i = jax.nn.sigmoid(u[1] + self.b_i)
        return decay(rate_log) * h + normaliser(rate_log) * (i * u[2])
