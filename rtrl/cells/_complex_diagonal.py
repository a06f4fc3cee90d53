"""A plain diagonal complex linear recurrence."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from rtrl.cells._base import Cell
from rtrl.cells._lru import complex_weight, ring


class ComplexDiagonal(Cell):
    """Diagonal complex linear recurrence, its eigenvalues stored as they are.

    ::

        h_t = lambda * h_{t-1} + B x_t,   lambda = lambda_re + i lambda_im

    No parametrisation keeps ``|lambda| < 1`` and no gain normalises the state: the baseline that
    shows what the `LRU`'s parametrisation buys. Initialised like the `LRU`. ``B = B_re + i B_im``.

    Args:
        in_size: H, features of the input.
        hidden_size: N, modules; the state is ``(N,)`` complex.
        r_min, r_max: bounds on the initial ``|lambda|``, ``0 <= r_min <= r_max <= 1``.
        max_phase: largest initial phase, radians, positive.
        key: PRNG key of the initialisation.

    Raises:
        ValueError: a size below 1, or bounds out of range.

    Source: Orvieto et al., "Resurrecting recurrent neural networks for long sequences" (2023),
    section 3.2, before the exponential parametrisation.
    """

    lambda_re: Float[Array, " N"]
    lambda_im: Float[Array, " N"]
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
        self.lambda_re = jnp.exp(-nu) * jnp.cos(theta)
        self.lambda_im = jnp.exp(-nu) * jnp.sin(theta)
        self.B_re, self.B_im = complex_weight(in_size, hidden_size, key=jax.random.fold_in(key, 1))

    def project(self) -> Complex[Array, "N H"]:
        return jax.lax.complex(self.B_re, self.B_im)

    def update(self, h: Complex[Array, " N"], u: Complex[Array, " N"]) -> Complex[Array, " N"]:
        return jax.lax.complex(self.lambda_re, self.lambda_im) * h + u
