"""The hierarchically gated recurrent network."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._initial import weight
from rtrl.validate import require


class HGRN(Cell):
    """HGRN: complex states whose forget gate stays above a lower bound.

    ::

        lambda_t = gamma + (1 - gamma) sigmoid(W_mu x_t + b_mu)
        c_t = silu(W_re x_t + b_re) + i silu(W_im x_t + b_im)
        h_t = lambda_t exp(i theta) * h_{t-1} + (1 - lambda_t) * c_t

    The lower bound gamma is a number of the layer: give upper layers larger ones, so that they hold
    longer (the paper learns them, monotone over its layers: a parameter shared between cells, which
    a cell cannot have). The output gate and the normalisation after it belong to the readout.

    Initialisation: theta of module n is ``10000^(-n/N)`` radians per timestep, as in rotary
    position codes; weights normal with variance ``1 / H``; biases zero.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` complex.
        lower_bound: gamma, ``0 <= gamma < 1``; a module forgets over at least ``-1 / log gamma``
            timesteps.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or a bound out of range.

    Source: Qin et al., "Hierarchically gated recurrent neural network for sequence modeling"
    (2023), section 3.
    """

    theta: Float[Array, " N"]
    W_mu: Float[Array, "N H"]
    b_mu: Float[Array, " N"]
    W_re: Float[Array, "N H"]
    b_re: Float[Array, " N"]
    W_im: Float[Array, "N H"]
    b_im: Float[Array, " N"]
    lower_bound: float = eqx.field(static=True)

    def __init__(
        self, in_size: int, hidden_size: int, *, lower_bound: float = 0.0, key: PRNGKeyArray
    ):
        require(0 <= lower_bound < 1, "lower_bound", "a decay in [0, 1)", lower_bound)
        mu_key, re_key, im_key = jax.random.split(key, 3)
        self.W_mu = weight(in_size, hidden_size, key=mu_key)
        self.W_re = weight(in_size, hidden_size, key=re_key)
        self.W_im = weight(in_size, hidden_size, key=im_key)
        self.b_mu, self.b_re, self.b_im = jnp.zeros((3, hidden_size))
        self.theta = jnp.exp(-math.log(1e4) / hidden_size * jnp.arange(float(hidden_size)))
        self.lower_bound = lower_bound

    def project(self) -> tuple[Float[Array, "N H"], ...]:
        return self.W_mu, self.W_re, self.W_im

    def initial(self) -> Complex[Array, " N"]:
        return jax.lax.complex(jnp.zeros_like(self.theta), jnp.zeros_like(self.theta))

    def update(self, h: Complex[Array, " N"], u: tuple[Array, ...]) -> Complex[Array, " N"]:
        mu = jax.nn.sigmoid(u[0] + self.b_mu)
        forget = self.lower_bound + (1 - self.lower_bound) * mu
        rotation = jax.lax.complex(jnp.cos(self.theta), jnp.sin(self.theta))
        c = jax.lax.complex(jax.nn.silu(u[1] + self.b_re), jax.nn.silu(u[2] + self.b_im))
        return forget * rotation * h + (1 - forget) * c
